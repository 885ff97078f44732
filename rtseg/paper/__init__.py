"""`rtseg paper`: every system of the paper trained on the same recordings, its Tables I to V beside its own figures.

data      What `--data` names, as recordings in memory with the paper's tasks: `PaperData`, `open_data`
official  A folder with CalMS21's official files as a dataset: `find_official`, `dataset_toml`
plan      The rows of the tables and the trainings that they need: `plan`, `Training`, `TableRow`, `Options`
report    The figures of every row, from the runs of all seeds: `rows_with_figures`, `compare_claims`
run       The whole of `rtseg paper`: `run_paper`, `compare_systems`
run_one   One training in a process of its own, so that its time and memory can be measured: `python -m`
search    Learning rate and weight decay of every system, chosen beforehand: `candidates`, `choose`, `with_choice`
runs      Trainings one after the other, each in its own process, those with a result skipped: `train_all`, `Run`
sight     How far into the future a system sees, according to its recipe: `future_frames`
systems   The paper's tables, and every system in them with figures and settings: `TABLES`, `SYSTEMS`
tables    The report on the screen and as Markdown: `print_report`, `markdown`
timing    Time per frame of all systems, measured in turns in one process: `time_systems`
"""
