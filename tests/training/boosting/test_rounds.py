"""What chooses the number of rounds where held-out recordings may not: stretches of training recordings, in turn."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rtseg.training.boosting.rounds import FOLDS, fewest_losses, time_folds

LENGTHS = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 4)), min_size=1, max_size=4)


@given(LENGTHS, st.integers(1, 20))
def test_every_row_is_held_out_once_and_nothing_near_it_is_learnt(lengths: list[tuple[int, int]], margin: int) -> None:
    owners = np.concatenate([np.full(n, i, np.int32) for i, (n, _) in enumerate(lengths)])
    frames = np.concatenate([np.arange(n, dtype=np.int64) * every for n, every in lengths])
    times = np.zeros(len(frames), np.int64)
    folds = list(time_folds(owners, frames, margin))
    assert len(folds) == FOLDS
    for learnt, held in folds:
        times += held
        assert not (learnt & held).any()
        for owner in range(len(lengths)):
            mine, theirs = frames[learnt & (owners == owner)], frames[held & (owners == owner)]
            if len(mine) and len(theirs):
                # Held out is one stretch of time of each recording.
                assert ((mine <= theirs[0] - margin) | (mine >= theirs[-1] + margin)).all()
    assert (times == 1).all()


def test_the_fewest_losses_of_all_folds_together() -> None:
    assert fewest_losses([(1.0, [3.0, 1.0, 2.0]), (3.0, [3.0, 2.5, 1.0])], 9) == 3
    assert fewest_losses([(3.0, [3.0, 1.0, 2.0]), (1.0, [3.0, 2.5, 1.0])], 9) == 2
    assert fewest_losses([], 9) == 9
