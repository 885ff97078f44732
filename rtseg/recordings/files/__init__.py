"""What readers of every format need before they know what a file means.

probe             FileProbe: what a file shows of itself, by which its reader is chosen
text              read_text, read_lines: text files in the encodings and line ends that labs have
delimited         read_delimited, plain_lines, NumberStyle: tables with any delimiter, quotes and decimal commas
column_names      counts_frames, time_unit, is_rate: what columns of tables are called
workbook          read_sheets: Excel's workbooks, a table for each sheet
matlab            read_matlab: MATLAB's .mat of every version as plain values
hdf5              open_hdf5, readable_array: HDF5 with errors that name the file, and compression that h5py lacks
unread_formats    why_unread_kind, why_unread_text: what known programs write that is not read, and the way out
reading_warnings  ReadingWarning: what a reader tolerated, counted; WarningLog: those of many files in few lines
"""
