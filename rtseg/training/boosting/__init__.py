"""Gradient-boosted trees on window statistics.

rounds         Stretches of training recordings that choose the number of rounds: `time_folds`
trees          Boosting one set of trees per head: `train_trees`, `TrainedTrees`
window_table   Recordings to rows of window statistics: `WindowTable`, `window_statistics`
xgboost_trees  XGBoost's trees as a bundle has them, held to what XGBoost answers: `trees_of`, `check_same`
"""
