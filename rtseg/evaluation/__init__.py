"""Scores, intervals and calibration, from answers given by the Session that serves; no torch.

bootstrap         Intervals of scores, of one system and of two compared: `bootstrap`, `paired_bootstrap`
breakdown         Where a head errs: `confusion`, `boundary_errors`, `by_missing_points`, `abstention`
calibrate         Calibration of a bundle on recordings that training never saw: `calibrate_bundle`, `read_logits`
ethogram          Bouts as bars over time, drawn: `draw_ethogram`
evaluate          Scores of a bundle on a dataset: `evaluate`, `compare_bundles`, `predict_split`
fold_answers      Out-of-fold answers in the place of a bundle's that has learnt from all: `read_fold_answers`
logit_scaling     Temperature and vector scaling of a head's logits: `Scaling`, `fit_scaling`
metrics           Frame, segmental and onset scores of predictions against labels: `score_head`, `group_scores`
out_of_fold       A system's out-of-fold answers as one file, held to its data set: `OutOfFold`, `check_out_of_fold`
reliability       Calibration error, log loss, Brier score and reliability bins: `calibration_scores`, `ReliabilityBins`
reliability_plot  The reliability diagram, drawn: `draw_reliability`
"""
