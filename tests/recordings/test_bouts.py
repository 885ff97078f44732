"""Bouts and frames are the same labels in two forms."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rtseg.recordings.bouts import Bout, bouts_of, frames_of

LABELS = st.lists(st.integers(-1, 4), max_size=60).map(lambda x: np.array(x, np.int16))


@given(LABELS)
def test_frames_to_bouts_and_back(frames: np.ndarray) -> None:
    bouts = bouts_of(frames)
    np.testing.assert_array_equal(frames_of(bouts, len(frames), fill=-9), frames)
    assert all(before.stop == after.start and before.label != after.label for before, after in pairwise(bouts))
    assert sum(b.stop - b.start for b in bouts) == len(frames)


@given(st.lists(st.tuples(st.integers(-5, 30), st.integers(-5, 30), st.integers(0, 3)), max_size=8), st.integers(0, 20))
def test_bouts_to_frames_as_written_down(triples: list[tuple[int, int, int]], n_frames: int) -> None:
    expected = [-1] * n_frames
    for start, stop, label in triples:
        for t in range(n_frames):
            if start <= t < stop:
                expected[t] = label
    frames = frames_of([Bout(*x) for x in triples], n_frames, fill=-1)
    assert frames.dtype == np.int16
    assert frames.tolist() == expected
