"""Readers of pose files.

csv     Plain CSV of poses, for trackers whose own format is not read here
dlc     DeepLabCut's CSV, one animal or many, and what its CSV and its HDF5 (poses_dlc_h5) have in common
dlc_h5  DeepLabCut's HDF5, read as plain arrays with h5py
mcap    Reads the frames of a recording that `rtseg serve --record` wrote
sleap   SLEAP's exports
"""
