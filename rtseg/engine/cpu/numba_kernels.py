"""One fused step of the multitask network over ring buffers, compiled for the CPU.

`advance` steps N rows in order, each in its slot; a batch of streams and a whole recording are the same call, hence the
same machine code. Up to BLOCK rows go through a product together, so that weights come from the cache; a cell moves on
as many rows at once as do not wait for one another. Bits depend on neither: see `products`. A NaN in a feature is
replaced before it gets anywhere. Few plain arguments: 29 arrays in tuples cost a call 6 µs.

No fastmath: it would let the compiler choose another order of a sum for another number of rows. Everything in the
scratch is named by its place, since a slice costs as much as a small product. Places are unsigned: a signed index may
count from the end, which numba then checks at every access.

`_block` and its parts are inlined: a `Step` is handed over by value, which would cost a lone frame a quarter of a
microsecond.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rtseg.compiled import array_tables, cache_stamps, lanes, products
from rtseg.compiled.array_tables import TableRows
from rtseg.compiled.lanes import load, store
from rtseg.compiled.products import Cursor, N, Weights, padded, product
from rtseg.engine.cpu import elementwise, step_tables
from rtseg.engine.cpu.elementwise import enter_cell, relu, scale_features, softmax, update_state
from rtseg.engine.cpu.step_tables import (
    BLOCK,
    CELL_SIZE,
    ENCODER_SIZE,
    PERIOD,
    REGION,
    STEP,
    Step,
    open_step,
    place_of,
    region_of,
)

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]

# Unsigned, since mixing signed and unsigned numbers gives floats in numba.
NOTHING, ONE, THREE = np.uintp(0), np.uintp(1), np.uintp(3)
# error_model="numpy" in this room: a division by zero gives infinity, and no exception is compiled in. cache=False: all
# is compiled into `advance`, which alone is cached (`compiled.cache_stamps`).


@njit(cache=False, error_model="numpy")
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
    # The newest was written first, so all taps come out of the ring by the same rule.
    for tap in range(kernel):
        back += one if tap == 0 else dilation  # the oldest lies one past the newest
        if back >= depth:
            back -= depth
        # One tap only, the newest value: there is no older one to begin with.
        if kernel == one:
            back = frame % depth
        start = at + back * row
        for head in range(n_heads):
            window = to + (head * kernel + tap) * width
            for c in range(width):
                s[window + c] = rings[start + c]
            start += width
    return at + depth * row


@njit(cache=False, error_model="numpy")
def _residual(
    weights: Weights, at: Cursor, s: F32, x: tuple[Any, Any], taps: tuple[Any, Any], y: tuple[Any, Any, Any], shape: Any
) -> Cursor:
    """s[x] += mix(relu(conv(s[taps]))) for some rows of some groups.

    x: its beginning and how far rows lie apart; taps likewise; y: two places for inner values, and how far their rows
    lie apart. shape: rows, groups, kernel, width.
    """
    rows, groups, kernel, width = shape
    inner, outer, y_row = y
    wide = padded(width)
    at = product(
        weights, at, s, (taps[0], taps[1], kernel * width), (inner, y_row), (rows, groups, kernel * width, width)
    )
    for row in range(rows):
        relu(s, inner + row * y_row, groups * wide)
    at = product(weights, at, s, (inner, y_row, wide), (outer, y_row), (rows, groups, width, width))
    for row in range(rows):
        # Added here, not within the product: a product's outputs may not overlap its inputs.
        here, there = x[0] + row * x[1], outer + row * y_row
        for i in range(np.uintp(0), groups * wide, N):
            store(s, here + i, lanes.add(load(s, here + i), load(s, there + i)))
    return at


@njit(cache=False, error_model="numpy", inline="always")
def _block(features: F32, slots: I32, weights: Weights, step: Step, out: F32) -> None:
    """Up to BLOCK rows; see `advance`. Weights lie in the order in which they are read here, so a cursor finds them."""
    sizes, s = step.sizes, step.scratch
    rows, n_features, n_outputs = np.uintp(len(slots)), np.uintp(features.shape[1]), np.uintp(out.shape[1])
    for row in range(rows):
        step.row_frames[row] = np.uintp(step.frames[slots[row]])
        # Counted here already: a slot that comes again in this block is a frame further.
        step.frames[slots[row]] += 1
        scale_features(weights[0], features, row, sizes.n_views, step.columns, s, place_of(step, REGION.scaled, row))
    at = (THREE * padded(n_features) + N, NOTHING)  # past fill, shift, scale and clip
    ring = NOTHING
    if sizes.channels > NOTHING:
        at, ring = _trunk(weights, at, step, slots, n_features)
    # In a slot's memory the heads' rings lie before the cells', but the cells are computed first: heads read their
    # states.
    heads_ring = ring
    for layer in range(sizes.n_head_layers):
        dilation = np.uintp(step.dilations[sizes.n_layers + layer])
        ring += ((sizes.kernel - ONE) * dilation + ONE) * sizes.n_heads * sizes.head_channels
    # Trunk and cells lie side by side in one hidden vector, from which all heads are computed.
    hidden = sizes.channels
    if sizes.n_cells > 0:
        # `hidden` counts on from the trunk's channels.
        at, hidden = _cells(weights, at, step, slots, (n_features, ring))
    # One product for all heads: what is a head's is next to one another in its outputs.
    first = padded(n_outputs) + sizes.n_heads * padded(sizes.head_channels)
    x = step.starts[REGION.hidden], step.strides[REGION.hidden], NOTHING
    at = product(weights, at, s, x, region_of(step, REGION.logits), (rows, ONE, hidden, first))
    if sizes.head_channels > NOTHING:
        at = _refine(weights, at, step, slots, heads_ring)
    _answer(weights[0], at[0], step, out)


@njit(cache=False, error_model="numpy", inline="always")
def _trunk(weights: Weights, at: Cursor, step: Step, slots: I32, n_features: Any) -> tuple[Cursor, Any]:
    """The convolutions of all rows of a block, layer by layer; where the next weights and rings begin."""
    sizes, s, memory = step.sizes, step.scratch, step.memory
    rows, channels = np.uintp(len(slots)), sizes.channels
    h, taps = region_of(step, REGION.hidden), region_of(step, REGION.taps)
    y = step.starts[REGION.inner], step.starts[REGION.outer], step.strides[REGION.inner]
    x = step.starts[REGION.scaled], step.strides[REGION.scaled], NOTHING
    at = product(weights, at, s, x, h, (rows, ONE, n_features, channels))
    ring = NOTHING
    for layer in range(sizes.n_layers):
        dilation, end = np.uintp(step.dilations[layer]), ring
        # Row by row and in order, for a row may be the next frame of the slot of the one before it.
        for row in range(rows):
            end = _taps(
                *(memory[slots[row]], ring, step.row_frames[row], sizes.kernel, dilation, (ONE, channels)),
                *(s, h[0] + row * h[1], NOTHING, taps[0] + row * taps[1]),
            )
        at = _residual(weights, at, s, h, taps, y, (rows, ONE, sizes.kernel, channels))
        ring = end
    return at, ring


@njit(cache=False, error_model="numpy", inline="always")
def _cells(
    weights: Weights, at: Cursor, step: Step, slots: I32, features_and_ring: tuple[Any, Any]
) -> tuple[Cursor, Any]:
    """The recurrent cells of all rows of a block; where the next weights begin, and the number of hidden values."""
    n_features, ring = features_and_ring
    sizes, s, cells = step.sizes, step.scratch, step.cells
    rows, n_views, hidden = np.uintp(len(slots)), sizes.n_views, sizes.channels
    n_codes = NOTHING
    for cell in range(sizes.n_cells):
        n_codes += np.uintp(cells[cell, ENCODER_SIZE])
    code, h = step.starts[REGION.codes], step.starts[REGION.hidden]
    # All cells' encoders at once, and every view as a row of its own.
    shape = rows * max(n_views, ONE), ONE, n_features, n_codes
    x = step.starts[REGION.scaled], padded(n_features), NOTHING
    at = product(weights, at, s, x, (code, padded(n_codes)), shape)
    x = step.starts[REGION.entering], step.strides[REGION.entering], NOTHING
    for cell in range(sizes.n_cells):
        encoder, size, period = (
            np.uintp(cells[cell, ENCODER_SIZE]),
            np.uintp(cells[cell, CELL_SIZE]),
            cells[cell, PERIOD],
        )
        for row in range(rows):
            codes = code + row * step.strides[REGION.codes]
            enter_cell(s, codes, padded(n_codes), n_views, encoder, place_of(step, REGION.entering, row))
        n_in = encoder if n_views == NOTHING else encoder + encoder
        at = product(weights, at, s, x, region_of(step, REGION.gates_in), (rows, ONE, n_in, THREE * size))
        at = _recur(weights, at, step, slots, (ring, h + hidden, size, period))
        ring += np.uintp(period) * size
        hidden += size
        code += encoder
    return at, hidden


@njit(cache=False, error_model="numpy")
def _recur(weights: Weights, at: Cursor, step: Step, slots: I32, cell: Any) -> Cursor:
    """One cell for all rows of a block, in waves: a row waits for the row of its slot that came a period before.

    cell: where its ring and its part of h begin, its size and its period.
    """
    ring, h, size, period = cell
    s, memory, frame = step.scratch, step.memory, step.row_frames
    h_stride = step.strides[REGION.hidden]
    rows, begin, after = len(slots), 0, at
    while begin < rows:
        end = begin
        while end < rows:
            # Counted anew for every row: a block has no more than 24 of them.
            earlier = 0
            for row in range(begin, end):
                earlier += slots[row] == slots[end]
            # A cell with p states takes p frames of a slot at once: the next one needs the state that the first of them
            # leaves.
            if earlier >= period:
                break
            end += 1
        for row in range(begin, end):
            slot, phase = slots[row], ring + frame[row] % np.uintp(period) * size
            # Copied side by side, as a product needs the rows of a wave. A cell with p states takes the state of p
            # frames ago, and the new one goes to the same place.
            state = place_of(step, REGION.states, np.uintp(row))
            for i in range(size):
                s[state + i] = memory[slot, phase + i]
        first = np.uintp(begin)
        shape = np.uintp(end - begin), ONE, size, THREE * size
        x = place_of(step, REGION.states, first), step.strides[REGION.states], NOTHING
        y = place_of(step, REGION.gates_back, first), step.strides[REGION.gates_back]
        # Every wave reads the same weights, so `at` stays and the last wave's cursor is given back.
        after = product(weights, at, s, x, y, shape)
        for row in range(begin, end):
            n = np.uintp(row)
            state, to = place_of(step, REGION.states, n), h + n * h_stride
            gates_in, gates_back = place_of(step, REGION.gates_in, n), place_of(step, REGION.gates_back, n)
            update_state(s, gates_in, gates_back, place_of(step, REGION.opened, n), state, size)
            slot, phase = slots[row], ring + frame[row] % np.uintp(period) * size
            for i in range(size):
                memory[slot, phase + i] = s[state + i]
            for i in range(np.uintp(0), size, N):  # past its end comes the next cell's state, which follows
                store(s, to + i, load(s, state + i))
        begin = end
    return after


@njit(cache=False, error_model="numpy")
def _refine(weights: Weights, at: Cursor, step: Step, slots: I32, ring: Any) -> Cursor:
    """All refinement heads, every product for all of them at once. ring: where theirs begin."""
    sizes, s, offsets, memory = step.sizes, step.scratch, step.offsets, step.memory
    n_heads, width, kernel, classes = sizes.n_heads, sizes.head_channels, sizes.kernel, sizes.max_classes
    rows, wide, room_n = np.uintp(len(slots)), padded(width), padded(classes)
    logits, probabilities = region_of(step, REGION.logits), region_of(step, REGION.probabilities)
    inner, taps = region_of(step, REGION.inner), region_of(step, REGION.taps)
    y = inner[0], step.starts[REGION.outer], inner[1]
    entered = logits[0] + padded(np.uintp(offsets[n_heads]))
    for row in range(rows):
        for head in range(n_heads):
            lo = np.uintp(offsets[head])
            n = np.uintp(offsets[head + ONE]) - lo
            to = probabilities[0] + row * probabilities[1] + head * room_n
            # Uncalibrated, as the refinement was trained; calibration comes last (`_answer`). Classes that a smaller
            # head does not have get zeros.
            softmax(s, logits[0] + row * logits[1] + lo, n, to, room_n)
    shape = rows, n_heads, classes, width
    at = product(weights, at, s, (probabilities[0], probabilities[1], room_n), inner, shape)
    for row in range(rows):
        # The trunk's part was computed together with the logits; this adds the part of the first probabilities.
        here, there = entered + row * logits[1], inner[0] + row * inner[1]
        for i in range(np.uintp(0), n_heads * wide, N):
            store(s, here + i, lanes.add(load(s, here + i), load(s, there + i)))
    for layer in range(sizes.n_head_layers):
        dilation, end = np.uintp(step.dilations[sizes.n_layers + layer]), ring
        for row in range(rows):
            end = _taps(
                *(memory[slots[row]], ring, step.row_frames[row], kernel, dilation, (n_heads, width)),
                *(s, entered + row * logits[1], wide, taps[0] + row * taps[1]),
            )
        at = _residual(weights, at, s, (entered, logits[1]), taps, y, (rows, n_heads, kernel, width))
        ring = end
    shape = rows, n_heads, width, classes
    return product(weights, at, s, (entered, logits[1], wide), region_of(step, REGION.leaving), shape)


@njit(cache=False, error_model="numpy", inline="always")
def _answer(vectors: F32, at: Any, step: Step, out: F32) -> None:
    """Calibrated probabilities of all heads of all rows: logits, with what refinement adds, scaled and shifted."""
    s, offsets, is_refined = step.scratch, step.offsets, step.sizes.head_channels > NOTHING
    n_outputs, classes = np.uintp(out.shape[1]), padded(step.sizes.max_classes)
    # Calibration: one scale and one shift for each output, the last of the weights.
    shift = at + padded(n_outputs)
    for n in range(len(out)):
        row = np.uintp(n)
        logits = place_of(step, REGION.logits, row)
        for head in range(len(offsets) - 1):
            lo, hi = np.uintp(offsets[head]), np.uintp(offsets[head + 1])
            for c in range(lo, hi):
                value = s[logits + c]
                if is_refined:
                    value += s[place_of(step, REGION.leaving, row) + np.uintp(head) * classes + c - lo]
                # In place: nothing reads the logits after this.
                s[logits + c] = value * vectors[at + c] + vectors[shift + c]
            to = place_of(step, REGION.probabilities, row) + np.uintp(head) * classes
            softmax(s, logits + lo, hi - lo, to, hi - lo)
            for c in range(lo, hi):
                out[n, c] = s[to + c - lo]


def _compiled(stamp: int) -> Callable[[F32, I32, NDArray[Any], TableRows, F32], None]:
    """`advance`. stamp: of the other files whose code is compiled into it (`cache_stamps`)."""

    @njit(cache=True, error_model="numpy")
    def advance(features: F32, slots: I32, matrices: NDArray[Any], rows: TableRows, out: F32) -> None:
        _ = stamp
        weights, step = (array_tables.float32s(rows, STEP.vectors), matrices), open_step(rows)
        for start in range(0, len(slots), BLOCK):
            # A recording of many frames and a single live frame go through the same block.
            stop = min(start + BLOCK, len(slots))
            _block(features[start:stop], slots[start:stop], weights, step, out[start:stop])

    compiled: Callable[[F32, I32, NDArray[Any], TableRows, F32], None] = advance
    return compiled


advance = _compiled(cache_stamps.source_stamp(array_tables, lanes, products, elementwise, step_tables))
"""features (N, F) raw, slots (N,) -> out (N, P) probabilities; the slots' memory and frame counts move on in place.

matrices: of the weights, float32 or float16 as uint16: its type is what numba compiles for, so it is an argument. rows:
of the table of a `StepArrays`.
"""
