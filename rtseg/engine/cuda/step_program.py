"""A network's step as a short list of operations that one GPU kernel interprets, for the `cuda` engine.

A kernel written for one network would have to be compiled again for every other. This list is data, so that one kernel
(`cuda_kernel`) runs every network. Only arrays are made here: no GPU, no torch.

Every operation reads and writes places in a stream's scratch row, which lives for one step only. What a stream
remembers lies in its ring buffers, as in the numba engine: per trunk layer (depth, C), per head layer (depth, H*G), per
cell (period, hidden).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from rtseg.bundle.network import NetworkSpec

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]

LINEAR, SCALE, READ_RINGS, VIEWS, POOL, GATES, SOFTMAX, OUTPUT, WRITE_RINGS = range(9)
"""Kinds of operations. Their fields, in order; places are offsets in the scratch row, `table` one in the tables:

LINEAR       x, n_in, y, n_out, weight, bias, relu, groups, and the steps from one group to the next of
             x, y, weight and bias, then residual and its step (see `_ProgramWriter.add_linear`)
SCALE        y, n, fill, shift, scale, clip: raw features to scaled ones
READ_RINGS   n, table of scratch place, ring offset, depth, shift, width: older taps and states out of the rings
VIEWS        x, y, n, table of signed columns: the features with the animals in other orders
POOL         x, n, views, table of two places: a code's mean over the views, and its maximum less the mean
GATES        from_x, from_h, state, y, hidden, cells: new states of cells of equal size
SOFTMAX      x, y, heads, n, scale, shift
OUTPUT       n, table of scratch places: the probabilities
WRITE_RINGS  n, table of scratch place, ring offset, depth, width: newest taps and states into the rings
"""
FIELDS = 16
"""int32 numbers of one operation: its kind, its fields, zeros."""
NONE = -1
"""Instead of a place: no residual, no calibration."""
ABSENT_LOGIT = -1e4
"""The logit of a class that a head does not have, where heads are padded to the widest: its probability is 0."""
ALIGN = 16
"""Places and weights begin at multiples of this many floats: a cache line of 64 bytes."""
HEADER = 8
"""int32 numbers before the first operation."""


@dataclass(frozen=True, eq=False)
class StepProgram:
    """code (int32): a header of HEADER numbers, FIELDS numbers for each operation, then the tables that they name.

    The header holds the number of operations, the floats of a stream's rings and of its scratch row, F, P, and where
    the tables begin. weights (float32): all that operations name, each aligned. widest: classes of the largest head.
    """

    code: I32
    weights: F32
    ring_floats: int
    scratch_floats: int
    widest: int


class _ProgramWriter:
    """Operations, tables and weights of a program, in the order in which they are added."""

    def __init__(self) -> None:
        self._ops: list[list[int]] = []
        self._tables: list[I32] = []
        self._weights: list[F32] = []
        self._table_ints = self._weight_floats = self.scratch_floats = 0

    def reserve(self, floats: int) -> int:
        """A place for `floats` numbers in the scratch row."""
        at = self.scratch_floats
        self.scratch_floats += -(-floats // ALIGN) * ALIGN
        return at

    def add_weight(self, value: F32 | float) -> int:
        """Where the array begins in the weights."""
        flat = np.ravel(np.asarray(value, np.float32))
        # Padded, so that every array begins on a cache line.
        at = self._weight_floats
        self._weights.append(np.pad(flat, (0, -flat.size % ALIGN)))
        self._weight_floats += self._weights[-1].size
        return at

    def add_table(self, *columns: Sequence[int] | NDArray[np.integer]) -> int:
        """Where a table of columns of the same length begins; they lie one after the other."""
        at = self._table_ints
        self._tables.append(np.concatenate([np.asarray(column, np.int32) for column in columns]))
        self._table_ints += self._tables[-1].size
        return at

    def add_op(self, kind: int, *fields: int) -> None:
        """Add an operation; it runs after all that were added before."""
        assert len(fields) < FIELDS
        self._ops.append([kind, *fields, *[0] * (FIELDS - 1 - len(fields))])

    def add_linear(
        self,
        x: int,
        y: int,
        weight: F32,
        bias: F32,
        *,
        steps: tuple[int, int] = (0, 0),
        relu: bool = False,
        residual: tuple[int, int] = (NONE, 0),
        groups: int = 0,
    ) -> None:
        """y[g] = residual[g] + relu(x[g] @ weight[g] + bias[g]) for every group g.

        weight: (groups, I, O), or (I, O), which `groups` groups share. steps: from the x and the y of one group to
        those of the next. residual: its place and its step.
        """
        shared = weight.ndim == 2
        n = max(groups, 1) if shared else len(weight)
        n_in, n_out = weight.shape[-2:]
        # A step of 0: every group reads the same weights.
        w_step, b_step = (0, 0) if shared else (n_in * n_out, n_out)
        at = (self.add_weight(weight), self.add_weight(bias))
        self.add_op(LINEAR, x, n_in, y, n_out, *at, int(relu), n, *steps, w_step, b_step, *residual)

    def finish(self, spec: NetworkSpec, ring_floats: int) -> StepProgram:
        ops = np.array(self._ops, np.int32)
        start = HEADER + ops.size
        header = np.array(
            [len(ops), ring_floats, self.scratch_floats, spec.n_features, spec.n_outputs, start, 0, 0], np.int32
        )
        code = np.concatenate([header, ops.ravel(), *self._tables])
        widest = max(len(head.classes) for head in spec.heads)
        return StepProgram(code, np.concatenate(self._weights), ring_floats, self.scratch_floats, widest)


def step_program(spec: NetworkSpec, weights: Mapping[str, F32]) -> StepProgram:
    """The program of a network's step. weights: of `spec.shapes()`."""
    return _Layout(spec, weights).program()


class _Layout:
    """Where every intermediate result of a network lies, and its operations in the order of `rtseg.bundle.network`."""

    def __init__(self, spec: NetworkSpec, weights: Mapping[str, F32]) -> None:
        self.spec, self.weights, self.writer = spec, weights, _ProgramWriter()
        self.n_heads, self.kernel = len(spec.heads), spec.kernel
        self.widest = max(len(head.classes) for head in spec.heads)
        row = self.n_heads * spec.head_channels
        self.z, self.h = self.writer.reserve(spec.n_features), self.writer.reserve(spec.width)
        self.windows = [self.writer.reserve(self.kernel * spec.channels) for _ in spec.dilations]
        self.head_windows = [self.writer.reserve(self.kernel * row) for _ in spec.head_dilations]
        self.states = self.writer.reserve(sum(cell.hidden for cell in spec.cells))
        self.hidden = self.writer.reserve(max(spec.channels, row))
        # First logits (H, N) and what enters the refinement (H, G), side by side: one product makes both.
        self.logits = self.writer.reserve(self.n_heads * self.widest + row)
        self.entered = self.logits + self.n_heads * self.widest
        self.probabilities, self.refined = self.writer.reserve(self.n_heads * self.widest), self.writer.reserve(row)

    def program(self) -> StepProgram:
        spec, b, w = self.spec, self.writer, self.weights
        scaler = [b.add_weight(w[f"scaler.{part}"]) for part in ("fill", "shift", "scale", "clip")]
        b.add_op(SCALE, self.z, spec.n_features, *scaler)
        ring_floats = self.add_ring_reads()
        if spec.channels:
            # Every layer's input is written straight into its window, so nothing is copied between layers.
            first = self.newest(self.windows[0], spec.channels) if self.windows else self.h
            b.add_linear(self.z, first, w["input.weight"], w["input.bias"])
            self.add_block("trunk", self.windows, self.h)
        if spec.cells:
            self.add_cells()
        self.add_heads()
        # At the end, so that no operation of this frame can read what this frame writes.
        b.add_op(WRITE_RINGS, *self.ring_writes)
        return b.finish(spec, ring_floats)

    def newest(self, window: int, channels: int) -> int:
        """The place of the newest tap in a window (of heads: the first head's): where a layer's input is written."""
        return window + (self.kernel - 1) * channels

    def add_ring_reads(self) -> int:
        """Read all older taps and states in one operation; the size of a stream's rings in floats.

        Tap j of frame t lies at (t + 1 + j * dilation) modulo the depth, the newest at t modulo the depth. What the end
        of the step writes back is kept in `ring_writes`.
        """
        spec, k = self.spec, self.kernel
        reads: list[tuple[int, int, int, int, int]] = []  # place in scratch, in the ring, depth, shift, width
        writes: list[tuple[int, int, int, int]] = []
        base = 0
        blocks = [(d, spec.channels, 1, at) for d, at in zip(spec.dilations, self.windows, strict=True)]
        heads = zip(spec.head_dilations, self.head_windows, strict=True)
        blocks += [(d, spec.head_channels, self.n_heads, at) for d, at in heads]
        for dilation, width, n_heads, window in blocks:
            depth, row = (k - 1) * dilation + 1, n_heads * width
            for lane in range(row):
                head, channel = divmod(lane, width)
                # In scratch a head's taps lie together, as its product reads them; in the ring a frame's channels do.
                place = window + head * k * width + channel
                reads += [(place + j * width, base + lane, depth, 1 + j * dilation, row) for j in range(k - 1)]
                writes.append((place + (k - 1) * width, base + lane, depth, row))
            base += depth * row
        state, h = self.states, self.h + spec.channels
        for cell in spec.cells:
            # A shift of 0: the state of a period ago lies where this frame's will be written.
            reads += [(state + i, base + i, cell.period, 0, cell.hidden) for i in range(cell.hidden)]
            writes += [(h + i, base + i, cell.period, cell.hidden) for i in range(cell.hidden)]
            state, h, base = state + cell.hidden, h + cell.hidden, base + cell.period * cell.hidden
        if reads:
            self.writer.add_op(READ_RINGS, len(reads), self.writer.add_table(*np.array(reads).T))
        self.ring_writes = (len(writes), self.writer.add_table(*np.array(writes).reshape(-1, 4).T))
        return base

    def add_block(self, name: str, windows: list[int], last: int) -> None:
        """Residual layers of the trunk or, with the weights of all heads stacked, of the heads.

        windows: each layer's taps, oldest first; a layer writes its result as the newest tap of the next. last: where
        the last layer writes.
        """
        spec, b, k, trunk = self.spec, self.writer, self.kernel, name == "trunk"
        channels, n = (spec.channels, 1) if trunk else (spec.head_channels, self.n_heads)
        get = (lambda part: self.weights[f"trunk.{part}"][:, None]) if trunk else self.stacked_layers
        conv, conv_bias, mix, mix_bias = (get(f"{p}.{q}") for p in ("conv", "mix") for q in ("weight", "bias"))
        for layer, window in enumerate(windows):
            # A window holds its taps side by side, so that the convolution is one product.
            taps = conv[layer].reshape(n, k * channels, channels)
            b.add_linear(window, self.hidden, taps, conv_bias[layer], steps=(k * channels, channels), relu=True)
            # The residual: a layer's own input is the newest tap of its window.
            here, end = self.newest(window, channels), layer + 1 == len(windows)
            to = last if end else self.newest(windows[layer + 1], channels)
            steps = (channels, channels if end else k * channels)
            b.add_linear(self.hidden, to, mix[layer], mix_bias[layer], steps=steps, residual=(here, k * channels))

    def add_cells(self) -> None:
        """Codes of all cells and views in one product, then each run of neighbouring cells of equal sizes at once.

        Every operation ends with a barrier, so few large ones are faster than many small ones.
        """
        spec, b, w = self.spec, self.writer, self.weights
        numbers, n_views = range(len(spec.cells)), max(len(spec.views), 1)
        encoders = [cell.encoder for cell in spec.cells]
        total = sum(encoders)
        views = self.z
        if spec.views:
            views = b.reserve(n_views * spec.n_features)
            b.add_op(VIEWS, self.z, views, n_views * spec.n_features, b.add_table(np.ravel(spec.views)))
        # The views are the groups of this product: all have the same weights.
        weight = np.concatenate([w[f"cell.{i}.encode.weight"] for i in numbers], axis=1)
        bias = np.concatenate([w[f"cell.{i}.encode.bias"] for i in numbers])
        codes = b.reserve(n_views * total)
        b.add_linear(views, codes, weight, bias, steps=(spec.n_features, total), relu=True, groups=n_views)
        entering = codes
        if spec.views:  # for each cell the mean over the views, then the maximum less the mean
            entering = b.reserve(2 * total)
            means = [entering + 2 * sum(encoders[:i]) + e for i in numbers for e in range(encoders[i])]
            above = [at + encoders[i] for i, at in zip(np.repeat(numbers, encoders), means, strict=True)]
            b.add_op(POOL, codes, total, n_views, b.add_table(means, above))
        state, h = self.states, self.h + spec.channels
        for _, run in groupby(numbers, lambda i: (spec.cells[i].encoder, spec.cells[i].hidden)):
            equal = list(run)
            width, hidden = spec.entering(spec.cells[equal[0]]), spec.cells[equal[0]].hidden
            # Kept apart: the reset gate acts on the state's part of the third gate only.
            from_x, from_h = (b.reserve(len(equal) * 3 * hidden) for _ in range(2))
            for part, x, step, y in (("enter", entering, width, from_x), ("recur", state, hidden, from_h)):
                stacked = [np.stack([w[f"cell.{i}.{part}.{q}"] for i in equal]) for q in ("weight", "bias")]
                b.add_linear(x, y, stacked[0], stacked[1], steps=(step, 3 * hidden))
            b.add_op(GATES, from_x, from_h, state, h, hidden, len(equal))
            state, h = state + len(equal) * hidden, h + len(equal) * hidden
            entering += len(equal) * width

    def add_heads(self) -> None:
        """First logits, their refinement, calibration and softmax; heads with fewer than N classes are padded."""
        spec, b, n, g = self.spec, self.writer, self.widest, self.spec.head_channels
        n_classes = [len(head.classes) for head in spec.heads]
        first = self.stacked("first.weight", 1).transpose(1, 0, 2).reshape(spec.width, -1)
        # Classes that a head does not have get a logit whose exponential is 0.
        bias = self.stacked("first.bias", 0, ABSENT_LOGIT).ravel()
        logits = self.logits
        if g:
            enter = [self.weights[f"head.{head.name}.enter.weight"] for head in spec.heads]  # (n + D, G)
            from_trunk = np.concatenate([e[c:] for e, c in zip(enter, n_classes, strict=True)], axis=1)
            first = np.concatenate((first, from_trunk), axis=1)
            bias = np.concatenate((bias, self.stacked("enter.bias").ravel()))
        b.add_linear(self.h, logits, first, bias)
        if g:
            # The refinement reads the first probabilities uncalibrated, as it was trained.
            b.add_op(SOFTMAX, logits, self.probabilities, self.n_heads, n, NONE, NONE)
            from_first = np.stack([_padded(e[:c], 0, n) for e, c in zip(enter, n_classes, strict=True)])
            windows = self.head_windows
            to, step = (self.newest(windows[0], g), self.kernel * g) if windows else (self.refined, g)
            zeros = np.zeros((self.n_heads, g), np.float32)  # the bias came with the first product
            b.add_linear(self.probabilities, to, from_first, zeros, steps=(n, step), residual=(self.entered, g))
            self.add_block("head", windows, self.refined)
            leave, leave_bias = self.stacked("leave.weight", 1), self.stacked("leave.bias", 0)
            b.add_linear(self.refined, logits, leave, leave_bias, steps=(g, n), residual=(logits, n))
        scale, shift = self.stacked("calibration.scale", 0, 1.0), self.stacked("calibration.shift", 0)
        b.add_op(SOFTMAX, logits, self.probabilities, self.n_heads, n, b.add_weight(scale), b.add_weight(shift))
        places = [self.probabilities + head * n + c for head, count in enumerate(n_classes) for c in range(count)]
        b.add_op(OUTPUT, len(places), b.add_table(places))

    def stacked(self, suffix: str, padded: int | None = None, value: float = 0.0) -> F32:
        """One weight of every head, (H, ...); padded: the axis that is filled up to N."""
        parts = [self.weights[f"head.{head.name}.{suffix}"] for head in self.spec.heads]
        return np.stack([part if padded is None else _padded(part, padded, self.widest, value) for part in parts])

    def stacked_layers(self, suffix: str) -> F32:
        """One weight of every layer and head, (layers, H, ...)."""
        return np.swapaxes(self.stacked(suffix), 0, 1)


def _padded(value: F32, axis: int, size: int, filling: float = 0.0) -> F32:
    """`value` with `axis` extended to `size`."""
    widths = [(0, size - n if i == axis else 0) for i, n in enumerate(value.shape)]
    return np.pad(value, widths, constant_values=filling)
