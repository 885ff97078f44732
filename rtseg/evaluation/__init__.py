"""Scores, intervals and calibration, from answers given by the Session that serves; no torch.

bootstrap         How sure a score is
breakdown         Where a head is right and where it errs
calibrate         Calibration of a bundle's probabilities on recordings that training never saw, measured out of fold
ethogram          The ethogram
evaluate          Scores of a bundle on a dataset, through the Session that serves
logit_scaling     Scaling of a head's logits that makes its probabilities calibrated
metrics           Scores of predictions against labels
reliability       Whether probabilities can be taken at their word
reliability_plot  The reliability diagram
"""
