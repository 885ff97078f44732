"""The networks in torch, over whole sequences: what is trained, and what engines are checked against.

attention        Attention of each frame to the frames near it, computed in blocks: `LocalAttention`
base             The contract that every network keeps: `SequenceModel`, `LinearHeadsModel`, `Stage`
conv1d           The 1D convolutional baseline (paper, IV.A and Table I): `Conv1D`
convolution      Dilated convolutions over sequences, causal or symmetric: `DilatedConv`, `residual_convolution`
fully_connected  The fully connected baseline (paper, IV.A): `FullyConnected`
ms_tcn           The multi-stage TCN for one task (paper, IV.C): `MultiStageTCN`
recurrent        Stacks of LSTM or GRU layers (paper, IV.A): `LSTM`, `GRU`
select           Which network a recipe asks for: `make_model`, `network_spec`, `NETWORKS`
recurrence       The gated recurrent unit of all networks here, with a backward pass of its own: `gru`
residual         Convolutions and what stands around them, with their own backward passes: `layer`, `windows`
self_attention   The self-attention baseline (paper, IV.A): `SelfAttention`
tcn              The multitask network that bundles hold (paper, IV.C and IV.D): `MultitaskTCN`
transformer      The Transformer with refining decoders (paper, IV.B): `Transformer`
"""
