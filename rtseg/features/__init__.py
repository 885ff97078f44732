"""From keypoints to features: one causal step, the same live and offline.

drift      Whether live features look like training's
extractor  State in, features out
identity   Whether a tracker has mixed up two animals from one frame to the next
kernels    One causal feature step, compiled
ranges     What training's features reached
relink     Which animal is which
spec       Which features a model sees
"""
