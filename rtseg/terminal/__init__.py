"""Output for people: tables and progress. Only words and layout; what is shown was computed elsewhere.

annotations    What becomes of recordings that are annotated: `show_outcomes`
check_table    What a dataset holds and what speaks against it: `print_report`
daemon_status  A running daemon's status and its keys: `print_status`, `print_keys`
doctor         What this machine has for serving, and its engine: `examine_machine`, `print_findings`
file_report    What a file holds: `print_file_report`
layout         What all output has in common: `plain_console`, `result_table`
plan_table     The plans that `rtseg build` made: `print_plans`
progress       Progress bars on stderr: `counting`, `reading`, `training`, `comparing`
project_table  What `rtseg init` proposes: `print_project`
questions      Questions to a person: `TerminalAsker`
tables         Scores, comparisons, latencies and live answers: `print_scores`, `print_latency`, `watch`
trigger_table  Triggers tried, tuned, and their sinks checked: `print_trials`, `print_tuned`, `print_check`
"""
