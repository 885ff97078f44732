"""The CPU engine: a fused step in numba. The default wherever there is no GPU, and what every other one is checked by.

Lays a bundle's weights out once at load; the computing is in `numba_kernels`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.bundle.network import NetworkSpec
from rtseg.compiled.ahead import Kernel
from rtseg.compiled.array_tables import ArrayTable
from rtseg.compiled.lanes import LANES
from rtseg.engine.cpu import numba_kernels as kernels
from rtseg.engine.cpu import step_tables
from rtseg.engine.cpu.slot_memory import SlotMemoryEngine, aligned, laid, padded
from rtseg.errors import EngineError

F32 = NDArray[np.float32]


class NumbaEngine(SlotMemoryEngine):
    """A stream's bits depend on nothing but its own frames, whatever the batch.

    stored: `float32`, or `float16` where every weight of every matrix is one exactly: half the bytes, the same bits.
    """

    spec: NetworkSpec

    def __init__(self, spec: NetworkSpec, weights: Mapping[str, F32], capacity: int) -> None:
        super().__init__(spec, capacity)
        # The kernel scales the features once and takes all other views from them.
        if spec.views and list(spec.views[0]) != list(range(1, spec.n_features + 1)):
            raise EngineError(f"the first view must be the features as they are, got {list(spec.views[0])[:8]} ...")
        c, g, k, n_heads = spec.channels, spec.head_channels, spec.kernel, len(spec.heads)
        vectors, self._matrices = packed_weights(spec, weights)
        self.stored = "float16" if self._matrices.dtype == np.uint16 else "float32"
        self.kernels = (advance_for(self._matrices.dtype.name),)
        sizes = step_tables.Sizes(
            channels=c,
            head_channels=g,
            kernel=k,
            n_layers=len(spec.dilations),
            n_head_layers=len(spec.head_dilations),
            n_heads=n_heads,
            n_cells=len(spec.cells),
            n_views=len(spec.views),
            max_classes=max(len(h.classes) for h in spec.heads),
        )
        # Regions lie one after the other in one scratch: one address, and no allocation in the kernel.
        regions = np.array(_regions(spec, sizes.max_classes), np.uintp)
        cells = [(cell.encoder, cell.hidden, cell.period) for cell in spec.cells]
        self._table = ArrayTable(
            step_tables.StepArrays(
                vectors=vectors,
                sizes=np.array(sizes, np.int64),
                dilations=np.array([*spec.dilations, *spec.head_dilations], np.int64),
                offsets=np.array(spec.offsets, np.int64),
                cells=np.array(cells, np.int64).reshape(-1, 3),
                # Each region has room for BLOCK rows before the next one begins.
                starts=step_tables.BLOCK * (np.cumsum(regions, dtype=np.uintp) - regions),
                strides=regions,
                row_frames=np.zeros(step_tables.BLOCK, np.uintp),
                columns=_columns(spec),
                # A slot's rings, in the order in which they lie in its memory: trunk, heads, cells.
                memory=self._memory,
                frames=self._frames,
                scratch=aligned((step_tables.BLOCK * int(regions.sum()) + LANES,), np.float32),
            )
        )
        # Matrices are no part of the table: they may have two types, which a kernel must see as its argument's.
        self._vector_bytes, self._rows = vectors.nbytes, self._table.rows

    @property
    def weight_bytes(self) -> int:
        """Bytes of everything that a step reads and never writes."""
        return int(self._matrices.nbytes + self._vector_bytes)

    def step(self, features: F32, slots: NDArray[np.int32], out: F32) -> None:
        kernels.advance(features, slots, self._matrices, self._rows, out)


def advance_for(matrices: str) -> Kernel:
    """The step, compiled for matrices of this type: `float32`, or `uint16` of those stored as float16."""
    return Kernel(
        kernels.__name__, "advance", f"float32[:,::1], int32[::1], {matrices}[::1], int64[:,::1], float32[:,::1]"
    )


def _regions(spec: NetworkSpec, classes: int) -> step_tables.Regions:
    """Floats that a row needs in every part of the scratch, whole LANES of them.

    Values may pass their end by less than LANES, as do loops over whole LANES: hence the room after some of them.
    """
    views, n_heads = max(len(spec.views), 1), len(spec.heads)
    heads = n_heads * padded(spec.head_channels)
    entering = max((spec.entering(cell) for cell in spec.cells), default=0)
    hidden = max((cell.hidden for cell in spec.cells), default=0)
    layer = max(padded(spec.channels), heads)
    taps = spec.kernel * max(spec.channels, n_heads * spec.head_channels)
    of_classes = n_heads * padded(classes)
    codes = views * padded(sum(cell.encoder for cell in spec.cells))
    return step_tables.Regions(
        # Views lie side by side from row to row, so there is no room between rows; neither is there between codes.
        scaled=views * padded(spec.n_features),
        hidden=padded(padded(spec.width) + LANES),
        codes=codes,
        entering=padded(entering),
        gates_in=padded(3 * hidden + LANES),
        gates_back=padded(3 * hidden + LANES),
        states=padded(hidden + LANES),
        taps=padded(taps),
        inner=layer,
        outer=layer,
        logits=padded(padded(spec.n_outputs) + heads + LANES),
        probabilities=of_classes,
        leaving=of_classes,
        opened=padded(2 * hidden + LANES),
    )


def _columns(spec: NetworkSpec) -> NDArray[np.uintp]:
    """How the other views come from the features as they are; see `elementwise.scale_features`."""
    # The first view is the features themselves and needs no columns.
    others, wide = spec.views[1:], padded(spec.n_features)
    columns = [abs(column) - 1 for view in others for column in view]
    turned = [
        (v + 1) * wide + place for v, view in enumerate(others) for place, column in enumerate(view) if column < 0
    ]
    return np.array([*columns, *turned], np.uintp)


def packed_weights(spec: NetworkSpec, weights: Mapping[str, F32]) -> tuple[F32, NDArray[Any]]:
    """A bundle's vectors and matrices in the order in which a step reads them (`products`)."""
    vectors = [weights[f"scaler.{part}"] for part in ("fill", "shift", "scale", "clip")]
    matrices = []
    for bias, weight in _products(spec, weights):
        vectors += list(bias)
        matrices += [_panels(matrix) for matrix in weight]
    for part in ("scale", "shift"):
        vectors.append(np.concatenate([weights[f"head.{h.name}.calibration.{part}"] for h in spec.heads]))
    flat = np.concatenate(matrices).astype(np.float32)
    with np.errstate(over="ignore"):  # too large for float16 becomes infinite, which is not equal below
        halves = flat.astype(np.float16)
    # All or none: one kernel reads all matrices. Training rounds them to float16 before it scores a bundle, so nearly
    # every bundle is stored in half the bytes.
    if np.array_equal(halves.astype(np.float32), flat):
        # As bits: numba has no float16, and `lanes.load` widens them itself.
        flat = halves.view(np.uint16)
    return laid(np.concatenate([_widened(v) for v in vectors]).astype(np.float32)), laid(flat)


def _products(spec: NetworkSpec, w: Mapping[str, F32]) -> Iterator[tuple[F32, F32]]:
    """Every product of a step in order: biases (groups, outputs) and weights (groups, inputs, outputs)."""
    heads = [f"head.{h.name}" for h in spec.heads]
    if spec.channels:
        yield w["input.bias"][None], w["input.weight"][None]
        for layer in range(len(spec.dilations)):
            yield from _residual([w[f"trunk.{part}"][layer][None] for part in _RESIDUAL])
    if spec.cells:
        cells = [f"cell.{number}" for number in range(len(spec.cells))]
        # Encoders of all cells read the same features, so they are one product.
        bias = np.concatenate([w[f"{cell}.encode.bias"] for cell in cells])
        yield bias[None], np.concatenate([w[f"{cell}.encode.weight"] for cell in cells], axis=1)[None]
        for cell in cells:
            for part in ("enter", "recur"):
                yield w[f"{cell}.{part}.bias"][None], w[f"{cell}.{part}.weight"][None]
    first_bias = _widened(np.concatenate([w[f"{h}.first.bias"] for h in heads]))
    first_weight = _widened(np.concatenate([w[f"{h}.first.weight"] for h in heads], axis=1))
    if not spec.head_channels:
        yield first_bias[None], first_weight[None]
        return
    n_classes = [len(h.classes) for h in spec.heads]
    # All heads as groups of one product need the same sizes: smaller heads are filled up with zeros.
    most = max(n_classes)
    enter = [w[f"{h}.enter.weight"] for h in heads]  # each (n + D, G): probabilities, then the trunk
    biases = [first_bias, *(_widened(w[f"{h}.enter.bias"]) for h in heads)]
    # What enters a head from the trunk is computed with the heads' first logits, in one product.
    weights = [first_weight, *(_widened(e[n:]) for e, n in zip(enter, n_classes, strict=True))]
    yield np.concatenate(biases)[None], np.concatenate(weights, axis=1)[None]
    from_first = np.stack([np.pad(e[:n], ((0, most - n), (0, 0))) for e, n in zip(enter, n_classes, strict=True)])
    yield np.zeros((len(heads), spec.head_channels), np.float32), from_first
    for layer in range(len(spec.head_dilations)):
        yield from _residual([np.stack([w[f"{h}.{part}"][layer] for h in heads]) for part in _RESIDUAL])
    spare = [most - n for n in n_classes]
    biases = [np.pad(w[f"{h}.leave.bias"], (0, n)) for h, n in zip(heads, spare, strict=True)]
    weights = [np.pad(w[f"{h}.leave.weight"], ((0, 0), (0, n))) for h, n in zip(heads, spare, strict=True)]
    yield np.stack(biases), np.stack(weights)


_RESIDUAL = ("conv.bias", "conv.weight", "mix.bias", "mix.weight")


def _residual(parts: list[F32]) -> Iterator[tuple[F32, F32]]:
    """Both products of one layer of all groups."""
    bias, conv, mix_bias, mix = parts  # conv: (groups, K, C, C)
    yield bias, conv.reshape(len(conv), -1, conv.shape[-1])
    yield mix_bias, mix


def _panels(weight: F32) -> F32:
    """(inputs, outputs) to panels (inputs, LANES), one after the other and flat."""
    # So that a load gets LANES outputs of one input, and the next load those of the next input.
    wide = _widened(weight)
    return np.ravel(wide.reshape(len(weight), -1, LANES).transpose(1, 0, 2))


def _widened(part: F32) -> F32:
    """The last axis filled up to whole LANES with zeros."""
    return np.pad(part, [(0, 0)] * (part.ndim - 1) + [(0, padded(part.shape[-1]) - part.shape[-1])])
