"""One fused step of the multitask network over ring buffers, compiled for the CPU.

`advance` steps N rows in order, each in its slot; a batch of streams and a whole recording are the same call, hence the
same machine code. Up to BLOCK rows go through a product together, so that weights come from the cache; a cell moves on
as many rows at once as do not wait for one another. Bits depend on neither: see `products`. A NaN in a feature is
replaced before it gets anywhere. Few plain arguments: 29 arrays in tuples cost a call 6 µs.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rtseg.compiled import array_tables
from rtseg.engine.cpu import lanes
from rtseg.engine.cpu.lanes import load, store
from rtseg.engine.cpu.products import At, N, Tape, padded, product

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

BLOCK = 24
"""Rows that go through a product together: what they need lies in the second cache beside one product's weights."""
HEADER = 9
REGIONS = 14
"""Parts of the scratch, each with room for BLOCK rows: scaled features in all views (V * F, each view padded) |
h (D) | codes (V * E's) | what enters a cell (2E) | gates from it (3R) | gates from the state (3R) | states (R) | taps
(K * C or H * K * G) | a layer's inner value | and outer value (C or H * G) | logits and what enters the heads (P + H *
G) | probabilities (H * N classes) | what leaves the heads (H * N) | opened gates (2R)."""
NOTHING = np.uintp(0)


@njit(cache=True, error_model="numpy")
def _softmax(s: F32, logits: Any, n: Any, to: Any, room: Any) -> None:
    """s[logits:] (n,) to probabilities in s[to:], and zeros up to s[to + room]."""
    top = s[logits]
    for i in range(n):
        top = max(top, s[logits + i])
    for i in range(np.uintp(0), padded(n), N):
        value = lanes.subtract(load(s, logits + i), lanes.spread(top))
        store(s, to + i, lanes.exponential(value))
    total = np.float32(0.0)
    for i in range(n):
        total += s[to + i]
    for i in range(n):
        s[to + i] /= total
    for i in range(n, room):
        s[to + i] = np.float32(0.0)


@njit(cache=True, error_model="numpy")
def _relu(s: F32, at: Any, n: Any) -> None:
    for i in range(np.uintp(0), padded(n), N):
        store(s, at + i, lanes.larger(load(s, at + i), lanes.spread(np.float32(0.0))))


@njit(cache=True, error_model="numpy")
def _scale(vectors: F32, features: F32, row: Any, views: Any, columns: NDArray[np.uintp], s: F32, z: Any) -> None:
    """Raw features[row] (F,) to scaled and clipped ones in s[z:], in every view (V, F), each view padded.

    columns: for each view but the first the column that stands at every place, and last the places, as they lie in
    s[z:], where a value's sign turns.
    """
    n = np.uintp(features.shape[1])
    wide, first = padded(n), row * n
    shift = wide
    scale = shift + shift
    clip = vectors[scale + shift]
    low, high = lanes.spread(-clip), lanes.spread(clip)
    whole = n // N * N
    for f in range(np.uintp(0), whole, N):
        value = lanes.known(load(features, first + f), load(vectors, f))
        value = lanes.multiply(lanes.subtract(value, load(vectors, shift + f)), load(vectors, scale + f))
        store(s, z + f, lanes.smaller(lanes.larger(value, low), high))
    for f in range(whole, n):
        one = features[row, f]
        if math.isnan(one):
            one = vectors[f]
        s[z + f] = min(max((one - vectors[shift + f]) * vectors[scale + f], -clip), clip)
    at, to = np.uintp(0), z
    for _ in range(np.uintp(1), max(views, np.uintp(1))):
        to += wide
        for f in range(n):
            s[to + f] = s[z + columns[at + f]]
        at += n
    for i in range(at, np.uintp(len(columns))):
        s[z + columns[i]] = -s[z + columns[i]]


@njit(cache=True, error_model="numpy")
def _taps(
    rings: F32,
    at: Any,
    frame: Any,
    kernel: Any,
    dilation: Any,
    shape: tuple[Any, Any],
    s: F32,
    x: Any,
    x_step: Any,
    to: Any,
) -> Any:
    """s[x:] into its ring and, with the older taps, oldest first, into s[to:] (H, K, G); where the ring ends.

    rings[at:]: (depth, H * G). shape: H, G. x_step: from one head's value in s[x:] to the next one's.
    """
    n_heads, width = shape
    one, row = np.uintp(1), n_heads * width
    depth = (kernel - one) * dilation + one
    back = frame % depth
    for head in range(n_heads):
        for c in range(width):
            rings[at + back * row + head * width + c] = s[x + head * x_step + c]
    for tap in range(kernel):
        back += one if tap == 0 else dilation  # the oldest lies one past the newest
        if back >= depth:
            back -= depth
        if kernel == one:
            back = frame % depth
        start = at + back * row
        for head in range(n_heads):
            window = to + (head * kernel + tap) * width
            for c in range(width):
                s[window + c] = rings[start + c]
            start += width
    return at + depth * row


@njit(cache=True, error_model="numpy")
def _residual(
    tape: Tape, at: At, s: F32, x: tuple[Any, Any], taps: tuple[Any, Any], y: tuple[Any, Any, Any], shape: Any
) -> At:
    """s[x] += mix(relu(conv(s[taps]))) for some rows of some groups.

    x: its beginning and how far rows lie apart; taps likewise; y: two places for inner values, and how far their rows
    lie apart. shape: rows, groups, kernel, width.
    """
    rows, groups, kernel, width = shape
    inner, outer, y_row = y
    wide = padded(width)
    at = product(tape, at, s, (taps[0], taps[1], kernel * width), (inner, y_row), (rows, groups, kernel * width, width))
    for row in range(rows):
        _relu(s, inner + row * y_row, groups * wide)
    at = product(tape, at, s, (inner, y_row, wide), (outer, y_row), (rows, groups, width, width))
    for row in range(rows):
        here, there = x[0] + row * x[1], outer + row * y_row
        for i in range(np.uintp(0), groups * wide, N):
            store(s, here + i, lanes.add(load(s, here + i), load(s, there + i)))
    return at


@njit(cache=True, error_model="numpy")
def _entering(s: F32, codes: Any, step: Any, views: Any, width: Any, to: Any) -> None:
    """Codes (V, E) of one row, `step` apart, to what enters a cell: their mean and the maximum less it, or the code."""
    zero = lanes.spread(np.float32(0.0))
    if views == 0:
        for e in range(np.uintp(0), width, N):
            store(s, to + e, lanes.larger(load(s, codes + e), zero))
        return
    share = lanes.spread(np.float32(1.0 / views))
    # Ends of the loops write past their part: first the mean, then what comes behind it.
    for e in range(np.uintp(0), width, N):
        mean = lanes.multiply(lanes.larger(load(s, codes + e), zero), share)
        for v in range(np.uintp(1), views):
            value = lanes.larger(load(s, codes + v * step + e), zero)
            mean = lanes.add(mean, lanes.multiply(value, share))
        store(s, to + e, mean)
    for e in range(np.uintp(0), width, N):
        top = lanes.larger(load(s, codes + e), zero)
        for v in range(np.uintp(1), views):
            top = lanes.larger(load(s, codes + v * step + e), top)
        store(s, to + width + e, lanes.subtract(top, load(s, to + e)))


@njit(cache=True, error_model="numpy")
def _gates(s: F32, given: Any, kept: Any, opened: Any, state: Any, n: Any) -> None:
    """s[state:] (R,), what a cell was a period ago, to what it is now; gates (3R,) in the order reset, update, new.

    opened: room for two gates. In two passes, for each keeps a processor's pipes fuller than both at once.
    """
    both = n + n
    for i in range(np.uintp(0), both, N):
        store(s, opened + i, lanes.sigmoid(lanes.add(load(s, given + i), load(s, kept + i))))
    for i in range(np.uintp(0), n, N):
        new = lanes.tanh(lanes.muladd(load(s, opened + i), load(s, kept + both + i), load(s, given + both + i)))
        before = load(s, state + i)
        store(s, state + i, lanes.muladd(load(s, opened + n + i), lanes.subtract(before, new), new))


@njit(cache=True, error_model="numpy")
def advance(features: F32, slots: NDArray[np.int32], matrices: NDArray[Any], at: NDArray[np.int64], out: F32) -> None:
    """features (N, F) raw, slots (N,) -> out (N, P) probabilities; the slots' memory and frame counts move on in place.

    matrices: the tape's. at: where lie (`array_tables`) the tape's vectors; sizes; places; columns; memory; frames;
    scratch. sizes: C, G, K, L, R, H, Q cells, V views, N classes of the largest head, L + R dilations, H + 1 offsets of
    the heads' outputs, and Q times (encoder, hidden, period). places: where each of the scratch's REGIONS begins, how
    far its rows lie apart, and room for the rows' frame numbers. columns: see `_scale`. memory: (S, floats), a slot's
    rings: per trunk layer (depth, C), per head layer (depth, H * G), per cell (period, hidden). frames: (S,) frames
    since a slot's reset. scratch: see REGIONS; nothing in it outlives a block. Everything in it is named by its place:
    a slice would cost as much as a small product.
    """
    tape = array_tables.floats(at, 0), matrices
    plan = array_tables.int64s(at, 1), array_tables.uintps_2d(at, 2), array_tables.uintps(at, 3)
    memory, frames, s = array_tables.floats_2d(at, 4), array_tables.int64s(at, 5), array_tables.floats(at, 6)
    for start in range(0, len(slots), BLOCK):
        stop = min(start + BLOCK, len(slots))
        _block(features[start:stop], slots[start:stop], tape, plan, memory, frames, s, out[start:stop])


@njit(cache=True, error_model="numpy")
def _block(
    features: F32, slots: NDArray[np.int32], tape: Tape, plan: Any, memory: F32, frames: I64, s: F32, out: F32
) -> None:
    """Up to BLOCK rows; see `advance`."""
    sizes, places, columns = plan
    channels, width, kernel = np.uintp(sizes[0]), np.uintp(sizes[1]), np.uintp(sizes[2])
    n_layers, n_head_layers, n_heads = sizes[3], sizes[4], np.uintp(sizes[5])
    n_cells, n_views, classes = sizes[6], np.uintp(sizes[7]), np.uintp(sizes[8])
    dilations = sizes[HEADER:]
    offsets = dilations[n_layers + n_head_layers :][: sizes[5] + 1]
    cells = dilations[n_layers + n_head_layers + sizes[5] + 1 :]
    rows, n_features, n_outputs = np.uintp(len(slots)), np.uintp(features.shape[1]), np.uintp(out.shape[1])
    one = np.uintp(1)
    place, step = places[0], places[1]
    frame = places[2]
    for row in range(rows):
        frame[row] = np.uintp(frames[slots[row]])
        frames[slots[row]] += 1
        _scale(tape[0], features, row, n_views, columns, s, place[0] + row * step[0])
    wide = padded(n_features)
    at = (np.uintp(3) * wide + N, np.uintp(0))
    h, h_row = place[1], step[1]
    y = place[8], place[9], step[8]
    ring = np.uintp(0)
    if channels > 0:
        shape = rows, one, n_features, channels
        at = product(tape, at, s, (place[0], step[0], NOTHING), (h, h_row), shape)
        for layer in range(n_layers):
            dilation = np.uintp(dilations[layer])
            end = ring
            for row in range(rows):
                end = _taps(
                    *(memory[slots[row]], ring, frame[row], kernel, dilation, (one, channels)),
                    *(s, h + row * h_row, NOTHING, place[7] + row * step[7]),
                )
            at = _residual(tape, at, s, (h, h_row), (place[7], step[7]), y, (rows, one, kernel, channels))
            ring = end
    heads_ring = ring
    for layer in range(n_head_layers):
        ring += ((kernel - one) * np.uintp(dilations[n_layers + layer]) + one) * n_heads * width
    hidden = channels
    if n_cells > 0:
        codes = np.uintp(0)
        for cell in range(n_cells):
            codes += np.uintp(cells[3 * cell])
        shape = rows * max(n_views, one), one, n_features, codes
        at = product(tape, at, s, (place[0], wide, NOTHING), (place[2], padded(codes)), shape)
        code = place[2]
        for cell in range(n_cells):
            encoder, size, period = np.uintp(cells[3 * cell]), np.uintp(cells[3 * cell + 1]), cells[3 * cell + 2]
            for row in range(rows):
                _entering(s, code + row * step[2], padded(codes), n_views, encoder, place[3] + row * step[3])
            entering = encoder if n_views == NOTHING else encoder + encoder
            shape = rows, one, entering, np.uintp(3) * size
            at = product(tape, at, s, (place[3], step[3], NOTHING), (place[4], step[4]), shape)
            at = _recur(tape, at, s, (place, step), slots, frame, memory, (ring, h + hidden, size, period))
            ring += np.uintp(period) * size
            hidden += size
            code += encoder
    first = padded(n_outputs) + n_heads * padded(width)
    at = product(tape, at, s, (h, h_row, NOTHING), (place[10], step[10]), (rows, one, hidden, first))
    if width > 0:
        shape = n_heads, width, kernel, classes
        layers = dilations[n_layers : n_layers + n_head_layers]
        at = _refine(tape, at, s, (place, step), slots, frame, memory, (heads_ring, shape, layers, offsets))
    _answer(tape[0], at[0], s, (place, step), offsets, (width > 0, classes), out)


@njit(cache=True, error_model="numpy")
def _recur(tape: Tape, at: At, s: F32, room: Any, slots: NDArray[np.int32], frame: Any, memory: F32, cell: Any) -> At:
    """One cell for all rows of a block, in waves: a row waits for the row of its slot that came a period before.

    cell: where its ring and its part of h begin, its size and its period.
    """
    place, step = room
    ring, h, size, period = cell
    rows, begin, after = len(slots), 0, at
    while begin < rows:
        end = begin
        while end < rows:
            earlier = 0
            for row in range(begin, end):
                earlier += slots[row] == slots[end]
            if earlier >= period:
                break
            end += 1
        for row in range(begin, end):
            slot, phase = slots[row], ring + frame[row] % np.uintp(period) * size
            state = place[6] + np.uintp(row) * step[6]
            for i in range(size):
                s[state + i] = memory[slot, phase + i]
        first = np.uintp(begin)
        shape = np.uintp(end - begin), np.uintp(1), size, np.uintp(3) * size
        x = place[6] + first * step[6], step[6], NOTHING
        after = product(tape, at, s, x, (place[5] + first * step[5], step[5]), shape)
        for row in range(begin, end):
            n = np.uintp(row)
            state, to = place[6] + n * step[6], h + n * step[1]
            opened = place[13] + n * step[13]
            _gates(s, place[4] + n * step[4], place[5] + n * step[5], opened, state, size)
            slot, phase = slots[row], ring + frame[row] % np.uintp(period) * size
            for i in range(size):
                memory[slot, phase + i] = s[state + i]
            for i in range(np.uintp(0), size, N):  # past its end comes the next cell's state, which follows
                store(s, to + i, load(s, state + i))
        begin = end
    return after


@njit(cache=True, error_model="numpy")
def _refine(tape: Tape, at: At, s: F32, room: Any, slots: NDArray[np.int32], frame: Any, memory: F32, heads: Any) -> At:
    """All refinement heads together; what leaves them into the last region.

    heads: where their rings begin, (H, G, K, N), their dilations, and the offsets of their outputs.
    """
    place, step = room
    ring, (n_heads, width, kernel, classes), dilations, offsets = heads
    rows, wide, room_n = np.uintp(len(slots)), padded(width), padded(classes)
    entered = place[10] + padded(np.uintp(offsets[n_heads]))
    for row in range(rows):
        for head in range(n_heads):
            lo = np.uintp(offsets[head])
            n = np.uintp(offsets[head + np.uintp(1)]) - lo
            _softmax(s, place[10] + row * step[10] + lo, n, place[11] + row * step[11] + head * room_n, room_n)
    shape = rows, n_heads, classes, width
    at = product(tape, at, s, (place[11], step[11], room_n), (place[8], step[8]), shape)
    for row in range(rows):
        here, there = entered + row * step[10], place[8] + row * step[8]
        for i in range(np.uintp(0), n_heads * wide, N):
            store(s, here + i, lanes.add(load(s, here + i), load(s, there + i)))
    for layer in range(len(dilations)):
        end = ring
        for row in range(rows):
            end = _taps(
                *(memory[slots[row]], ring, frame[row], kernel, np.uintp(dilations[layer]), (n_heads, width)),
                *(s, entered + row * step[10], wide, place[7] + row * step[7]),
            )
        y = place[8], place[9], step[8]
        at = _residual(tape, at, s, (entered, step[10]), (place[7], step[7]), y, (rows, n_heads, kernel, width))
        ring = end
    shape = rows, n_heads, width, classes
    return product(tape, at, s, (entered, step[10], wide), (place[12], step[12]), shape)


@njit(cache=True, error_model="numpy")
def _answer(vectors: F32, at: Any, s: F32, room: Any, offsets: I64, refined: tuple[Any, Any], out: F32) -> None:
    """Calibrated probabilities of all heads of all rows; refined: whether, and N."""
    place, step = room
    n_outputs, classes = np.uintp(out.shape[1]), padded(refined[1])
    shift = at + padded(n_outputs)
    for n in range(len(out)):
        row = np.uintp(n)
        logits = place[10] + row * step[10]
        for head in range(len(offsets) - 1):
            lo, hi = np.uintp(offsets[head]), np.uintp(offsets[head + 1])
            for c in range(lo, hi):
                value = s[logits + c]
                if refined[0]:
                    value += s[place[12] + row * step[12] + np.uintp(head) * classes + c - lo]
                s[logits + c] = value * vectors[at + c] + vectors[shift + c]
            to = place[11] + row * step[11] + np.uintp(head) * classes
            _softmax(s, logits + lo, hi - lo, to, hi - lo)
            for c in range(lo, hi):
                out[n, c] = s[to + c - lo]
