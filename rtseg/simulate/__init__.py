"""Two simulated mice in CalMS21's arena: for the demo, for tests, for load. Every output says *simulated*.

A table of contents that imports nothing; the order is that of the data's way.

behaviour   draw_labels: the behaviour of each frame, a semi-Markov process with CalMS21's statistics
plan        draw_plan: the action of each animal in each frame (Action, Plan)
body        simulate_motion: two bodies that act out a plan (Motion: the true keypoints)
tracker     track_points: what a pose estimator makes of them (Tracks: noise, occlusion, swaps, scores)
annotators  label_task1, label_task2, label_task3: simulated human annotators with habits of their own
tasks       simulate_sequence, simulate_group: recordings with the labels of CalMS21's three tasks, in memory
files       simulate_dataset: JSON files and the dataset file, on disk
"""
