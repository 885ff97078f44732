"""What is shown in a terminal: tables and progress.

daemon_status  What the commands show of a running daemon and of its keys
doctor         What this machine has for serving, which engine `auto` would choose here and why, and what would
plan_table     What `rtseg build` shows
progress       Progress bars of the long commands (rich), on stderr, so that stdout stays a command's result
tables         What the commands show
"""
