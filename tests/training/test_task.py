"""What a training is given: labels by head, and a fingerprint that tells any two trainings apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rtseg import config
from rtseg.config import Recipe
from rtseg.frames.frame import checked_frame
from rtseg.frames.skeleton import MICE7
from rtseg.inference.gap_rule import RESET, GapRule
from rtseg.recordings.recording import IGNORE, Recording
from rtseg.training.task import Example, example_of, predict_in_pieces
from tests.live import gaps, random_walk, without_frames
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


def test_pieces_are_what_a_stream_steps_without_a_restart() -> None:
    """Features of a piece are those that the stream computes behind the restart; labels stay with their frames."""
    absent = gaps([4, 5, 3], 7, np.random.default_rng(2))
    walk = without_frames(random_walk(len(absent), 4), absent)
    labels = np.arange(len(walk), dtype=np.int16)
    whole = example_of(walk, {"fast": labels}, HEADS)
    (first, one), (second, two) = whole.pieces(4)
    assert (one.name, two.name) == (walk.name, f"{walk.name}@{second.start}")
    assert first.start == 7
    assert second.start - first.stop == 5
    assert second.stop == len(walk)
    np.testing.assert_array_equal(two.labels[:, 2], labels[second.start :])
    rule, started = GapRule("s", MICE7.shape, 4, 0), []
    for t in walk.came.tolist():
        frame = checked_frame(walk.keypoints[t], walk.confidence[t], shape=MICE7.shape, seq=t)
        for stepped, flags in rule.frames_to_step(frame):
            if flags & RESET or not started:
                started.append([])
            started[-1].append(stepped)
    for (_, piece), frames in zip(whole.pieces(4), started, strict=True):
        np.testing.assert_array_equal(piece.keypoints, np.stack([frame.keypoints for frame in frames]))
        np.testing.assert_array_equal(piece.confidence, np.stack([frame.confidence for frame in frames]))
    plan = recipe()
    plan = replace(plan, gaps=replace(plan.gaps, fill_frames=4))
    cut = task(plan, [whole], [example("v", 1)]).in_pieces()
    assert [len(piece) for piece in cut.training] == [len(one), len(two)]
    assert [piece.name for piece in cut.validation] == ["v"]
    probs = predict_in_pieces(whole, plan, 2, lambda piece: np.ones((len(piece), 2), np.float32))
    assert np.isnan(probs).all(axis=1).tolist() == [
        not first.start <= t < first.stop and t < second.start for t in labels
    ]
    absent_elsewhere = replace(whole, absent=np.roll(absent, 1))
    assert task(plan, [whole], []).fingerprint() != task(plan, [absent_elsewhere], []).fingerprint()
