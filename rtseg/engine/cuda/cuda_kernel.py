"""The Triton kernel of the `cuda` engine: all operations of a step program, for a block of streams per program.

One launch steps every stream through every layer. Rings are read and written where they lie; the weights of a network
(some MB) stay in the GPU's L2 between launches, and each is loaded once for a whole block of streams. Threads hand
values to one another through a scratch row per stream, with a barrier after every operation.

Imported by `cuda_engine` alone. With TRITON_INTERPRET=1 in the environment before that, it runs on a CPU.
"""

from __future__ import annotations

import triton
import triton.language as tl

from rtseg.engine.cuda import step_program as program

LINEAR = tl.constexpr(program.LINEAR)
SCALE = tl.constexpr(program.SCALE)
RECALL = tl.constexpr(program.RECALL)
VIEWS = tl.constexpr(program.VIEWS)
POOL = tl.constexpr(program.POOL)
GATES = tl.constexpr(program.GATES)
SOFTMAX = tl.constexpr(program.SOFTMAX)
OUTPUT = tl.constexpr(program.OUTPUT)
REMEMBER = tl.constexpr(program.REMEMBER)
FIELDS = tl.constexpr(program.FIELDS)
HEADER = tl.constexpr(program.HEADER)
TILE = tl.constexpr(16)
"""Rows of a softmax tile."""


@triton.jit
def step_kernel(
    features,  # (N, F) float32, raw
    slots,  # (N,) int32, below 0 = a row that is not there
    frames,  # (capacity,) int64
    memory,  # (capacity, ring floats) float32
    out,  # (N, P) float32
    code,  # the program
    weights,
    scratch,  # (programs * BB, scratch floats) float32
    n_blocks,  # N / BB
    BB: tl.constexpr,  # streams of a block
    BI: tl.constexpr,  # places that an elementwise operation takes at once
    BK: tl.constexpr,  # inputs ...
    BN: tl.constexpr,  # ... and outputs of a product's tile
    NP: tl.constexpr,  # classes of the widest head, rounded up to a power of two
):
    """features and slots -> out; rings and frame counts of the slots move on. A slot may come once in a launch."""
    n_ops, ring_floats, scratch_floats = tl.load(code), tl.load(code + 1), tl.load(code + 2)
    n_features, n_outputs, tables = tl.load(code + 3), tl.load(code + 4), code + tl.load(code + 5)
    lane = tl.arange(0, BB)
    base = scratch + tl.program_id(0) * BB * scratch_floats
    s = (base + lane * scratch_floats)[:, None]  # (BB, 1): where each row's scratch begins
    for block in range(tl.program_id(0), n_blocks, tl.num_programs(0)):
        row = block * BB + lane
        slot = tl.load(slots + row)
        live = slot >= 0
        slot = tl.maximum(slot, 0).to(tl.int64)
        frame = tl.load(frames + slot)
        ring = (memory + slot * ring_floats)[:, None]
        for number in range(n_ops):
            op = code + HEADER + number * FIELDS
            kind = tl.load(op)
            if kind == LINEAR:
                if BB == 1:
                    _linear_one(op, weights, base, BK, BN)
                else:
                    _linear_block(op, weights, s, BB, BK, BN)
            elif kind == SCALE:
                _scale(op, weights, (features + row * n_features)[:, None], s, BI)
            elif kind == RECALL:
                _recall(op, tables, ring, frame, s, BI)
            elif kind == VIEWS:
                _views(op, tables, s, BI)
            elif kind == POOL:
                _pool(op, tables, s, BB, BI)
            elif kind == GATES:
                _gates(op, s, BI)
            elif kind == SOFTMAX:
                _softmax(op, weights, base, scratch_floats, BB, NP)
            elif kind == OUTPUT:
                _output(op, tables, s, (out + row * n_outputs)[:, None], BI)
            else:
                _remember(op, tables, ring, frame, live, s, BI)
            tl.debug_barrier()
        tl.store(frames + slot, frame + 1, mask=live)


@triton.jit
def _linear_one(op, weights, s, BK: tl.constexpr, BN: tl.constexpr):
    """A product for one stream: the outputs of all groups in a row, BK inputs at a time, summed up at the end."""
    x, n_in, y, n_out, w, bias = _six(op)
    relu, groups, x_step, y_step = tl.load(op + 7), tl.load(op + 8), tl.load(op + 9), tl.load(op + 10)
    w_step, b_step, residual, r_step = tl.load(op + 11), tl.load(op + 12), tl.load(op + 13), tl.load(op + 14)
    for start in range(0, groups * n_out, BN):
        o = start + tl.arange(0, BN)
        there = o < groups * n_out
        group, column = o // n_out, o % n_out
        total = tl.zeros((BK, BN), tl.float32)
        for first in range(0, n_in, BK):
            k = first + tl.arange(0, BK)
            both = (k < n_in)[:, None] & there[None, :]
            left = tl.load(s + x + k[:, None] + (group * x_step)[None, :], mask=both, other=0.0)
            right = tl.load(weights + w + k[:, None] * n_out + (group * w_step + column)[None, :], mask=both, other=0.0)
            total += left * right
        value = tl.sum(total, 0) + tl.load(weights + bias + group * b_step + column, mask=there, other=0.0)
        value = tl.where(relu > 0, tl.maximum(value, 0.0), value)
        if residual >= 0:
            value += tl.load(s + residual + group * r_step + column, mask=there, other=0.0)
        tl.store(s + y + group * y_step + column, value, mask=there)


@triton.jit
def _linear_block(op, weights, s, BB: tl.constexpr, BK: tl.constexpr, BN: tl.constexpr):
    """A product for a block of streams: (BB, BK) @ (BK, BN) tiles in full float32."""
    x, n_in, y, n_out, w, bias = _six(op)
    relu, groups, x_step, y_step = tl.load(op + 7), tl.load(op + 8), tl.load(op + 9), tl.load(op + 10)
    w_step, b_step, residual, r_step = tl.load(op + 11), tl.load(op + 12), tl.load(op + 13), tl.load(op + 14)
    tiles = tl.cdiv(n_out, BN)
    for tile in range(groups * tiles):
        group = tile // tiles
        o = tile % tiles * BN + tl.arange(0, BN)
        there = (o < n_out)[None, :]
        total = tl.zeros((BB, BN), tl.float32)
        for first in range(0, n_in, BK):
            k = first + tl.arange(0, BK)
            left = tl.load(s + x + group * x_step + k[None, :], mask=(k < n_in)[None, :], other=0.0)
            places = weights + w + group * w_step + k[:, None] * n_out + o[None, :]
            right = tl.load(places, mask=(k < n_in)[:, None] & there, other=0.0)
            total += tl.dot(left, right, input_precision="ieee")
        value = total + tl.load(weights + bias + group * b_step + o[None, :], mask=there, other=0.0)
        value = tl.where(relu > 0, tl.maximum(value, 0.0), value)
        if residual >= 0:
            value += tl.load(s + residual + group * r_step + o[None, :], mask=there, other=0.0)
        tl.store(s + y + group * y_step + o[None, :], value, mask=there)


@triton.jit
def _six(op):
    return tl.load(op + 1), tl.load(op + 2), tl.load(op + 3), tl.load(op + 4), tl.load(op + 5), tl.load(op + 6)


@triton.jit
def _scale(op, weights, features, s, BI: tl.constexpr):
    """Raw features to scaled and clipped ones; a NaN becomes the fill value, the only NaN there is."""
    z, n, fill, shift, scale, clip = _six(op)
    limit = tl.load(weights + clip)
    for start in range(0, n, BI):
        i = (start + tl.arange(0, BI))[None, :]
        value = tl.load(features + i, mask=i < n, other=0.0)
        value = tl.where(value != value, tl.load(weights + fill + i, mask=i < n, other=0.0), value)
        value -= tl.load(weights + shift + i, mask=i < n, other=0.0)
        value *= tl.load(weights + scale + i, mask=i < n, other=0.0)
        tl.store(s + z + i, tl.minimum(tl.maximum(value, -limit), limit), mask=i < n)


@triton.jit
def _recall(op, tables, ring, frame, s, BI: tl.constexpr):
    """Older taps and states, wherever this stream's phase has left them, into the scratch row."""
    n, table = tl.load(op + 1), tables + tl.load(op + 2)
    for start in range(0, n, BI):
        i = (start + tl.arange(0, BI))[None, :]
        place, at = tl.load(table + i, mask=i < n, other=0), tl.load(table + n + i, mask=i < n, other=0)
        depth = tl.load(table + 2 * n + i, mask=i < n, other=1)
        shift = tl.load(table + 3 * n + i, mask=i < n, other=0)
        width = tl.load(table + 4 * n + i, mask=i < n, other=0)
        back = (frame[:, None] + shift) % depth
        tl.store(s + place, tl.load(ring + at + back * width, mask=i < n, other=0.0), mask=i < n)


@triton.jit
def _remember(op, tables, ring, frame, live, s, BI: tl.constexpr):
    """What every layer got and what every cell became, into the rings' rows of this frame."""
    n, table = tl.load(op + 1), tables + tl.load(op + 2)
    for start in range(0, n, BI):
        i = (start + tl.arange(0, BI))[None, :]
        place, at = tl.load(table + i, mask=i < n, other=0), tl.load(table + n + i, mask=i < n, other=0)
        depth = tl.load(table + 2 * n + i, mask=i < n, other=1)
        width = tl.load(table + 3 * n + i, mask=i < n, other=0)
        value = tl.load(s + place, mask=i < n, other=0.0)
        tl.store(ring + at + (frame[:, None] % depth) * width, value, mask=(i < n) & live[:, None])


@triton.jit
def _views(op, tables, s, BI: tl.constexpr):
    """The features as they would be had the animals other names: columns from 1, negative where the sign turns."""
    x, y, n, table = tl.load(op + 1), tl.load(op + 2), tl.load(op + 3), tables + tl.load(op + 4)
    for start in range(0, n, BI):
        i = (start + tl.arange(0, BI))[None, :]
        column = tl.load(table + i, mask=i < n, other=1)
        value = tl.load(s + x + tl.abs(column) - 1)
        tl.store(s + y + i, tl.where(column > 0, value, -value), mask=i < n)


@triton.jit
def _pool(op, tables, s, BB: tl.constexpr, BI: tl.constexpr):
    """The mean of every code over the views, and the maximum less it."""
    x, n, views, table = tl.load(op + 1), tl.load(op + 2), tl.load(op + 3), tables + tl.load(op + 4)
    share = 1.0 / views.to(tl.float32)
    for start in range(0, n, BI):
        i = (start + tl.arange(0, BI))[None, :]
        mean, top = tl.zeros((BB, BI), tl.float32), tl.zeros((BB, BI), tl.float32)  # a relu's maximum is at least 0
        for view in range(views):
            code = tl.load(s + x + view * n + i, mask=i < n, other=0.0)
            mean += code * share
            top = tl.maximum(top, code)
        tl.store(s + tl.load(table + i, mask=i < n, other=0), mean, mask=i < n)
        tl.store(s + tl.load(table + n + i, mask=i < n, other=0), top - mean, mask=i < n)


@triton.jit
def _gates(op, s, BI: tl.constexpr):
    """The gates of equal cells: their new states into y. Order: reset, update, new."""
    given, kept, state, y, n, cells = _six(op)
    for start in range(0, n * cells, BI):
        i = (start + tl.arange(0, BI))[None, :]
        there = i < n * cells
        at = i // n * 3 * n + i % n
        reset = tl.load(s + given + at, mask=there, other=0.0) + tl.load(s + kept + at, mask=there, other=0.0)
        update = tl.load(s + given + n + at, mask=there, other=0.0) + tl.load(s + kept + n + at, mask=there, other=0.0)
        new = tl.load(s + given + 2 * n + at, mask=there, other=0.0)
        new += _sigmoid(reset) * tl.load(s + kept + 2 * n + at, mask=there, other=0.0)
        new = 1.0 - 2.0 / (1.0 + tl.exp(2.0 * new))  # tanh; an exponential that overflows gives 1
        update = _sigmoid(update)
        before = tl.load(s + state + i, mask=there, other=0.0)
        tl.store(s + y + i, (1.0 - update) * new + update * before, mask=there)


@triton.jit
def _sigmoid(x):
    return 1.0 / (1.0 + tl.exp(-x))


@triton.jit
def _softmax(op, weights, base, scratch_floats, BB: tl.constexpr, NP: tl.constexpr):
    """Logits (heads, n), calibrated where the operation names a scale, to probabilities."""
    x, y, heads, n, scale, shift = _six(op)
    c = tl.arange(0, NP)[None, :]
    for start in range(0, BB * heads, TILE):
        r = start + tl.arange(0, TILE)
        head = (r % heads)[:, None] * n
        s = (base + r // heads * scratch_floats)[:, None] + head
        there = (r < BB * heads)[:, None] & (c < n)
        value = tl.load(s + x + c, mask=there, other=0.0)
        if scale >= 0:
            value *= tl.load(weights + scale + head + c, mask=there, other=1.0)
            value += tl.load(weights + shift + head + c, mask=there, other=0.0)
        value = tl.where(c < n, value, -float("inf"))
        value = tl.exp(value - tl.max(value, 1)[:, None])
        tl.store(s + y + c, value / tl.sum(value, 1)[:, None], mask=there)


@triton.jit
def _output(op, tables, s, out, BI: tl.constexpr):
    n, table = tl.load(op + 1), tables + tl.load(op + 2)
    for start in range(0, n, BI):
        i = (start + tl.arange(0, BI))[None, :]
        value = tl.load(s + tl.load(table + i, mask=i < n, other=0), mask=i < n, other=0.0)
        tl.store(out + i, value, mask=i < n)
