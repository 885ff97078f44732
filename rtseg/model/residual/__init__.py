"""The residual part of a dilated layer, written for training, where a convolutional network spends its time.

kernels  The passes over every value around its products, compiled: `fill_taps`, `rectify`, `add_scaled`, ...
layer    What networks call: `rectified_convolution`, `add_mixed`
"""
