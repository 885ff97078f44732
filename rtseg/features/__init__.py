"""From keypoints to features: one causal step, the same live and offline.

body_size   How large training's animals appear: `BodySize`
drift       Whether live features are like training's: `RangeCheck`, `check_ranges`
extractor   State in, features out: `FeatureExtractor`
groups      The feature groups, compiled; the only place where a feature is computed
identity    Whether a tracker has mixed up two animals: `IdentityState` and its compiled step
kernels     The compiled step of N frames: `advance`
ranges      What training's features reached: `FeatureRanges`, `fit_ranges`
relink      Which animal is which: the rule that `kernels` and `identity` follow
scale       How large animals appear beside training: `SizeMeter`, `measure`, `fit_body_size`
slot_state  One slot's part of a state as bytes, and back: `slot_bytes`, `load_slot`, `set_slot`
spec        Which features a model sees, their names and units: `FeatureSpec`, `GROUPS`
tables      The arrays of a step, what to compute and what is remembered: `FeaturePlan`, `Memory`
"""
