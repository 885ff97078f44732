"""What a checkpoint is chosen by: the mean of what is known, of the groups and metrics that the recipe names."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from rtseg.config import TrainSettings
from rtseg.errors import SettingError
from rtseg.training.selection import score_groups, selection_score
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
