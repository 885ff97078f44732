"""Tables with a row per frame or per step of time, and a column of labels per track.

frame_table  tracks_of_frame_table: such a table as tracks; is_frame_header: whether a row is its header
columns      label_columns: the columns that hold labels, by their names and values
time_steps   rows_by_time: the row of every frame, where a column counts time
"""
