"""The networks in torch, offline form: what is trained, and what engines are checked against.

attention        Attention of each frame to the frames near it, in blocks, so that memory grows with the length
base             The contract that every network keeps
conv1d           The 1D convolutional baseline (paper, IV.A and Table I
convolution      Convolutions over sequences (B, T, C), causal or symmetric, zero before the first frame and after
fully_connected  The fully connected baseline (paper, IV.A
gru              A network of gated recurrent units
lstm             The LSTM baseline (paper, IV.A)
ms_tcn           The multi-stage TCN for one task (paper, IV.C)
recurrence       A gated recurrent unit over whole sequences, its backward pass written by hand
recurrent        Recurrent networks
select           The one place that knows which network a recipe asks for
self_attention   The self-attention baseline (paper, IV.A)
tcn              The multitask network in torch
transformer      The Transformer with refining decoders (paper, IV.B), after ASFormer (Yi et al
"""
