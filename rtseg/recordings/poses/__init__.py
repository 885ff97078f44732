"""Readers of pose files, one file per format; `rtseg.recordings.open` chooses among them.

layout     layout_of: which column of a table is which point of which animal
pose_file  PoseReader: the contract of a reader; read_points: the one rule of what a missing point looks like
dlc        read_dlc_csv: DeepLabCut's CSV, one animal or many
dlc_h5     read_dlc_h5: DeepLabCut's HDF5, as plain arrays and without unpickling
sleap      read_sleap_analysis: SLEAP's analysis .h5
slp        read_slp: SLEAP's .slp, project or predictions
jabs       read_jabs: JABS' pose .h5
nwb        read_nwb: NWB with ndx-pose
movement   read_movement: movement's netCDF
timed      recording_from_series: poses with times rather than frame numbers
tables     plain tables, whose columns' names say what they are, and SLEAP's CSV
mcap       read_mcap: what `rtseg serve --record` wrote
"""
