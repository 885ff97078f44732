"""From a frame to an answer: the only way, live and offline.

abstention   Which heads are not sure enough of a frame: `thresholds`, `judge`
annotate     Recordings into files: `annotate`
classifier   What a user puts into their own loop: `load`, `Classifier`
decoding     From probabilities to bouts: `Decoder`, its state and its compiled step
gap_rule     Which frames are stepped for one that came: `GapRule`; what a stream has seen: `Counters`
lookahead    Which frame an answer is about, and how many of its points were missing: `PendingFrames`, `DelayedCounts`
model_slots  All that a bundle computes and remembers for the slots of an engine: `ModelSlots`
predictions  `Prediction`, `PredictionBatch`, a table and its files: `Predictions`, and flags: `Quality`
recording_run  A whole recording through a slot, by the gap rule, in chunks: `RecordingRun`
session      One stream: `Session`; all streams of a model, stepped in one batch: `SessionPool`
snapshots    A session's snapshot as bytes: `pack_snapshot`, `unpack_snapshot`
stages       One compiled call before the network and one after it: `Stages`
"""
