"""What a training is given: labels by head, and a fingerprint that tells any two trainings apart."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rtseg import config
from rtseg.config import Recipe
from rtseg.frames.skeleton import MICE7
from rtseg.recordings.recording import IGNORE, Recording
from rtseg.training.task import Example, example_of
from tests.training.scenes import HEADS, example, recipe, task


def test_heads_without_labels_are_ignored() -> None:
    one = example("a", 1)
    recording = Recording("r", MICE7, one.keypoints, one.confidence, 30.0)
    made = example_of(recording, {"fast": one.labels[:, 2]}, HEADS)
    assert (made.labels[:, :2] == IGNORE).all()
    assert (made.labels[:, 2] == one.labels[:, 2]).all()
    assert (made.name, len(made)) == ("r", len(one))


def changed(one: Example, part: str) -> Example:
    array = getattr(one, part).copy()
    array.flat[-1] = 1 if part != "keypoints" else 333
    if part == "confidence":
        array.flat[-1] = 0.5
    return replace(one, **{part: array})


@pytest.mark.parametrize("part", ["keypoints", "confidence", "labels"])
def test_a_fingerprint_knows_every_part_of_the_data(part: str) -> None:
    one, two, plan = example("a", 1), example("b", 2), recipe()
    base = task(plan, [one], [two]).fingerprint()
    assert task(plan, [one], [two]).fingerprint() == base
    one.labels.flat[-1] = 0
    base = task(plan, [one], [two]).fingerprint()
    assert task(plan, [changed(one, part)], [two]).fingerprint() != base
    assert task(plan, [one], [changed(two, part)]).fingerprint() != base
    assert task(plan, [replace(one, name="c")], [two]).fingerprint() != base
    other = config.from_plain(config.to_plain(plan), Recipe, ["train.seed=9"])
    assert task(other, [one], [two]).fingerprint() != base
    assert replace(task(plan, [one], [two]), fps=25.0).fingerprint() != base
    assert replace(task(plan, [one], [two]), heads=HEADS[::-1]).fingerprint() != base
