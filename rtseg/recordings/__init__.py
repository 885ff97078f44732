"""Readers and writers of recordings and labels; a table of contents that imports nothing.

recording       Recording, Labels, IGNORE: what every reader returns; `clean`, the rule for missing points
bouts           bouts <-> frames
open            read_recording, read_recordings, read_labels: the reader is chosen here
poses_dlc       DeepLabCut CSV            poses_dlc_h5    DeepLabCut HDF5
poses_sleap     SLEAP analysis .h5, .slp  poses_csv       plain CSV
calms21         CalMS21's JSON, read and written one sequence at a time
labels          what the label readers share
labels_caltech  Caltech Behavior Annotator
labels_boris    BORIS events              labels_csv      plain CSV, CalMS21's label list
dataset         the dataset file: recordings, heads, split (toml_table, heads, sources are its parts)
text            encodings and line ends
"""
