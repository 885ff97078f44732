"""What a checkpoint is chosen by: the mean of what is known, of the groups and metrics that the recipe names."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from rtseg.config import TrainSettings
from rtseg.errors import SettingError
from rtseg.training.selection import constant_f1, is_above, score_groups, selection_score
from tests.training.scenes import HEADS, example

SCORES = {"near": {"f1": 0.6, "map": 0.8}, "pair": {"f1": 0.2, "map": math.nan}}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, (0.7 + 0.2) / 2),  # without the score that does not exist
        ({"select": "f1"}, 0.4),
        ({"select": "map"}, 0.8),
        ({"select": "last"}, (0.7 + 0.2) / 2),
        ({"select_group": "near"}, 0.7),
        ({"select_group": "pair", "select": "f1"}, 0.2),
    ],
)
def test_the_mean_of_what_is_known(settings: dict[str, Any], expected: float) -> None:
    assert selection_score(SCORES, TrainSettings(**settings)) == pytest.approx(expected)


def test_nothing_to_choose_by_is_an_error() -> None:
    with pytest.raises(SettingError, match="no scored class has a frame"):
        selection_score(SCORES, TrainSettings(select="map", select_group="pair"))
    with pytest.raises(SettingError, match="'task9' is no head group; there are: near, pair"):
        selection_score(SCORES, TrainSettings(select_group="task9"))


def test_frames_that_were_never_answered_do_not_count() -> None:
    one = example("a", 1, masked=False)
    perfect = np.concatenate(
        [np.eye(len(h.classes), dtype=np.float32)[one.labels[:, i]] for i, h in enumerate(HEADS)], 1
    )
    assert score_groups(HEADS, [one], [perfect], 30.0)["near"]["f1"] == pytest.approx(1.0)
    wrong = perfect[:, ::-1].copy()
    wrong[:50] = perfect[:50]
    assert score_groups(HEADS, [one], [wrong], 30.0)["near"]["f1"] < 0.9
    wrong[50:] = np.nan
    assert score_groups(HEADS, [one], [wrong], 30.0)["near"]["f1"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("constant", "group", "above"),
    [
        ({"near": 0.5, "pair": 0.1}, "", True),
        ({"near": 0.5, "pair": 0.2}, "", False),  # as good is not better
        ({"near": 0.5, "pair": 0.3}, "near", True),  # the group that decides
        ({"near": 0.7, "pair": 0.1}, "near", False),
        ({"near": 0.5, "pair": math.nan}, "", True),  # nothing to be better than
    ],
)
def test_every_group_that_decides_must_beat_the_constant_answer(
    constant: dict[str, float], group: str, above: bool
) -> None:
    assert is_above(SCORES, constant, TrainSettings(select_group=group)) is above


def test_the_constant_answer_of_a_group_is_the_best_of_one_class() -> None:
    one, other = (example(name, seed, masked=False) for name, seed in (("a", 1), ("b", 2)))
    for column, head in enumerate(HEADS):
        answers = [np.tile(row, (len(one), 1)) for row in np.eye(len(head.classes), dtype=np.float32)]
        columns = slice(column, column + 1)
        labels = [replace(e, labels=e.labels[:, columns]) for e in (one, other)]
        tried = [score_groups([head], labels, [a, a], 30.0)[head.group]["f1"] for a in answers]
        assert constant_f1([head], labels)[head.group] == pytest.approx(np.nanmax(tried))
