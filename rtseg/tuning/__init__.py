"""Thresholds of triggers for a stated rate of false starts or a stated delay: `rtseg trigger tune`.

choose   Which setting a goal takes, cross-fitted by video, with intervals: `Goal`, `tune`
edit     The chosen numbers in a copy of the trigger file: `tuned_text`
picture  False starts against hits and delay: `draw_curve`
report   A whole tuning, from recordings to files: `run_tuning`
sweep    Every setting tried on every recording: `Example`, `candidates`, `sweep`
"""
