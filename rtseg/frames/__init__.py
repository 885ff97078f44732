"""One camera frame: animals and keypoints, the one validation at the boundary, other frame rates.

frame       One frame of keypoints, and the ONE validation at the boundary
resampling  Frames of a camera that runs at another rate than the model
skeleton    Which animals and keypoints a model speaks of, and how a source's points are matched to them
"""
