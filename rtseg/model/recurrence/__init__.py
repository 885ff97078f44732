"""Recurrent layers over whole sequences, written for training, where most of its time goes.

gru_autograd  The gated recurrent unit as one differentiable function: `gru`
gru_kernels   Its frames forwards and backwards, compiled: `forward`, `backward`
"""
