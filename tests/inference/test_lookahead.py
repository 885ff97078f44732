"""Which frame an answer is about: the one `lookahead` frames before the one that was stepped."""

from __future__ import annotations

import pytest

from rtseg.inference.lookahead import PendingFrames


@pytest.mark.parametrize("lookahead", [0, 1, 5])
def test_an_answer_is_about_the_frame_so_many_steps_before(lookahead: int) -> None:
    pending = PendingFrames(lookahead)
    due = [pending.exchange_frame((seq, 10 * seq, seq % 3)) for seq in range(20)]
    assert due[:lookahead] == [None] * lookahead
    assert due[lookahead:] == [(seq, 10 * seq, seq % 3) for seq in range(20 - lookahead)]
    assert [seq for seq, _, _ in pending.frames] == list(range(20 - lookahead, 20))
