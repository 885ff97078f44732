"""The compiled loops write where they may and nowhere else: they find everything by its place, unchecked."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rtseg.compiled.lanes import LANES
from rtseg.model.recurrence import gru_kernels
from rtseg.model.recurrence.gru_kernels import Gradients, Passed, Rows, scratch_size

GUARD = 64


@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(1, 9),
    frames=st.integers(1, 7),
    size=st.integers(1, 40),
    period=st.integers(1, 4),
    data=st.data(),
)
def test_nothing_beside_the_rows_is_written(
    batch: int, frames: int, size: int, period: int, data: st.DataObject
) -> None:
    first = data.draw(st.integers(0, batch - 1))
    rows = Rows(first, data.draw(st.integers(first + 1, batch)), period, size)
    width, rng, guarded = -(-size // LANES) * LANES, np.random.default_rng(size), []

    def array(*shape: int) -> NDArray[np.float32]:
        # In the middle of a larger piece of memory, whose ends are looked at afterwards.
        whole = np.full(int(np.prod(shape)) + 2 * GUARD, 7.0, np.float32)
        inside = whole[GUARD:-GUARD].reshape(shape)
        inside[:] = rng.normal(size=shape)
        guarded.append(whole)
        return inside

    passed = Passed(array(batch, frames, 3 * width), array(batch, period + frames, width), array(batch, frames, width))
    gradients = Gradients(array(batch, frames, width), array(batch, frames, 3 * width), array(batch, frames, width))
    s, bias, zeros = array(scratch_size(rows, width)), array(4 * width), np.zeros(width, np.float32)
    ahead = array(3 * width // LANES, size, LANES)
    back = array(width // LANES, 3 * width, LANES)
    others = [i for i in range(batch) if not rows.first <= i < rows.last]
    before = [a[others].copy() for a in (*passed, *gradients)]
    gru_kernels.forward(passed, bias, ahead, s, rows)
    gru_kernels.backward(passed, gradients, zeros, back, s, rows)
    for array_now, array_then in zip((*passed, *gradients), before, strict=True):
        assert array_now[others].tobytes() == array_then.tobytes()
    assert all((whole[:GUARD] == 7).all() and (whole[-GUARD:] == 7).all() for whole in guarded)
    assert np.isfinite(gradients.sums[rows.first : rows.last]).all()
