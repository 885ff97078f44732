"""Predictions in a recording as tables: what a table can't hold is damaged."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rtseg.playback.export import _checked_answer

HEADS = {"task": ("other", "attack")}
WHOLE: dict[str, Any] = {
    "v": 1,
    "stream": "cage",
    "seq": 3,
    "t_source_ns": 5,
    "t_recv_ns": 6,
    "t_pub_ns": 7,
    "probs": {"task": np.array([0.25, 0.75], "<f4").tobytes()},
    "label": {"task": "attack"},
    "event": {},
    "quality": 8,
    "model": "m",
}


def test_a_whole_prediction_is_taken() -> None:
    assert _checked_answer(WHOLE, "m", HEADS).label == {"task": "attack"}


@pytest.mark.parametrize("field", ["seq", "t_source_ns", "t_recv_ns", "t_pub_ns", "quality"])
@pytest.mark.parametrize("value", [-1, 2**63, 2**64 - 1, 1.5, "3", True])
def test_numbers_that_no_column_holds_are_damaged(field: str, value: object) -> None:
    with pytest.raises(ValueError, match="numbers out of range"):
        _checked_answer(WHOLE | {field: value}, "m", HEADS)


def test_flags_beyond_their_column_are_damaged() -> None:
    with pytest.raises(ValueError, match="numbers out of range"):
        _checked_answer(WHOLE | {"quality": 2**31}, "m", HEADS)
