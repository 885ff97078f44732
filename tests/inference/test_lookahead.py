"""Which frame an answer is about: the one `lookahead` frames before the one that was stepped."""

from __future__ import annotations

import numpy as np
import pytest

from rtseg.errors import SnapshotError
from rtseg.inference.lookahead import (
    PendingFrames,
    checked_counts,
    delay_counts,
    init_counts,
    reset_counts,
    restore_counts,
    waiting_counts,
)


@pytest.mark.parametrize("lookahead", [0, 1, 5])
def test_an_answer_is_about_the_frame_so_many_steps_before(lookahead: int) -> None:
    pending = PendingFrames(lookahead)
    due = [pending.exchange_frame((seq, 10 * seq, seq % 3)) for seq in range(20)]
    assert due[:lookahead] == [None] * lookahead
    assert due[lookahead:] == [(seq, 10 * seq, seq % 3) for seq in range(20 - lookahead)]
    assert [seq for seq, _, _ in pending.frames] == list(range(20 - lookahead, 20))


@pytest.mark.parametrize("lookahead", [0, 1, 5])
def test_missing_points_are_those_of_the_frame_that_is_answered(lookahead: int) -> None:
    state, counts = init_counts(3, lookahead), np.arange(100, 120)
    for part in np.split(counts, [1, 4, 11]):
        missing = part.astype(np.int32)
        delay_counts(np.full(len(part), 1, np.int32), state, missing)
        expected = part - lookahead
        assert missing.tolist() == np.where(expected >= 100, expected, 0).tolist()
    waiting = waiting_counts(state, 1)
    assert waiting == counts[len(counts) - lookahead :].tolist()
    restore_counts(state, 2, checked_counts(state, waiting))
    reset_counts(state, 1)
    both = np.array([7, 7], np.int32)
    delay_counts(np.array([1, 2], np.int32), state, both)
    assert both.tolist() == ([0, 120 - lookahead] if lookahead else [7, 7])


@pytest.mark.parametrize("plain", [[1], [1, 2, -1], [1, 2, True], [1, 2, 2**31], "abc"])
def test_counts_that_no_lookahead_of_three_can_have_are_refused(plain: object) -> None:
    with pytest.raises(SnapshotError, match="missing points of 3 frames"):
        checked_counts(init_counts(1, 3), plain)


def test_an_older_recording_knows_of_no_missing_points() -> None:
    assert checked_counts(init_counts(1, 3), None) == [0, 0, 0]
