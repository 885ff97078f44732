"""What a step of the CPU engine works with: its arrays, the regions of its scratch, and how kernels find both.

The engine fills these named tuples, `numba_kernels` reads them: neither counts fields.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rtseg.compiled import array_tables
from rtseg.compiled.array_tables import TableRows, field_indices

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
BLOCK = 24
"""Rows that go through a product together: what they need lies in the second cache beside one product's weights."""


class Regions(NamedTuple):
    """Parts of the scratch, each with room for BLOCK rows; what stands in one row of each.

    scaled: features in all views (V * F, each view padded). hidden: what trunk and cells give (D). codes: of all views
    (V * E). entering: what enters a cell (2 E). gates_in: gates from that (3 R). gates_back: gates from the state
    (3 R). states: of a cell (R). taps: of a layer (K * C or H * K * G). inner, outer: a layer's values (C or H * G).
    logits: and what enters the heads (P + H * G). probabilities: (H * N classes). leaving: what leaves the heads
    (H * N). opened: two gates after their sigmoid (2 R).
    """

    scaled: int
    hidden: int
    codes: int
    entering: int
    gates_in: int
    gates_back: int
    states: int
    taps: int
    inner: int
    outer: int
    logits: int
    probabilities: int
    leaving: int
    opened: int


class Sizes(NamedTuple):
    """Sizes of a network: int, but within kernels uintp where they go into places.

    max_classes: of the largest head. n_views: 0 where there are none.
    """

    channels: Any
    head_channels: Any
    kernel: Any
    n_layers: int
    n_head_layers: int
    n_heads: Any
    n_cells: int
    n_views: Any
    max_classes: Any


class StepArrays(NamedTuple):
    """What a step works with beside its matrices.

    vectors: of the weights. sizes: `Sizes`. dilations: of the trunk's layers (L,) and of the heads' (R,), one after the
    other. offsets: (H + 1,) of the heads' outputs. cells: (Q, 3), see CELL_SIZE. starts: where each of the `Regions`
    begins; strides: how far its rows lie apart. row_frames: (BLOCK,) room for the rows' frame numbers. columns: see
    `elementwise.scale_features`. memory: (S, floats), a slot's rings: per trunk layer (depth, C), per head layer
    (depth, H * G), per cell (period, R). frames: (S,) since a slot's reset. scratch: `Regions`; nothing in it outlives
    a block.
    """

    vectors: F32
    sizes: I64
    dilations: I64
    offsets: I64
    cells: I64
    starts: NDArray[np.uintp]
    strides: NDArray[np.uintp]
    row_frames: NDArray[np.uintp]
    columns: NDArray[np.uintp]
    memory: F32
    frames: I64
    scratch: F32


REGION, SIZE, STEP = (field_indices(*kind._fields) for kind in (Regions, Sizes, StepArrays))
ENCODER_SIZE, CELL_SIZE, PERIOD = range(3)
"""Of a cell."""


# Without the vectors: those go with the matrices (`products.Weights`).
class Step(NamedTuple):
    """The arrays of a `StepArrays`, opened, and the sizes as unsigned numbers."""

    sizes: Any
    dilations: I64
    offsets: I64
    cells: I64
    starts: NDArray[np.uintp]
    strides: NDArray[np.uintp]
    row_frames: NDArray[np.uintp]
    columns: NDArray[np.uintp]
    memory: F32
    frames: I64
    scratch: F32


@njit(cache=False, error_model="numpy")
def open_step(rows: TableRows) -> Step:
    # Unsigned where they go into places: of a signed index numba checks at every access whether it counts from the end.
    sizes = array_tables.int64s(rows, STEP.sizes)
    return Step(
        sizes=Sizes(
            channels=np.uintp(sizes[SIZE.channels]),
            head_channels=np.uintp(sizes[SIZE.head_channels]),
            kernel=np.uintp(sizes[SIZE.kernel]),
            # Signed, as these only count loops.
            n_layers=sizes[SIZE.n_layers],
            n_head_layers=sizes[SIZE.n_head_layers],
            n_heads=np.uintp(sizes[SIZE.n_heads]),
            n_cells=sizes[SIZE.n_cells],
            n_views=np.uintp(sizes[SIZE.n_views]),
            max_classes=np.uintp(sizes[SIZE.max_classes]),
        ),
        dilations=array_tables.int64s(rows, STEP.dilations),
        offsets=array_tables.int64s(rows, STEP.offsets),
        cells=array_tables.int64s_2d(rows, STEP.cells),
        starts=array_tables.uintps(rows, STEP.starts),
        strides=array_tables.uintps(rows, STEP.strides),
        row_frames=array_tables.uintps(rows, STEP.row_frames),
        columns=array_tables.uintps(rows, STEP.columns),
        memory=array_tables.float32s_2d(rows, STEP.memory),
        frames=array_tables.int64s(rows, STEP.frames),
        scratch=array_tables.float32s(rows, STEP.scratch),
    )


@njit(cache=False, error_model="numpy")
def place_of(step: Step, region: int, row: Any) -> Any:
    """Where a row of a region begins."""
    return step.starts[region] + row * step.strides[region]


@njit(cache=False, error_model="numpy")
def region_of(step: Step, region: int) -> tuple[Any, Any]:
    """Where a region begins, and how far its rows lie apart."""
    return step.starts[region], step.strides[region]
