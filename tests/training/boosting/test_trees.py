"""Gradient boosting: it learns, the same seed gives the same trees, causal trees see no future, NaN is data."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from rtseg.config import Recipe
from rtseg.errors import SettingError
from rtseg.recordings.recording import IGNORE
from rtseg.training.boosting import trees as boosting
from rtseg.training.boosting.trees import TrainedTrees, train_trees
from rtseg.training.boosting.window_table import WindowTable
from rtseg.training.task import Example
from tests.training.scenes import HEADS, example, recipe, task

SMALL = {"windows_s": [0.2, 0.5], "trees": 8, "depth": 3, "min_child_weight": 1.0}


def plan(changes: dict[str, Any] | None = None, **model: Any) -> Recipe:
    return recipe(
        features={"groups": ["speed", "center"]},
        model={"kind": "gradient-boosting", **model},
        boosting={**SMALL, **(changes or {})},
    )


def boosted(
    settings: Recipe, training: list[Example] | None = None, validation: list[Example] | None = None
) -> TrainedTrees:
    return train_trees(task(settings, training or [example("a", 1), example("b", 2)], validation or [example("c", 3)]))


@pytest.fixture(scope="module")
def causal() -> TrainedTrees:
    return boosted(plan())


def test_it_learns_and_says_how_well(causal: TrainedTrees) -> None:
    assert causal.score > 0.8
    assert [entry["head"] for entry in causal.history] == [head.name for head in HEADS]
    assert causal.epoch == sum(entry["rounds"] for entry in causal.history) <= 8 * len(HEADS)
    assert causal.nodes > 50
    answers = causal.predict(example("d", 4, 200))
    assert answers.shape == (200, 7)
    assert answers.dtype == np.float32
    for first, last in ((0, 2), (2, 5), (5, 7)):
        np.testing.assert_allclose(answers[:, first:last].sum(1), 1.0, atol=1e-6)


def test_the_same_seed_gives_the_same_answers(causal: TrainedTrees) -> None:
    one = example("d", 4)
    assert boosted(plan()).predict(one).tobytes() == causal.predict(one).tobytes()


@pytest.mark.parametrize("is_causal", [True, False])
def test_only_trees_that_may_see_the_future_do(is_causal: bool) -> None:
    trees, one = boosted(plan(causal=is_causal)), example("d", 4, 300)
    changed = replace(one, keypoints=one.keypoints.copy())
    changed.keypoints[200:] = example("e", 5, 300).keypoints[200:]
    same = trees.predict(one)[:200].tobytes() == trees.predict(changed)[:200].tobytes()
    assert same == is_causal


def test_recordings_without_any_point_are_answered(causal: TrainedTrees) -> None:
    one = example("d", 4, 100)
    one.keypoints[:] = np.nan
    one.confidence[:] = 0
    assert np.isfinite(causal.predict(one)).all()


def test_a_lookahead_is_undone() -> None:
    """With k frames of lookahead, row t is what the windows that end at t + k say, and the last k have no answer."""
    settings, one = plan(lookahead_frames=5), example("d", 4, 100)
    trees = boosted(settings)
    answers = trees.predict(one)
    assert np.isnan(answers[95:]).all()
    assert np.isfinite(answers[:95]).all()
    late = WindowTable(task(settings, [], [])).rows(one)
    assert late.tobytes() == WindowTable(task(plan(), [], [])).rows(one)[5:].tobytes()
    changed = replace(one, keypoints=one.keypoints.copy())
    changed.keypoints[60:] = np.nan
    assert trees.predict(changed)[:55].tobytes() == answers[:55].tobytes()


def test_rows_are_thinned_evenly_and_need_a_label() -> None:
    table = WindowTable(task(plan(), [], []))
    one, two = example("a", 1, 300), example("b", 2, 200)
    two.labels[50:] = IGNORE
    rows, labels, owners, frames = table.sample([one, two], 100)
    assert frames.tolist() == [*range(0, 300, 4), *range(0, 50, 4)]
    assert owners.tolist() == [0] * 75 + [1] * 13
    assert len(rows) == len(labels) == 75 + 13  # every fourth of 300, and of the first 50
    assert rows[:75].tobytes() == table.rows(one)[::4].tobytes()
    assert labels[75:].tolist() == two.labels[:50:4].tolist()
    assert len(table.sample([one, two], 10_000)[0]) == 350


def test_a_head_that_nobody_labelled_stays_undecided() -> None:
    training = [example("a", 1)]
    training[0].labels[:, 2] = IGNORE
    trees = boosted(plan(), training)
    np.testing.assert_allclose(trees.predict(example("d", 4, 50))[:, 5:], 0.5)
    assert trees.history[2]["rounds"] == 0


def test_boosting_stops_early_on_the_validation_recordings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boosting, "EARLY_STOPPING_ROUNDS", 3)
    validation = example("c", 3)
    rng = np.random.default_rng(0)
    validation.labels[:, 1] = rng.integers(0, 3, len(validation))  # nothing to be learned
    trees = boosted(plan({"trees": 40}), validation=[validation])
    assert trees.history[1]["rounds"] < 40


def test_validation_recordings_among_the_training_ones_choose_the_rounds_and_are_then_learned_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(boosting, "EARLY_STOPPING_ROUNDS", 3)
    setting = plan({"trees": 40, "frames": 10_000})
    some, held = [example("a", 1), example("b", 2)], [example("c", 3)]
    chosen = boosted(setting, some, validation=held)
    anew = boosted(setting, [*some, *held], validation=held)
    assert [b.num_boosted_rounds() for b in anew.boosters] == [entry["rounds"] for entry in anew.history]
    assert anew.history[0]["rounds"] < 40  # stopped by recordings that it had not learned from yet
    labels = held[0].labels[:, 0]
    known = labels != IGNORE
    told, guessed = (t.predict(held[0])[known, :2][np.arange(known.sum()), labels[known]] for t in (anew, chosen))
    assert told.mean() > guessed.mean()
    with pytest.raises(SettingError, match="at least one training"):
        boosted(setting, held, validation=held)


def test_where_the_last_is_taken_stretches_of_training_choose_and_validation_nothing() -> None:
    setting = recipe(
        features={"groups": ["speed", "center"]},
        model={"kind": "gradient-boosting"},
        boosting={**SMALL, "trees": 30},
        train={"select": "last"},
    )
    some = [example("a", 1), example("b", 2)]
    chosen = boosted(setting, some, [example("c", 3)])
    none = train_trees(task(setting, some, []))
    assert np.isnan(none.score)
    assert not np.isnan(chosen.score)
    one = example("d", 4, 100)
    assert none.predict(one).tobytes() == chosen.predict(one).tobytes()
    assert all(1 <= entry["rounds"] <= 30 and entry["loss"] > 0 for entry in none.history)
    noise = example("a", 1)
    noise.labels[:, 1] = np.random.default_rng(0).integers(0, 3, len(noise))  # nothing to be learned
    assert train_trees(task(setting, [noise], [])).history[1]["rounds"] < 15


def test_windows_have_a_length() -> None:
    with pytest.raises(SettingError, match="windows_s"):
        plan({"windows_s": [0.0]})


def test_nothing_to_learn_from_is_an_error() -> None:
    with pytest.raises(SettingError, match="at least one training"):
        train_trees(task(plan(), [], [example("c", 3)]))
    bare = example("a", 1)
    bare.labels[:] = IGNORE
    with pytest.raises(SettingError, match="label"):
        boosted(plan(), [bare])
