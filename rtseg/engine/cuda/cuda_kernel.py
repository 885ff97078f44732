"""The Triton kernel of the `cuda` engine: it interprets a step program (`step_program`) for blocks of streams.

One launch steps every stream through every layer. Rings are read and written in place; the weights of a network (some
MB) stay in the GPU's L2 cache between launches, and each is loaded once for a whole block of streams. Threads exchange
values through a scratch row per stream, with a barrier after every operation.

Imported by `cuda_engine` only. With TRITON_INTERPRET=1 in the environment before the import, it runs on a CPU.
"""

from __future__ import annotations

import triton
import triton.language as tl

from rtseg.engine.cuda import step_program as program

LINEAR = tl.constexpr(program.LINEAR)
SCALE = tl.constexpr(program.SCALE)
READ_RINGS = tl.constexpr(program.READ_RINGS)
VIEWS = tl.constexpr(program.VIEWS)
POOL = tl.constexpr(program.POOL)
GATES = tl.constexpr(program.GATES)
SOFTMAX = tl.constexpr(program.SOFTMAX)
OUTPUT = tl.constexpr(program.OUTPUT)
WRITE_RINGS = tl.constexpr(program.WRITE_RINGS)
FIELDS = tl.constexpr(program.FIELDS)
HEADER = tl.constexpr(program.HEADER)
TILE = tl.constexpr(16)
"""Rows of a softmax tile."""


@triton.jit
def step_kernel(
    features,  # (N, F) float32, raw
    slots,  # (N,) int32, below 0 = an unused row of a batch that is not full
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
    """Step each row's slot with its features; probabilities into `out`, rings and frame numbers in place.

    A slot may come only once in a launch: programs run in any order.
    """
    n_ops, ring_floats, scratch_floats = tl.load(code), tl.load(code + 1), tl.load(code + 2)
    n_features, n_outputs, tables = tl.load(code + 3), tl.load(code + 4), code + tl.load(code + 5)
    lane = tl.arange(0, BB)
    base = scratch + tl.program_id(0) * BB * scratch_floats
    s = (base + lane * scratch_floats)[:, None]  # (BB, 1): where each row's scratch begins
    # Blocks are dealt out to the programs in turn, so that only streams that run at once need scratch rows.
    for block in range(tl.program_id(0), n_blocks, tl.num_programs(0)):
        row = block * BB + lane
        slot = tl.load(slots + row)
        live = slot >= 0
        # Unused rows read slot 0 and write nothing. 64 bits: the rings of all slots may exceed 2^31 floats.
        slot = tl.maximum(slot, 0).to(tl.int64)
        frame = tl.load(frames + slot)  # each stream is at its own phase of the rings
        ring = (memory + slot * ring_floats)[:, None]
        for number in range(n_ops):
            op = code + HEADER + number * FIELDS
            kind = tl.load(op)
            if kind == LINEAR:
                _linear(op, weights, base, s, BB, BK, BN)
            elif kind == SCALE:
                _scale(op, weights, (features + row * n_features)[:, None], s, BI)
            elif kind == READ_RINGS:
                _read_rings(op, tables, ring, frame, s, BI)
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
                _write_rings(op, tables, ring, frame, live, s, BI)
            # The next operation reads what other threads of this program have written.
            tl.debug_barrier()
        tl.store(frames + slot, frame + 1, mask=live)


@triton.jit
def _linear(op, weights, base, s, BB: tl.constexpr, BK: tl.constexpr, BN: tl.constexpr):
    """A product for the streams of a block."""
    # BB is known when the kernel is compiled, so only one of the two forms is in it.
    if BB == 1:
        _linear_one(op, weights, base, BK, BN)
    else:
        _linear_block(op, weights, s, BB, BK, BN)


@triton.jit
def _linear_one(op, weights, s, BK: tl.constexpr, BN: tl.constexpr):
    """A product for one stream: the outputs of all groups side by side, BK inputs at a time, summed at the end."""
    # With one row a tl.dot would waste 15 of its 16 rows: BK partial sums a column keep all threads busy instead.
    x, n_in, y, n_out, w, bias = _load_six(op)
    relu, groups, x_step, y_step, w_step, b_step, residual, r_step = _load_eight_more(op)
    for start in range(0, groups * n_out, BN):
        o = start + tl.arange(0, BN)
        valid = o < groups * n_out
        group, column = o // n_out, o % n_out
        total = tl.zeros((BK, BN), tl.float32)
        for first in range(0, n_in, BK):
            k = first + tl.arange(0, BK)
            both = (k < n_in)[:, None] & valid[None, :]
            left = tl.load(s + x + k[:, None] + (group * x_step)[None, :], mask=both, other=0.0)
            right = tl.load(weights + w + k[:, None] * n_out + (group * w_step + column)[None, :], mask=both, other=0.0)
            total += left * right
        value = tl.sum(total, 0) + tl.load(weights + bias + group * b_step + column, mask=valid, other=0.0)
        value = tl.where(relu > 0, tl.maximum(value, 0.0), value)
        if residual >= 0:
            value += tl.load(s + residual + group * r_step + column, mask=valid, other=0.0)
        tl.store(s + y + group * y_step + column, value, mask=valid)


@triton.jit
def _linear_block(op, weights, s, BB: tl.constexpr, BK: tl.constexpr, BN: tl.constexpr):
    """A product for a block of streams: tiles (BB, BK) @ (BK, BN) in full float32."""
    x, n_in, y, n_out, w, bias = _load_six(op)
    relu, groups, x_step, y_step, w_step, b_step, residual, r_step = _load_eight_more(op)
    tiles = tl.cdiv(n_out, BN)
    for tile in range(groups * tiles):
        group = tile // tiles
        o = tile % tiles * BN + tl.arange(0, BN)
        valid = (o < n_out)[None, :]
        total = tl.zeros((BB, BN), tl.float32)
        for first in range(0, n_in, BK):
            k = first + tl.arange(0, BK)
            left = tl.load(s + x + group * x_step + k[None, :], mask=(k < n_in)[None, :], other=0.0)
            places = weights + w + group * w_step + k[:, None] * n_out + o[None, :]
            right = tl.load(places, mask=(k < n_in)[:, None] & valid, other=0.0)
            total += tl.dot(left, right, input_precision="ieee")  # never TF32, which rounds inputs to ten bits
        value = total + tl.load(weights + bias + group * b_step + o[None, :], mask=valid, other=0.0)
        value = tl.where(relu > 0, tl.maximum(value, 0.0), value)
        if residual >= 0:
            value += tl.load(s + residual + group * r_step + o[None, :], mask=valid, other=0.0)
        tl.store(s + y + group * y_step + o[None, :], value, mask=valid)


@triton.jit
def _load_six(op):
    """The first six fields of an operation (`step_program` lists them by kind)."""
    return tl.load(op + 1), tl.load(op + 2), tl.load(op + 3), tl.load(op + 4), tl.load(op + 5), tl.load(op + 6)


@triton.jit
def _load_eight_more(op):
    """The fields of a product after the first six."""
    relu, groups, x_step, y_step = tl.load(op + 7), tl.load(op + 8), tl.load(op + 9), tl.load(op + 10)
    w_step, b_step, residual, r_step = tl.load(op + 11), tl.load(op + 12), tl.load(op + 13), tl.load(op + 14)
    return relu, groups, x_step, y_step, w_step, b_step, residual, r_step


@triton.jit
def _scale(op, weights, features, s, BI: tl.constexpr):
    """Raw features to scaled and clipped ones. A NaN becomes the fill value here, so nothing after this meets one."""
    z, n, fill, shift, scale, clip = _load_six(op)
    limit = tl.load(weights + clip)
    for start in range(0, n, BI):
        i = (start + tl.arange(0, BI))[None, :]
        value = tl.load(features + i, mask=i < n, other=0.0)
        # Only NaN differs from itself.
        value = tl.where(value != value, tl.load(weights + fill + i, mask=i < n, other=0.0), value)
        value -= tl.load(weights + shift + i, mask=i < n, other=0.0)
        value *= tl.load(weights + scale + i, mask=i < n, other=0.0)
        tl.store(s + z + i, tl.minimum(tl.maximum(value, -limit), limit), mask=i < n)


@triton.jit
def _read_rings(op, tables, ring, frame, s, BI: tl.constexpr):
    """Older taps and states out of the rings, at each stream's own phase, into the scratch row."""
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
def _write_rings(op, tables, ring, frame, live, s, BI: tl.constexpr):
    """Every layer's input and every cell's new state into this frame's places in the rings.

    The last operation of a program, so no operation reads what this frame writes.
    """
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
    """The features with the animals in another order. Columns count from 1: a negative one flips the sign."""
    x, y, n, table = tl.load(op + 1), tl.load(op + 2), tl.load(op + 3), tables + tl.load(op + 4)
    for start in range(0, n, BI):
        i = (start + tl.arange(0, BI))[None, :]
        column = tl.load(table + i, mask=i < n, other=1)
        value = tl.load(s + x + tl.abs(column) - 1)
        tl.store(s + y + i, tl.where(column > 0, value, -value), mask=i < n)


@triton.jit
def _pool(op, tables, s, BB: tl.constexpr, BI: tl.constexpr):
    """The mean of every code over the views, and its maximum less the mean."""
    x, n, views, table = tl.load(op + 1), tl.load(op + 2), tl.load(op + 3), tables + tl.load(op + 4)
    # Multiplied into every code, as the CPU engine does it.
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
    """The gates of cells of equal size: their new states into y. Gates lie in the order reset, update, new."""
    from_x, from_h, state, y, n, cells = _load_six(op)
    for start in range(0, n * cells, BI):
        i = (start + tl.arange(0, BI))[None, :]
        valid = i < n * cells
        # A cell's three gates lie side by side, n values each, and cells follow one another.
        at = i // n * 3 * n + i % n
        reset = tl.load(s + from_x + at, mask=valid, other=0.0) + tl.load(s + from_h + at, mask=valid, other=0.0)
        update = tl.load(s + from_x + n + at, mask=valid, other=0.0) + tl.load(
            s + from_h + n + at, mask=valid, other=0.0
        )
        new = tl.load(s + from_x + 2 * n + at, mask=valid, other=0.0)
        new += _sigmoid(reset) * tl.load(s + from_h + 2 * n + at, mask=valid, other=0.0)
        new = 1.0 - 2.0 / (1.0 + tl.exp(2.0 * new))  # tanh; an exponential that overflows gives 1
        update = _sigmoid(update)
        before = tl.load(s + state + i, mask=valid, other=0.0)
        tl.store(s + y + i, (1.0 - update) * new + update * before, mask=valid)


@triton.jit
def _sigmoid(x):
    return 1.0 / (1.0 + tl.exp(-x))


@triton.jit
def _softmax(op, weights, base, scratch_floats, BB: tl.constexpr, NP: tl.constexpr):
    """Logits (heads, n) to probabilities, calibrated where the operation names a scale."""
    x, y, heads, n, scale, shift = _load_six(op)
    c = tl.arange(0, NP)[None, :]
    # Rows are pairs of stream and head, so that a lone stream with many heads fills a tile, too.
    for start in range(0, BB * heads, TILE):
        r = start + tl.arange(0, TILE)
        head = (r % heads)[:, None] * n
        s = (base + r // heads * scratch_floats)[:, None] + head
        valid = (r < BB * heads)[:, None] & (c < n)
        value = tl.load(s + x + c, mask=valid, other=0.0)
        if scale >= 0:
            value *= tl.load(weights + scale + head + c, mask=valid, other=1.0)
            value += tl.load(weights + shift + head + c, mask=valid, other=0.0)
        value = tl.where(c < n, value, -float("inf"))  # padding up to a power of two has no share
        value = tl.exp(value - tl.max(value, 1)[:, None])
        tl.store(s + y + c, value / tl.sum(value, 1)[:, None], mask=valid)


@triton.jit
def _output(op, tables, s, out, BI: tl.constexpr):
    """The probabilities of all heads, without the padding of smaller heads, into the row of `out`."""
    n, table = tl.load(op + 1), tables + tl.load(op + 2)
    for start in range(0, n, BI):
        i = (start + tl.arange(0, BI))[None, :]
        value = tl.load(s + tl.load(table + i, mask=i < n, other=0), mask=i < n, other=0.0)
        tl.store(out + i, value, mask=i < n)
