"""Readers of pose files, one file per format; `rtseg.recordings.open` chooses among them.

pose_file  PoseReader: the contract of a reader; read_points: the one rule of what a missing point looks like
dlc        read_dlc_csv: DeepLabCut's CSV, one animal or many
dlc_h5     read_dlc_h5: DeepLabCut's HDF5, as plain arrays and without unpickling
sleap      read_sleap_analysis: SLEAP's analysis .h5
slp        read_slp: SLEAP's .slp, project or predictions
jabs       read_jabs: JABS' pose .h5
nwb        read_nwb: NWB with ndx-pose
movement   read_movement: movement's netCDF
timed      recording_from_series: poses with times rather than frame numbers
csv        read_poses_csv: plain CSV, for trackers whose own format is not read here, and SLEAP's CSV
mcap       read_mcap: what `rtseg serve --record` wrote
"""
