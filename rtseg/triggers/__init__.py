"""Behaviour triggers: when a line goes on and off, decided frame by frame, the same live and in a replay.

arms     Which events are controls, settled before they are known: `arm_names`, `arm_of`
conditions  What a trigger watches: `condition_arrays`, `watched_values`
cuts     What ends events between two frames, and what is remembered beyond a stop: `cut_event`, `pack_memory`
events   What was decided, event by event, and its log: `TriggerEvent`, `events_of`, `write_events`
picture  A trial as a picture: `draw_trial`
plan     Triggers as numbers: `trigger_numbers`
report   Many recordings tried, with logs, pictures and scores: `run_trials`
rule     The rule, compiled: `TriggerRule`, `WITHHELD`, `ENDED`
rows     The rule for the rows of a live batch, in one compiled call: `DecisionRows`
trial    What triggers would have done, beside labels: `try_triggers`, `score_trial`, `load_triggers`
yoked    What one animal was given, for another: `with_yoked_events`
"""
