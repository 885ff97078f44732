"""From a folder of files to a project: a dataset file and a recipe, proposed, asked about, and written (`rtseg init`).

behaviours  Label tracks into heads, and what frames without a label mean: `summarize_tracks`, `propose_unlabelled`
body        Skeleton and arena from the poses: `propose_body`, `mirror_pairs`, `is_point_per_animal`
files       Which files hold poses and which hold labels: `find_files`, `FoundFiles`
initialize  `rtseg init` without a screen: `initialize_project`
network     Features, sizes and length of training of a first model: `propose_sizes`
pairing     Which label file belongs to which pose file, and path patterns: `pair_files`, `patterns_of`
proposal    The whole: `propose_project`, `Project`
questions   Who decides what files leave open: `Asker`, `Wishes`
reading     Reads poses, frame rate and labels of all pairs: `read_project`
split       What is trained on and what is held out: `propose_split`
write       Both files as text with comments: `write_project`
"""
