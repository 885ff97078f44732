"""A user's experiment from one file: `rtseg run EXPERIMENT.toml` starts everything, ends it, and keeps it in a folder.

cameras         Who is expected, who is there, and what is wrong with them: `CameraWatch`
check           Every sink of a trigger file tried on this machine, without an animal: `check_sinks`
check_page      What came of it, as a page: `check_page_of`
daemon_process  The daemon as a child that never outlives the session: `DaemonProcess`
finish          From a session's recording to its logs and its page, also after a crash: `finish_session`
replayed        A recording, or simulated mice, in a camera's place: `ReplayedCamera`
run             A session from its beginning to its end: `run_session`
session_folder  The folder of a session and what it says of itself: `SessionFolder`, `load_experiment`
summary         What happened in a session, in numbers: `Summary`, `summarise`
summary_page    The same as a page: `page_of`
timeline        Pulses over time, as an SVG: `timeline_svg`
"""
