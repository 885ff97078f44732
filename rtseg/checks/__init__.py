"""What a dataset is good for, found before anything is trained: counts, and what they say against training.

`rtseg check` shows all of it; `rtseg train` and the studies run the same list of checks and refuse what is an error.

check     From a dataset or a recipe file to its report: `check_dataset`, `check_recipe`, `DatasetReport`
findings  The list of checks, and what each finds: `find_problems`, `require_trainable`, `Finding`
summary   Frames, bouts, masked frames and seen points of a recording: `summarize_item`, `DatasetSummary`
"""
