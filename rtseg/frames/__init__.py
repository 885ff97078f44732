"""Frames of keypoints, and the one validation at the boundary.

frame        One frame: `Frame`, `checked_frame`, `missing_frame`; its compiled checks
frozen       A tracker that repeats one frame for ever: `flag_frozen`, compiled, and what it remembers
gaps         Missing frames that are filled, and restarts: `is_filled`, `stretches_of`
pose_arrays  A frame as trackers give it into keypoints and confidence: `split_pose`
resampling   Frames of a camera at another rate into the model's: `Resampler`
same_frames  Recordings that share frames, whatever they are called: `window_hashes`, `shared_frames`
scale        Which numbers of px for a mm can be meant (`is_px_per_mm`), and how long animals are: `body_length`
skeleton     Animals and keypoints, and matching a source's names to a model's: `Skeleton`, `match_names`, `MICE7`
"""
