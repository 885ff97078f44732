"""One step of a network as a short list of operations on places in a row of scratch memory, for the `cuda` engine.

A GPU kernel that is compiled for one network would have to be compiled again for every other; this list is data, so
that one kernel (`cuda_kernel`) runs them all. Only arrays are laid out here: no GPU, no torch.

Every operation reads and writes places in a stream's scratch row. Rings lie in the stream's memory as in the numba
engine: per trunk layer (depth, C), per head layer (depth, H*G), per cell (period, hidden).
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

LINEAR, SCALE, RECALL, VIEWS, POOL, GATES, SOFTMAX, OUTPUT, REMEMBER = range(9)
"""Kinds of operations; their fields, in order, are the arguments of `_Builder.op` below."""
FIELDS = 16
"""int32 numbers of one operation, the kind first."""
NONE = -1
"""No residual, no calibration."""
NEVER = -1e4
"""The logit of a class that a head does not have, where heads are padded to the widest."""
ALIGN = 16


@dataclass(frozen=True, eq=False)
class StepProgram:
    """code (int32): 8 numbers of a header, then FIELDS per operation, then the tables that they name.

    The header: number of operations, floats of a stream's memory, of its scratch, F, P, where the tables begin.
    weights (float32). widest: classes of the head that has the most.
    """

    code: I32
    weights: F32
    ring_floats: int
    scratch_floats: int
    widest: int


HEADER = 8


class _Builder:
    def __init__(self) -> None:
        self._ops: list[list[int]] = []
        self._tables: list[I32] = []
        self._weights: list[F32] = []
        self._table_ints = self._weight_floats = self.scratch_floats = 0

    def room(self, floats: int) -> int:
        """A place for so many floats in a row's scratch."""
        at = self.scratch_floats
        self.scratch_floats += -(-floats // ALIGN) * ALIGN
        return at

    def weight(self, value: F32 | float) -> int:
        flat = np.ravel(np.asarray(value, np.float32))
        at = self._weight_floats
        self._weights.append(np.pad(flat, (0, -flat.size % ALIGN)))
        self._weight_floats += self._weights[-1].size
        return at

    def table(self, *columns: Sequence[int] | NDArray[np.integer]) -> int:
        """Columns of the same length, one after the other."""
        at = self._table_ints
        self._tables.append(np.concatenate([np.asarray(column, np.int32) for column in columns]))
        self._table_ints += self._tables[-1].size
        return at

    def op(self, kind: int, *fields: int) -> None:
        assert len(fields) < FIELDS
        self._ops.append([kind, *fields, *[0] * (FIELDS - 1 - len(fields))])

    def linear(
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

        weight: (I, O) or (groups, I, O); one weight with `groups` given serves them all. steps: from one group's x and
        y to the next one's. residual: its place and its step.
        """
        shared = weight.ndim == 2
        n = max(groups, 1) if shared else len(weight)
        n_in, n_out = weight.shape[-2:]
        w_step, b_step = (0, 0) if shared else (n_in * n_out, n_out)
        at = (self.weight(weight), self.weight(bias))
        self.op(LINEAR, x, n_in, y, n_out, *at, int(relu), n, *steps, w_step, b_step, *residual)

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
    """Where everything of one network lies, and the operations in the order of `rtseg.bundle.network`'s formula."""

    def __init__(self, spec: NetworkSpec, weights: Mapping[str, F32]) -> None:
        self.spec, self.w, self.b = spec, weights, _Builder()
        self.n_heads, self.kernel = len(spec.heads), spec.kernel
        self.widest = max(len(head.classes) for head in spec.heads)
        row = self.n_heads * spec.head_channels
        self.z, self.h = self.b.room(spec.n_features), self.b.room(spec.width)
        self.windows = [self.b.room(self.kernel * spec.channels) for _ in spec.dilations]
        self.head_windows = [self.b.room(self.kernel * row) for _ in spec.head_dilations]
        self.states = self.b.room(sum(cell.hidden for cell in spec.cells))
        self.hidden = self.b.room(max(spec.channels, row))
        # First logits (H, N) and what enters the refinement (H, G), side by side: one product makes both.
        self.logits = self.b.room(self.n_heads * self.widest + row)
        self.entered = self.logits + self.n_heads * self.widest
        self.guess, self.refined = self.b.room(self.n_heads * self.widest), self.b.room(row)

    def program(self) -> StepProgram:
        spec, b, w = self.spec, self.b, self.w
        scaler = [b.weight(w[f"scaler.{part}"]) for part in ("fill", "shift", "scale", "clip")]
        b.op(SCALE, self.z, spec.n_features, *scaler)
        ring_floats = self.rings()
        if spec.channels:
            first = self.newest(self.windows[0], spec.channels) if self.windows else self.h
            b.linear(self.z, first, w["input.weight"], w["input.bias"])
            self.block("trunk", self.windows, self.h)
        if spec.cells:
            self.cells()
        self.heads()
        b.op(REMEMBER, *self.kept)
        return b.finish(spec, ring_floats)

    def newest(self, window: int, channels: int) -> int:
        """The last tap's place in the (first head's) window: where a layer's input is put."""
        return window + (self.kernel - 1) * channels

    def rings(self) -> int:
        """All older taps and states out of the rings in one operation; notes what goes back into them at the end.

        Tap j of frame t lies at (t + 1 + j * dilation) modulo the depth, and the newest at t modulo the depth.
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
                place = window + head * k * width + channel
                reads += [(place + j * width, base + lane, depth, 1 + j * dilation, row) for j in range(k - 1)]
                writes.append((place + (k - 1) * width, base + lane, depth, row))
            base += depth * row
        state, h = self.states, self.h + spec.channels
        for cell in spec.cells:
            reads += [(state + i, base + i, cell.period, 0, cell.hidden) for i in range(cell.hidden)]
            writes += [(h + i, base + i, cell.period, cell.hidden) for i in range(cell.hidden)]
            state, h, base = state + cell.hidden, h + cell.hidden, base + cell.period * cell.hidden
        if reads:
            self.b.op(RECALL, len(reads), self.b.table(*np.array(reads).T))
        self.kept = (len(writes), self.b.table(*np.array(writes).reshape(-1, 4).T))
        return base

    def block(self, name: str, windows: list[int], last: int) -> None:
        """Residual layers of the trunk or, with the weights of all heads stacked, of the heads."""
        spec, b, k, trunk = self.spec, self.b, self.kernel, name == "trunk"
        channels, n = (spec.channels, 1) if trunk else (spec.head_channels, self.n_heads)
        get = (lambda part: self.w[f"trunk.{part}"][:, None]) if trunk else self.stacked_layers
        conv, conv_bias, mix, mix_bias = (get(f"{p}.{q}") for p in ("conv", "mix") for q in ("weight", "bias"))
        for layer, window in enumerate(windows):
            taps = conv[layer].reshape(n, k * channels, channels)
            b.linear(window, self.hidden, taps, conv_bias[layer], steps=(k * channels, channels), relu=True)
            here, end = self.newest(window, channels), layer + 1 == len(windows)
            to = last if end else self.newest(windows[layer + 1], channels)
            steps = (channels, channels if end else k * channels)
            b.linear(self.hidden, to, mix[layer], mix_bias[layer], steps=steps, residual=(here, k * channels))

    def cells(self) -> None:
        """Codes of all cells and views in one product; then each run of equal cells at once."""
        spec, b, w = self.spec, self.b, self.w
        numbers, n_views = range(len(spec.cells)), max(len(spec.views), 1)
        encoders = [cell.encoder for cell in spec.cells]
        total = sum(encoders)
        views = self.z
        if spec.views:
            views = b.room(n_views * spec.n_features)
            b.op(VIEWS, self.z, views, n_views * spec.n_features, b.table(np.ravel(spec.views)))
        weight = np.concatenate([w[f"cell.{i}.encode.weight"] for i in numbers], axis=1)
        bias = np.concatenate([w[f"cell.{i}.encode.bias"] for i in numbers])
        codes = b.room(n_views * total)
        b.linear(views, codes, weight, bias, steps=(spec.n_features, total), relu=True, groups=n_views)
        entering = codes
        if spec.views:  # of each cell first the mean over the views, then the maximum less it
            entering = b.room(2 * total)
            means = [entering + 2 * sum(encoders[:i]) + e for i in numbers for e in range(encoders[i])]
            above = [at + encoders[i] for i, at in zip(np.repeat(numbers, encoders), means, strict=True)]
            b.op(POOL, codes, total, n_views, b.table(means, above))
        state, h = self.states, self.h + spec.channels
        for _, run in groupby(numbers, lambda i: (spec.cells[i].encoder, spec.cells[i].hidden)):
            equal = list(run)
            width, hidden = spec.entering(spec.cells[equal[0]]), spec.cells[equal[0]].hidden
            given, kept = (b.room(len(equal) * 3 * hidden) for _ in range(2))
            for part, x, step, y in (("enter", entering, width, given), ("recur", state, hidden, kept)):
                stacked = [np.stack([w[f"cell.{i}.{part}.{q}"] for i in equal]) for q in ("weight", "bias")]
                b.linear(x, y, stacked[0], stacked[1], steps=(step, 3 * hidden))
            b.op(GATES, given, kept, state, h, hidden, len(equal))
            state, h = state + len(equal) * hidden, h + len(equal) * hidden
            entering += len(equal) * width

    def heads(self) -> None:
        """First answers, their refinement, calibration, softmax; heads with fewer classes are padded to N."""
        spec, b, n, g = self.spec, self.b, self.widest, self.spec.head_channels
        n_classes = [len(head.classes) for head in spec.heads]
        first = self.stacked("first.weight", 1).transpose(1, 0, 2).reshape(spec.width, -1)
        bias = self.stacked("first.bias", 0, NEVER).ravel()
        logits = self.logits
        if g:
            enter = [self.w[f"head.{head.name}.enter.weight"] for head in spec.heads]  # (n + D, G)
            from_trunk = np.concatenate([e[c:] for e, c in zip(enter, n_classes, strict=True)], axis=1)
            first = np.concatenate((first, from_trunk), axis=1)
            bias = np.concatenate((bias, self.stacked("enter.bias").ravel()))
        b.linear(self.h, logits, first, bias)
        if g:
            b.op(SOFTMAX, logits, self.guess, self.n_heads, n, NONE, NONE)
            from_first = np.stack([_padded(e[:c], 0, n) for e, c in zip(enter, n_classes, strict=True)])
            windows = self.head_windows
            to, step = (self.newest(windows[0], g), self.kernel * g) if windows else (self.refined, g)
            zeros = np.zeros((self.n_heads, g), np.float32)
            b.linear(self.guess, to, from_first, zeros, steps=(n, step), residual=(self.entered, g))
            self.block("head", windows, self.refined)
            leave, leave_bias = self.stacked("leave.weight", 1), self.stacked("leave.bias", 0)
            b.linear(self.refined, logits, leave, leave_bias, steps=(g, n), residual=(logits, n))
        scale, shift = self.stacked("calibration.scale", 0, 1.0), self.stacked("calibration.shift", 0)
        b.op(SOFTMAX, logits, self.guess, self.n_heads, n, b.weight(scale), b.weight(shift))
        places = [self.guess + head * n + c for head, count in enumerate(n_classes) for c in range(count)]
        b.op(OUTPUT, len(places), b.table(places))

    def stacked(self, suffix: str, padded: int | None = None, value: float = 0.0) -> F32:
        """One weight of every head, (H, ...); padded: the axis that is filled up to N."""
        parts = [self.w[f"head.{head.name}.{suffix}"] for head in self.spec.heads]
        return np.stack([part if padded is None else _padded(part, padded, self.widest, value) for part in parts])

    def stacked_layers(self, suffix: str) -> F32:
        """One weight of every layer and head, (layers, H, ...)."""
        return np.swapaxes(self.stacked(suffix), 0, 1)


def _padded(value: F32, axis: int, size: int, filling: float = 0.0) -> F32:
    widths = [(0, size - n if i == axis else 0) for i, n in enumerate(value.shape)]
    return np.pad(value, widths, constant_values=filling)
