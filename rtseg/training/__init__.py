"""From recordings and labels to a bundle.

answers          What a trained system said about one recording, in a file
augment          Changes to training keypoints that do not change what the animals do, each a switch (paper, III.B
boosting         Gradient-boosted trees (XGBoost) on window statistics
checkpoint       Checkpoints of a training run
crops            Training recordings in memory, and random crops of them as batches of features and labels
export           From a recipe to a bundle
fit              Every system behind one function
future_pose      An auxiliary task
loop             The training loop
losses           The multitask loss
members          Cells that are trained apart and put side by side
memory           How much memory a piece of work takes at its peak, from the operating system's own mark
teacher          Soft labels for distillation
window_features  Statistics of features over windows
"""
