"""What convolutional networks spend their training on, with backward passes of its own.

kernels  The passes over every value around a layer's products, compiled: `fill_taps`, `rectify`, `pool_pairs`, ...
layer    The residual part of a dilated layer: `rectified_convolution`, `add_mixed`
windows  Windows of a sequence, and convolutions within them that are pooled: `side_by_side`, `pooled_convolution`
"""
