"""From recordings and labels to a trained system, and to a bundle.

augment      Changes of training keypoints (paper, III.B and III.E): `augment`, `interpolate`, `mirrored`
boosting     Gradient-boosted trees on window statistics (a room): `train_trees`, `TrainedTrees`
checkpoint   A run's state on disk, so that a killed run resumes: `save_checkpoint`, `load_checkpoint`
crops        Random crops as batches, copies that balance the tasks, the scaler: `CropSampler`, `Batch`, `fit_scaler`
ensemble     Recurrent cells trained separately and combined into one network: `train_network`, `combine_cells`
export       From a recipe file to a bundle: `train_bundle`
fit          Every kind of system behind one function: `fit`, `FittedSystem`
future_pose  An auxiliary loss, the pose half a second ahead: `FuturePose`
loop         The training loop of one network: `train`, `TrainedNetwork`
losses       The loss over heads, stages and tasks: `MultitaskLoss`, `class_weights`
selection    What a checkpoint is chosen by: `predict_probabilities`, `score_groups`, `selection_score`
task         What a training is given: `TrainingTask`, `Example`, `read_training`
"""
