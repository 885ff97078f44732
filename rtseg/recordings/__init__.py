"""Readers and writers of recordings and labels; a table of contents that imports nothing.

bouts           Bouts and frames
calms21         CalMS21's official JSON (Sun et al
calms21_counts  How many sequences, frames and labels CalMS21's official files hold, so that a copy can be told
dataset         The dataset file (TOML)
heads           From the label tracks of a file to the heads of a model
labels          Readers of frame labels
open            One door for files of poses and of labels
poses           Readers of pose files
recording       A recording in memory
sources         Where a dataset's recordings come from
text            Text files as labs have them
toml_table      One table of a dataset file, read strictly
"""
