"""One fused step of the multitask TCN over ring buffers, compiled for the CPU.

`advance` steps N rows in order, each in its slot; a batch of streams and a whole recording are the same call, hence the
same machine code. All weights lie on one tape in the order in which a step reads them, the inputs of one output side by
side, so that an output is one dot product. Only these dot products may be reassociated and contracted; a NaN in a
feature is replaced before it gets there. Few plain arguments: 29 arrays in tuples cost a call 6 µs, these 0.7.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

LINE = 16
"""Floats in a cache line; everything on the tape begins at a multiple of it."""


@njit(cache=True)
def padded(n: int) -> int:
    """n floats, rounded up to whole cache lines."""
    return (n + LINE - 1) // LINE * LINE


@njit(cache=True, fastmath={"reassoc", "contract", "nsz"}, error_model="numpy")
def _product(tape: F32, at: int, x: F32, y: F32) -> int:
    """y (O,) = weight (O, I) @ x (I,) + bias (O,), bias and weight at `at` on the tape; where the next thing lies.

    Four outputs at a time keep four sums in registers and read x once for them.
    """
    n_out, n_in = len(y), np.uintp(len(x))  # unsigned: no test for an index that counts from the end
    bias = np.uintp(at)
    row = np.uintp(at + padded(n_out))
    o = 0
    while o + 4 <= n_out:
        row1 = row + n_in
        row2 = row1 + n_in
        row3 = row2 + n_in
        s0 = s1 = s2 = s3 = np.float32(0.0)
        for i in range(n_in):
            v = x[i]
            s0 += tape[row + i] * v
            s1 += tape[row1 + i] * v
            s2 += tape[row2 + i] * v
            s3 += tape[row3 + i] * v
        y[o] = s0 + tape[bias]
        y[o + 1] = s1 + tape[bias + np.uintp(1)]
        y[o + 2] = s2 + tape[bias + np.uintp(2)]
        y[o + 3] = s3 + tape[bias + np.uintp(3)]
        o += 4
        row = row3 + n_in
        bias += np.uintp(4)
    while o < n_out:
        s0 = np.float32(0.0)
        for i in range(n_in):
            s0 += tape[row + i] * x[i]
        y[o] = s0 + tape[bias]
        o += 1
        row += n_in
        bias += np.uintp(1)
    return at + padded(n_out) + padded(n_out * len(x))


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
def _residual(tape: F32, at: int, ring: F32, frame: int, dilation: int, x: F32, taps: F32, y: F32) -> int:
    """x (C,) += mix(relu(conv(x))), through a layer's ring (depth, C); taps (K*C,) and y (2*C,) are scratch."""
    depth, channels = ring.shape
    kernel = len(taps) // channels
    now = frame % depth
    window = taps.reshape(kernel, channels)
    for c in range(channels):
        ring[now, c] = x[c]
    back = now
    # Tap 0 is the oldest: one past the newest in a ring that is (kernel - 1) * dilation + 1 deep.
    for tap in range(kernel):
        back += 1 if tap == 0 else dilation
        if back >= depth:
            back -= depth
        for c in range(channels):
            window[tap, c] = ring[back, c]
    hidden, mixed = y[:channels], y[channels:]
    at = _product(tape, at, taps, hidden)
    for c in range(channels):
        hidden[c] = max(hidden[c], np.float32(0.0))
    at = _product(tape, at, hidden, mixed)
    for c in range(channels):
        x[c] += mixed[c]
    return at


@njit(cache=True, error_model="numpy")
def _scale(tape: F32, at: int, features: F32, z: F32) -> int:
    """Raw features (F,) to scaled and clipped ones; on the tape: fill, shift, scale, clip."""
    n = len(features)
    step = padded(n)
    fill, shift = tape[at : at + n], tape[at + step : at + step + n]
    scale, clip = tape[at + 2 * step : at + 2 * step + n], tape[at + 3 * step]
    for f in range(n):
        value = features[f]
        if math.isnan(value):
            value = fill[f]
        z[f] = min(max((value - shift[f]) * scale[f], -clip), clip)
    return at + 3 * step + LINE


@njit(cache=True, error_model="numpy")
def advance(features: F32, slots: NDArray[np.int32], tape: F32, sizes: I64, memory: F32, frames: I64, out: F32) -> None:
    """features (N, F) raw, slots (N,) -> out (N, P) probabilities; the slots' memory and frame counts move on in place.

    sizes: C, G, K, L, R, H, then L + R dilations, then H + 1 offsets of the heads' outputs. memory: (S, floats), a
    slot's rings in the order of the layers (per head in the refinement), then scratch that does not outlive a step.
    """
    channels, width, kernel, layers, head_layers, n_heads = sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5]
    dilations, offsets = sizes[6 : 6 + layers + head_layers], sizes[6 + layers + head_layers :]
    n_features, n_outputs = features.shape[1], out.shape[1]
    n_scratch = n_features + (kernel + 3) * max(channels, width) + 2 * n_outputs + n_heads * width
    for n in range(len(slots)):
        slot = slots[n]
        frame, mine = frames[slot], memory[slot]
        scratch = mine[len(mine) - n_scratch :]
        # Scratch: z (F) | h (C) | logits (P) | entered (H*G) | probabilities (P) | taps (K*C) | y (2*C)
        z, rest = scratch[:n_features], scratch[n_features:]
        h, rest = rest[:channels], rest[channels:]
        from_trunk = rest[: n_outputs + n_heads * width]
        logits, entered = from_trunk[:n_outputs], from_trunk[n_outputs:]
        rest = rest[len(from_trunk) :]
        probabilities, rest = rest[:n_outputs], rest[n_outputs:]
        taps, y = rest[: kernel * channels], rest[kernel * channels : (kernel + 2) * channels]
        at = _scale(tape, 0, features[n], z)
        at = _product(tape, at, z, h)
        ring_at = 0
        for layer in range(layers):
            size = ((kernel - 1) * dilations[layer] + 1) * channels
            ring = mine[ring_at : ring_at + size].reshape(-1, channels)
            at = _residual(tape, at, ring, frame, dilations[layer], h, taps, y)
            ring_at += size
        at = _product(tape, at, h, from_trunk)
        taps, y = rest[: kernel * width], rest[kernel * width : (kernel + 2) * width]
        for head in range(n_heads):
            lo, hi = offsets[head], offsets[head + 1]
            r, p = entered[head * width : (head + 1) * width], probabilities[lo:hi]
            _softmax(logits[lo:hi], p)
            weight = tape[at : at + (hi - lo) * width].reshape(-1, width)
            for c in range(hi - lo):
                for g in range(width):
                    r[g] += weight[c, g] * p[c]
            at += padded((hi - lo) * width)
            for layer in range(layers, layers + head_layers):
                size = ((kernel - 1) * dilations[layer] + 1) * width
                ring = mine[ring_at : ring_at + size].reshape(-1, width)
                at = _residual(tape, at, ring, frame, dilations[layer], r, taps, y)
                ring_at += size
            at = _product(tape, at, r, p)
            step = padded(hi - lo)
            for c in range(hi - lo):
                logits[lo + c] = (logits[lo + c] + p[c]) * tape[at + c] + tape[at + step + c]
            at += 2 * step
            _softmax(logits[lo:hi], out[n, lo:hi])
        frames[slot] = frame + 1
