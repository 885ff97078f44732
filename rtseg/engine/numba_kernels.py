"""One fused step of the multitask TCN over ring buffers, compiled for the CPU.

`advance` steps N rows in order, each in its slot; a batch of streams and a whole recording are the same call, hence the
same machine code. Weights lie with the inputs of one output side by side, so that an output is one dot product. Only
these dot products may be reassociated and contracted; a NaN in a feature is replaced before it gets there.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]


class Weights(NamedTuple):
    """A network's weights as the kernel reads them; L trunk layers, H heads, R head layers, kernel K.

    scaler: (3, F) fill, shift, scale. inputs: (C, F). conv: (L, C, K*C). mix: (L, C, C). first: (P, C). enter: (H*G, C)
    from the trunk. enter_probs: (P, G) from each head's own first probabilities. head_conv: (H, R, G, K*G). head_mix:
    (H, R, G, G). leave: (P, G). biases: in the order used, see `layout`. calibration: (2, P) scale, shift.
    """

    scaler: F32
    inputs: F32
    conv: F32
    mix: F32
    first: F32
    enter: F32
    enter_probs: F32
    head_conv: F32
    head_mix: F32
    leave: F32
    calibration: F32
    input_bias: F32
    conv_bias: F32
    mix_bias: F32
    first_bias: F32
    enter_bias: F32
    head_conv_bias: F32
    head_mix_bias: F32
    leave_bias: F32


class Layout(NamedTuple):
    """dilations: (L + R,) of trunk and head layers. rings: (L + R,) where each layer's ring begins in a slot's memory.

    offsets: (H + 1,) where each head's outputs begin. clip: (1,) of the scaled features.
    """

    dilations: I64
    rings: I64
    offsets: I64
    clip: F32


class Memory(NamedTuple):
    """What the slots remember, and scratch. rings: (S, ring floats). frames: (S,) steps since the reset.

    scratch: one row of floats; nothing in it outlives a step.
    """

    rings: F32
    frames: I64
    scratch: F32


@njit(cache=True, fastmath={"reassoc", "contract", "nsz"}, error_model="numpy")
def _product(weight: F32, bias: F32, x: F32, y: F32) -> None:
    """y (O,) = weight (O, I) @ x (I,) + bias (O,); eight outputs at a time keep eight sums in registers."""
    n_out, n_in = weight.shape
    o = 0
    while o + 8 <= n_out:
        s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = np.float32(0.0)
        for i in range(n_in):
            v = x[i]
            s0 += weight[o, i] * v
            s1 += weight[o + 1, i] * v
            s2 += weight[o + 2, i] * v
            s3 += weight[o + 3, i] * v
            s4 += weight[o + 4, i] * v
            s5 += weight[o + 5, i] * v
            s6 += weight[o + 6, i] * v
            s7 += weight[o + 7, i] * v
        y[o] = s0 + bias[o]
        y[o + 1] = s1 + bias[o + 1]
        y[o + 2] = s2 + bias[o + 2]
        y[o + 3] = s3 + bias[o + 3]
        y[o + 4] = s4 + bias[o + 4]
        y[o + 5] = s5 + bias[o + 5]
        y[o + 6] = s6 + bias[o + 6]
        y[o + 7] = s7 + bias[o + 7]
        o += 8
    while o < n_out:
        s0 = np.float32(0.0)
        for i in range(n_in):
            s0 += weight[o, i] * x[i]
        y[o] = s0 + bias[o]
        o += 1


@njit(cache=True, error_model="numpy")
def _softmax(logits: F32, out: F32) -> None:
    top = logits[0]
    for i in range(1, len(logits)):
        top = max(top, logits[i])
    total = np.float32(0.0)
    for i in range(len(logits)):
        out[i] = math.exp(logits[i] - top)
        total += out[i]
    for i in range(len(logits)):
        out[i] /= total


@njit(cache=True, error_model="numpy")
def _taps(ring: F32, frame: int, dilation: int, x: F32, taps: F32) -> None:
    """Put x (C,) into a layer's ring and gather its taps, oldest first, into taps (K*C,)."""
    channels = len(x)
    kernel = len(taps) // channels
    depth = (kernel - 1) * dilation + 1
    now = frame % depth
    ring[now * channels : (now + 1) * channels] = x
    for tap in range(kernel):
        back = (now + 1 + tap * dilation) % depth  # tap 0: the oldest, one past the newest
        if tap == kernel - 1:
            back = now
        taps[tap * channels : (tap + 1) * channels] = ring[back * channels : (back + 1) * channels]


@njit(cache=True, error_model="numpy")
def _scale(features: F32, scaler: F32, clip: float, z: F32) -> None:
    for f in range(len(features)):
        value = features[f]
        if math.isnan(value):
            value = scaler[0, f]
        z[f] = min(max((value - scaler[1, f]) * scaler[2, f], -clip), clip)


@njit(cache=True, error_model="numpy")
def advance(features: F32, slots: NDArray[np.int32], w: Weights, layout: Layout, memory: Memory, out: F32) -> None:
    """features (N, F) raw, slots (N,) -> out (N, P) probabilities; the slots' memory moves on in place."""
    n_features, channels, layers = w.inputs.shape[1], w.inputs.shape[0], w.conv.shape[0]
    head_layers, width = w.head_conv.shape[1], w.head_conv.shape[2]
    n_heads, n_outputs = len(layout.offsets) - 1, w.first.shape[0]
    kernel = w.conv.shape[2] // channels
    # Scratch: z (F) | h (C) | taps (K*C) | y (C) | mixed (C) | first logits (P) | first probabilities (P) | entered
    # (H*G)
    z = memory.scratch[:n_features]
    rest = memory.scratch[n_features:]
    h, rest = rest[:channels], rest[channels:]
    taps, rest = rest[: kernel * channels], rest[kernel * channels :]
    y, rest = rest[:channels], rest[channels:]
    mixed, rest = rest[:channels], rest[channels:]
    logits, rest = rest[:n_outputs], rest[n_outputs:]
    probabilities, rest = rest[:n_outputs], rest[n_outputs:]
    entered = rest[: n_heads * width]
    for n in range(len(slots)):
        slot = slots[n]
        frame = memory.frames[slot]
        rings = memory.rings[slot]
        _scale(features[n], w.scaler, layout.clip[0], z)
        _product(w.inputs, w.input_bias, z, h)
        for layer in range(layers):
            _taps(rings[layout.rings[layer] :], frame, layout.dilations[layer], h, taps)
            _product(w.conv[layer], w.conv_bias[layer], taps, y)
            for c in range(channels):
                y[c] = max(y[c], np.float32(0.0))
            _product(w.mix[layer], w.mix_bias[layer], y, mixed)
            for c in range(channels):
                h[c] += mixed[c]
        _product(w.first, w.first_bias, h, logits)
        _product(w.enter, w.enter_bias, h, entered)
        for head in range(n_heads):
            lo, hi = layout.offsets[head], layout.offsets[head + 1]
            r = entered[head * width : (head + 1) * width]
            _softmax(logits[lo:hi], probabilities[lo:hi])
            for p in range(lo, hi):
                for g in range(width):
                    r[g] += w.enter_probs[p, g] * probabilities[p]
            for layer in range(head_layers):
                dilation = layout.dilations[layers + layer]
                depth = (kernel - 1) * dilation + 1
                ring = rings[layout.rings[layers + layer] + head * depth * width :]
                _taps(ring, frame, dilation, r, taps[: kernel * width])
                _product(w.head_conv[head, layer], w.head_conv_bias[head, layer], taps[: kernel * width], y[:width])
                for g in range(width):
                    y[g] = max(y[g], np.float32(0.0))
                _product(w.head_mix[head, layer], w.head_mix_bias[head, layer], y[:width], mixed[:width])
                for g in range(width):
                    r[g] += mixed[g]
            _product(w.leave[lo:hi], w.leave_bias[lo:hi], r, probabilities[lo:hi])
            for p in range(lo, hi):
                logits[p] = (logits[p] + probabilities[p]) * w.calibration[0, p] + w.calibration[1, p]
            _softmax(logits[lo:hi], out[n, lo:hi])
        memory.frames[slot] = frame + 1
