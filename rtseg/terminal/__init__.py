"""Output for people: tables and progress. Only words and layout; what is shown was computed elsewhere.

annotations    What becomes of recordings that are annotated: `show_outcomes`
check_table    What a dataset holds and what speaks against it: `print_report`
daemon_status  A running daemon's status and its keys: `print_status`, `print_keys`
doctor         What this machine has for serving, and its engine: `examine_machine`, `print_findings`
plan_table     The plans that `rtseg build` made: `print_plans`
progress       Progress bars on stderr: `counting`, `reading`, `training`, `comparing`
tables         Scores, comparisons, latencies and live answers: `print_scores`, `print_latency`, `watch`
trigger_table  What triggers would have done: `print_trials`
"""
