"""Frames of keypoints, and the one validation at the boundary.

frame       One frame: `Frame`, `checked_frame`, `missing_frame`; its compiled checks
gaps        Missing frames that are filled, and restarts: `is_filled`, `stretches_of`
resampling  Frames of a camera at another rate into the model's: `Resampler`
skeleton    Animals and keypoints, and matching a source's names to a model's: `Skeleton`, `match_names`, `MICE7`
"""
