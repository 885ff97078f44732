"""Recordings and their labels: readers, and the dataset file that brings both together.

A table of contents that imports nothing.

open            read_recordings, read_recording, read_labels: any file of a known format
dataset         load_dataset: the dataset file (TOML), which recordings and labels belong together (Dataset)
pairs           PairSource, Part: pose files beside label files, whole or in parts
sources         Item, Calms21Source: where a dataset's recordings come from
heads           Head, HeadRule, apply_rules: from the label tracks of a file to the heads of a model
recording       Recording, Labels, IGNORE: keypoints of consecutive frames, and frame labels beside them
naming          NameMap: a file's names for animals and keypoints as a model calls them; natural_order
bouts           Bout, bouts_of, frames_of: the same labels as stretches and as frames
poses           readers of pose files, one file per format
labels          readers of label files, one file per format
calms21         read_calms21, write_calms21: CalMS21's JSON, which holds poses and labels; calms21_file_name
calms21_counts  count, differences: whether a copy of CalMS21's files is complete
toml_table      Table: one table of a dataset file, read strictly
files           what readers of every format need: text, tables, HDF5, and warnings
"""
