"""`rtseg paper`: every system of the paper trained on the same recordings, its Tables I to V beside its own figures.

data      What `--data` means
official  A folder with CalMS21's official files as a dataset
plan      From systems to rows and trainings
report    Runs of all seeds to the figures of every row
run       The whole of `rtseg paper`
run_one   One training in a process of its own, so that its time and memory are its own
runs      Trainings one after the other, each in its own process, each skipped where its result is there already
sight     How far into the future a system looks, said by its recipe
systems   The paper's tables, and every system that stands in them with its figures and settings
tables    The report on the screen and as Markdown
timing    How long systems take for a frame, measured in one process in turns, so that whatever else runs meets
"""
