"""One fused step of the multitask network over ring buffers, compiled for the CPU.

`advance` steps N rows in order, each in its slot; a batch of streams and a whole recording are the same call, hence the
same machine code. All weights lie on one tape in the order in which a step reads them, the inputs of one output side by
side, so that an output is one dot product. Only these dot products may be reassociated and contracted; a NaN in a
feature is replaced before it gets there. Few plain arguments: 29 arrays in tuples cost a call 6 µs, these 0.7.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
Place = int | np.unsignedinteger[Any]

LINE = 16
"""Floats in a cache line; everything on the tape begins at a multiple of it."""


@njit(cache=True)
def padded(n: Place) -> Place:
    """n floats, rounded up to whole cache lines.

    Places are unsigned throughout: a signed index may count from the end, and asking whether it does keeps a compiler
    from vectorising.
    """
    return (np.uintp(n) + np.uintp(LINE - 1)) // np.uintp(LINE) * np.uintp(LINE)


@njit(cache=True, fastmath={"reassoc", "contract", "nsz"}, error_model="numpy")
def _product(tape: F32, at: Place, s: F32, x: Place, n_in: Place, y: Place, n_out: Place) -> Place:
    """s[y:] (O,) = weight (O, I) @ s[x:] (I,) + bias (O,), bias and weight at `at` on the tape; where the tape goes on.

    Four outputs at a time keep four sums in registers and read x once for them.
    """
    one, four, last = np.uintp(1), np.uintp(4), np.uintp(n_out)
    bias, row = np.uintp(at), np.uintp(at) + padded(n_out)
    o = np.uintp(0)
    while o + four <= last:
        row1 = row + n_in
        row2 = row1 + n_in
        row3 = row2 + n_in
        s0 = s1 = s2 = s3 = np.float32(0.0)
        for i in range(n_in):
            v = s[x + i]
            s0 += tape[row + i] * v
            s1 += tape[row1 + i] * v
            s2 += tape[row2 + i] * v
            s3 += tape[row3 + i] * v
        to = y + o
        s[to] = s0 + tape[bias]
        s[to + one] = s1 + tape[bias + one]
        s[to + one + one] = s2 + tape[bias + one + one]
        s[to + one + one + one] = s3 + tape[bias + one + one + one]
        o += four
        row = row3 + n_in
        bias += four
    while o < last:
        s0 = np.float32(0.0)
        for i in range(n_in):
            s0 += tape[row + i] * s[x + i]
        s[y + o] = s0 + tape[bias]
        o += one
        row += n_in
        bias += one
    return np.uintp(at) + padded(n_out) + padded(n_out * n_in)


@njit(cache=True, error_model="numpy")
def _softmax(s: F32, logits: Place, n: Place, out: F32, to: Place) -> None:
    """s[logits:] (n,) to probabilities in out[to:]."""
    top = s[logits]
    for i in range(n):
        top = max(top, s[logits + i])
    total = np.float32(0.0)
    for i in range(n):
        out[to + i] = math.exp(s[logits + i] - top)
        total += out[to + i]
    for i in range(n):
        out[to + i] /= total


@njit(cache=True, error_model="numpy")
def _recall(
    rings: F32, at: Place, frame: Place, kernel: Place, dilations: I64, widths: tuple[Place, Place], s: F32, to: Place
) -> Place:
    """All older taps of all layers of one block into their windows, before any is needed; where its rings end.

    rings[at:]: per layer (depth, H*G). s[to:], the windows: per layer and head (K, G), oldest tap first, the last row
    left alone. widths: (H, G). A stream that was not stepped lately lies in no cache: these reads do not wait for one
    another, as they would if each layer fetched its own.
    """
    n_heads, width = widths
    one, row = np.uintp(1), n_heads * width
    for layer in range(len(dilations)):
        dilation = np.uintp(dilations[layer])
        depth = (kernel - one) * dilation + one
        back = frame % depth
        for tap in range(kernel - one):
            back += one if tap == 0 else dilation  # the oldest lies one past the newest
            if back >= depth:
                back -= depth
            start = at + back * row
            for head in range(n_heads):
                window = to + (head * kernel + tap) * width
                for c in range(width):
                    s[window + c] = rings[start + c]
                start += width
        at += depth * row
        to += kernel * row
    return at


@njit(cache=True, error_model="numpy")
def _remember(rings: F32, now: Place, s: F32, x: Place, newest: Place, channels: Place) -> None:
    """s[x:] (C,) into its ring's row of this frame and into its window's newest tap."""
    for c in range(channels):
        rings[now + c] = s[newest + c] = s[x + c]


@njit(cache=True, error_model="numpy")
def _residual(tape: F32, at: Place, s: F32, x: Place, window: Place, taps: Place, y: Place, channels: Place) -> Place:
    """s[x:] (C,) += mix(relu(conv(s[window:] (taps,)))); s[y:] (2*C,) is scratch."""
    at = _product(tape, at, s, window, taps, y, channels)
    for c in range(channels):
        s[y + c] = max(s[y + c], np.float32(0.0))
    at = _product(tape, at, s, y, channels, y + channels, channels)
    for c in range(channels):
        s[x + c] += s[y + channels + c]
    return at


@njit(cache=True, error_model="numpy")
def _sigmoid(x: Any) -> Any:
    return np.float32(1.0) / (np.float32(1.0) + np.exp(-x))


@njit(cache=True, error_model="numpy")
def _encode(tape: F32, at: Place, s: F32, z: Place, views: I64, code: Place, width: Place, to: Place) -> Place:
    """relu(encode(view(s[z:]))) over all views: the mean, and the maximum less it, into s[to:] (2E,).

    Without views the one code (E,).

    views: (V, F) columns from 1, negative where the sign turns. s[code:]: scratch, one view (F,) and one code (E,).
    """
    n_features, n_views = np.uintp(views.shape[1]), np.uintp(views.shape[0])
    if n_views == 0:
        at = _product(tape, at, s, z, n_features, to, width)
        for e in range(width):
            s[to + e] = max(s[to + e], np.float32(0.0))
        return at
    view = code
    code = view + n_features
    share = np.float32(1.0 / n_views)
    after = at
    for v in range(n_views):
        for f in range(n_features):
            column = views[v, f]
            value = s[z + np.uintp(abs(column) - 1)]
            s[view + f] = value if column > 0 else -value
        after = _product(tape, at, s, view, n_features, code, width)
        for e in range(width):
            value = max(s[code + e], np.float32(0.0))
            s[to + e] = value * share if v == 0 else s[to + e] + value * share
            s[to + width + e] = value if v == 0 else max(s[to + width + e], value)
    for e in range(width):
        s[to + width + e] -= s[to + e]
    return after


@njit(cache=True, error_model="numpy")
def _gru(tape: F32, at: Place, s: F32, entering: Place, state: Place, scratch: Place, n: Place, width: Place) -> Place:
    """s[state:] (R,), what a cell was a period ago, to what it is now; s[entering:] (width,), s[scratch:] (6R,)."""
    given, kept = scratch, scratch + n + n + n
    at = _product(tape, at, s, entering, width, given, n + n + n)
    at = _product(tape, at, s, state, n, kept, n + n + n)
    for i in range(n):
        reset = _sigmoid(s[given + i] + s[kept + i])
        update = _sigmoid(s[given + n + i] + s[kept + n + i])
        new = np.tanh(s[given + n + n + i] + reset * s[kept + n + n + i])
        s[state + i] = (np.float32(1.0) - update) * new + update * s[state + i]
    return at


@njit(cache=True, error_model="numpy")
def _scale(tape: F32, features: F32, s: F32) -> Place:
    """Raw features (F,) to scaled and clipped ones in s[0:]; the tape begins with fill, shift, scale, clip."""
    n = np.uintp(len(features))
    shift = padded(n)
    scale = shift + shift
    clip = tape[scale + shift]
    for f in range(n):
        value = features[f]
        if math.isnan(value):
            value = tape[f]
        s[f] = min(max((value - tape[shift + f]) * tape[scale + f], -clip), clip)
    return scale + shift + np.uintp(LINE)


@njit(cache=True, error_model="numpy")
def advance(
    features: F32,
    slots: NDArray[np.int32],
    tape: F32,
    sizes: I64,
    memory: F32,
    frames: I64,
    s: F32,
    out: F32,
) -> None:
    """features (N, F) raw, slots (N,) -> out (N, P) probabilities; the slots' memory and frame counts move on in place.

    sizes: C, G, K, L, R, H, Q cells, V views, then L + R dilations, H + 1 offsets of the heads' outputs, Q times
    (encoder, hidden, period), and V * F columns. memory: (S, floats), a slot's rings: per trunk layer (depth, C), per
    head layer (depth, H*G), per cell (period, hidden). s: scratch; nothing in it outlives a row. Everything in it is
    named by its place: a slice would cost as much as a small product.
    """
    channels, width, kernel = np.uintp(sizes[0]), np.uintp(sizes[1]), np.uintp(sizes[2])
    layers, head_layers, n_heads = np.uintp(sizes[3]), np.uintp(sizes[4]), np.uintp(sizes[5])
    n_cells, n_views = sizes[6], sizes[7]
    dilations, head_dilations = sizes[8 : 8 + sizes[3]], sizes[8 + sizes[3] : 8 + sizes[3] + sizes[4]]
    offsets = sizes[8 + sizes[3] + sizes[4] :]
    cells = offsets[sizes[5] + 1 :]
    views = cells[3 * n_cells :].reshape((n_views, features.shape[1]))
    n_features, n_outputs = np.uintp(features.shape[1]), np.uintp(out.shape[1])
    one, row = np.uintp(1), n_heads * width
    hidden = channels
    for cell in range(n_cells):
        hidden += np.uintp(cells[3 * cell + 1])
    # Scratch: scaled features (F) | h (D) | logits (P) | entered (H*G) | probabilities (P) | windows
    #          | y: (2*C), (2*G), or a cell's: entering (2E), then view (F), code (E), or gates (6R)
    h = n_features
    logits = h + hidden
    entered = logits + n_outputs
    probabilities = entered + row
    windows = probabilities + n_outputs
    head_windows = windows + layers * kernel * channels
    y = head_windows + head_layers * kernel * row
    for n in range(len(slots)):
        slot = slots[n]
        frame, rings, answer = np.uintp(frames[slot]), memory[slot], out[n]
        trunk_end = _recall(rings, np.uintp(0), frame, kernel, dilations, (one, channels), s, windows)
        heads_end = _recall(rings, trunk_end, frame, kernel, head_dilations, (n_heads, width), s, head_windows)
        ring, state = heads_end, h + channels
        for cell in range(n_cells):
            size, period = np.uintp(cells[3 * cell + 1]), np.uintp(cells[3 * cell + 2])
            for i in range(size):
                s[state + i] = rings[ring + frame % period * size + i]
            ring += period * size
            state += size
        at = _scale(tape, features[n], s)
        if channels > 0:
            at = _product(tape, at, s, np.uintp(0), n_features, h, channels)
        ring, window, taps = np.uintp(0), windows, kernel * channels
        for layer in range(layers):
            depth = (kernel - one) * np.uintp(dilations[layer]) + one
            _remember(rings, ring + frame % depth * channels, s, h, window + taps - channels, channels)
            at = _residual(tape, at, s, h, window, taps, y, channels)
            ring += depth * channels
            window += taps
        ring, state = heads_end, h + channels
        for cell in range(n_cells):
            code, size = np.uintp(cells[3 * cell]), np.uintp(cells[3 * cell + 1])
            period = np.uintp(cells[3 * cell + 2])
            entering = code + code if n_views > 0 else code
            at = _encode(tape, at, s, np.uintp(0), views, y + entering, code, y)
            at = _gru(tape, at, s, y, state, y + entering, size, entering)
            for i in range(size):
                rings[ring + frame % period * size + i] = s[state + i]
            ring += period * size
            state += size
        at = _product(tape, at, s, h, hidden, logits, n_outputs + row)
        taps = kernel * width
        for head in range(n_heads):
            lo = np.uintp(offsets[head])
            size = np.uintp(offsets[head + one]) - lo
            r, p, q = entered + head * width, probabilities + lo, logits + lo
            if width > 0:
                _softmax(s, q, size, s, p)
                for c in range(size):
                    for g in range(width):
                        s[r + g] += tape[at + c * width + g] * s[p + c]
                at += padded(size * width)
                ring, window = trunk_end + head * width, head_windows + head * taps
                for layer in range(head_layers):
                    depth = (kernel - one) * np.uintp(head_dilations[layer]) + one
                    _remember(rings, ring + frame % depth * row, s, r, window + taps - width, width)
                    at = _residual(tape, at, s, r, window, taps, y, width)
                    ring += depth * row
                    window += kernel * row
                at = _product(tape, at, s, r, width, p, size)
                for c in range(size):
                    s[q + c] += s[p + c]
            step = padded(size)
            for c in range(size):
                s[q + c] = s[q + c] * tape[at + c] + tape[at + step + c]
            at += step + step
            _softmax(s, q, size, answer, lo)
        frames[slot] += 1
