"""What one file of poses or labels holds, and what looks odd about it (`rtseg inspect`).

files    Any file, poses or labels: `inspect_files`, `FileReport`
labels   Tracks, behaviours, bouts: `examine_labels`, `TrackReport`
picture  Tracks, likelihoods and bouts over time, drawn: `draw_file`
poses    Missing points, likelihood, body length, jumps: `examine_poses`, `PoseReport`
"""
