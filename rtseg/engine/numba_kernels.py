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
def _recall(rings: F32, frame: int, kernel: int, dilations: I64, widths: tuple[int, int], windows: F32) -> None:
    """All older taps of all layers of one block into their windows, before any is needed.

    rings: per layer (depth, H*G). windows: per layer and head (K, G), oldest tap first, the last row left alone.
    widths: (H, G). A stream that was not stepped lately lies in no cache: these reads do not wait for one another, as
    they would if each layer fetched its own.
    """
    n_heads, width = np.uintp(widths[0]), np.uintp(widths[1])
    row, taps = n_heads * width, np.uintp(kernel)
    ring_at = window_at = np.uintp(0)
    for layer in range(len(dilations)):
        dilation = np.uintp(dilations[layer])
        depth = (taps - np.uintp(1)) * dilation + np.uintp(1)
        back = np.uintp(frame) % depth
        for tap in range(taps - np.uintp(1)):
            back += np.uintp(1) if tap == 0 else dilation  # the oldest lies one past the newest
            if back >= depth:
                back -= depth
            start = ring_at + back * row
            for head in range(n_heads):
                to = window_at + (head * taps + tap) * width
                for c in range(width):
                    windows[to + c] = rings[start + c]
                start += width
        ring_at += depth * row
        window_at += taps * row


@njit(cache=True, error_model="numpy")
def _residual(tape: F32, at: int, now: F32, x: F32, window: F32, y: F32) -> int:
    """x (C,) += mix(relu(conv(window))) after x went into its ring row `now` (C,) and the window's last (K*C,).

    y (2*C,) is scratch.
    """
    channels = np.uintp(len(x))
    last = np.uintp(len(window)) - channels
    for c in range(channels):
        now[c] = window[last + c] = x[c]
    hidden, mixed = y[:channels], y[channels:]
    at = _product(tape, at, window, hidden)
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
def advance(
    features: F32,
    slots: NDArray[np.int32],
    tape: F32,
    sizes: I64,
    memory: F32,
    frames: I64,
    scratch: F32,
    out: F32,
) -> None:
    """features (N, F) raw, slots (N,) -> out (N, P) probabilities; the slots' memory and frame counts move on in place.

    sizes: C, G, K, L, R, H, then L + R dilations, then H + 1 offsets of the heads' outputs. memory: (S, floats), a
    slot's rings: per trunk layer (depth, C), then per head layer (depth, H*G). scratch: nothing in it outlives a row.
    """
    channels, width, kernel, layers, head_layers, n_heads = sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5]
    dilations, head_dilations = sizes[6 : 6 + layers], sizes[6 + layers : 6 + layers + head_layers]
    offsets = sizes[6 + layers + head_layers :]
    n_features, n_outputs = features.shape[1], out.shape[1]
    row = n_heads * width
    trunk_floats = 0
    for dilation in dilations:
        trunk_floats += ((kernel - 1) * dilation + 1) * channels
    # Scratch: z (F) | h (C) | logits (P) | entered (H*G) | probabilities (P) | windows | y (2*C or 2*G)
    z, rest = scratch[:n_features], scratch[n_features:]
    h, rest = rest[:channels], rest[channels:]
    from_trunk, rest = rest[: n_outputs + row], rest[n_outputs + row :]
    logits, entered = from_trunk[:n_outputs], from_trunk[n_outputs:]
    probabilities, rest = rest[:n_outputs], rest[n_outputs:]
    windows, rest = rest[: layers * kernel * channels], rest[layers * kernel * channels :]
    head_windows, y = rest[: head_layers * kernel * row], rest[head_layers * kernel * row :]
    for n in range(len(slots)):
        slot = slots[n]
        frame = frames[slot]
        rings, head_rings = memory[slot, :trunk_floats], memory[slot, trunk_floats:]
        _recall(rings, frame, kernel, dilations, (1, channels), windows)
        _recall(head_rings, frame, kernel, head_dilations, (n_heads, width), head_windows)
        at = _scale(tape, 0, features[n], z)
        at = _product(tape, at, z, h)
        ring_at = 0
        for layer in range(layers):
            depth = (kernel - 1) * dilations[layer] + 1
            start = ring_at + frame % depth * channels
            window = windows[layer * kernel * channels : (layer + 1) * kernel * channels]
            at = _residual(tape, at, rings[start : start + channels], h, window, y[: 2 * channels])
            ring_at += depth * channels
        at = _product(tape, at, h, from_trunk)
        for head in range(n_heads):
            lo, hi = offsets[head], offsets[head + 1]
            r, p = entered[head * width : (head + 1) * width], probabilities[lo:hi]
            _softmax(logits[lo:hi], p)
            weight = tape[at : at + (hi - lo) * width].reshape(-1, width)
            for c in range(hi - lo):
                for g in range(width):
                    r[g] += weight[c, g] * p[c]
            at += padded((hi - lo) * width)
            ring_at = head * width
            for layer in range(head_layers):
                depth = (kernel - 1) * head_dilations[layer] + 1
                start = ring_at + frame % depth * row
                window_at = (layer * n_heads + head) * kernel * width
                window = head_windows[window_at : window_at + kernel * width]
                at = _residual(tape, at, head_rings[start : start + width], r, window, y[: 2 * width])
                ring_at += depth * row
            at = _product(tape, at, r, p)
            step = padded(hi - lo)
            for c in range(hi - lo):
                logits[lo + c] = (logits[lo + c] + p[c]) * tape[at + c] + tape[at + step + c]
            at += 2 * step
            _softmax(logits[lo:hi], out[n, lo:hi])
        frames[slot] = frame + 1
