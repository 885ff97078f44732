"""Every kind through the one function: it learns, it is the same twice, and its answers stand at the right frame."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from rtseg.config import KINDS, Recipe
from rtseg.errors import SettingError
from rtseg.training.fit import FittedSystem, fit
from rtseg.training.loop import train
from rtseg.training.task import Example
from tests.training.boosting.test_trees import SMALL
from tests.training.scenes import example, recipe, task

MODEL = {"attention_window": 16, "window_frames": 44, "stages": 2, "dropout": 0.0}
NETWORKS = [kind for kind in KINDS if kind != "gradient-boosting"]


def plan(kind: str, model: dict[str, Any] | None = None, **train: Any) -> Recipe:
    return recipe(
        model={"kind": kind, **MODEL, **(model or {})},
        boosting=SMALL,
        augment={"rotate": False, "mirror": False, "drop_points": 0.0},
        train={"epochs": 4, "batch": 2, **train},
    )


def fitted(settings: Recipe, training: list[Example] | None = None) -> FittedSystem:
    return fit(task(settings, training or [example("a", 1, 800)], [example("c", 3, 200)]))


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_it_learns_and_answers_every_frame(kind: str, causal: bool) -> None:
    found = fitted(plan(kind, {"causal": causal}))
    probs = found.predict(example("d", 4, 150))
    assert probs.shape == (150, 7)
    assert np.isfinite(probs).all()
    for first, last in ((0, 2), (2, 5), (5, 7)):
        np.testing.assert_allclose(probs[:, first:last].sum(1), 1.0, atol=1e-5)
    assert found.parameters > 0
    assert found.seconds > 0
    assert np.isfinite(found.score)
    if kind in NETWORKS:
        assert found.multiply_adds > 0
        assert found.history[-1]["loss"] < found.history[0]["loss"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_bits(kind: str) -> None:
    one, two = (fitted(plan(kind, epochs=1)).predict(example("d", 4, 150)) for _ in range(2))
    assert one.tobytes() == two.tobytes()


@pytest.mark.parametrize("kind", ["multitask-tcn", "gru", "gradient-boosting"])
def test_a_lookahead_is_undone(kind: str) -> None:
    found, one = fitted(plan(kind, {"lookahead_frames": 6}, epochs=1)), example("d", 4, 150)
    before = found.predict(one)
    assert np.isnan(before[144:]).all()
    assert np.isfinite(before[:144]).all()
    changed = replace(one, keypoints=one.keypoints.copy())
    changed.keypoints[100:] += 200
    after = found.predict(changed)
    assert before[:94].tobytes() == after[:94].tobytes()  # row t is answered at t + 6
    assert (before[94:144] != after[94:144]).any()


def test_a_short_recording_and_a_long_lookahead() -> None:
    found = fitted(plan("multitask-tcn", {"lookahead_frames": 6}, epochs=1))
    assert np.isnan(found.predict(example("d", 4, 100))[94:]).all()
    one = example("d", 4, 100)
    short = Example("e", one.keypoints[:4], one.confidence[:4], one.labels[:4])
    assert found.predict(short).shape == (4, 7)
    assert np.isnan(found.predict(short)).all()


@pytest.mark.parametrize("select", ["f1", "map", "last"])
def test_what_a_checkpoint_is_chosen_by(select: str) -> None:
    found = fitted(plan("gru", select=select, select_group="pair", epochs=4))
    pairs = [entry["groups"]["pair"] for entry in found.history]
    if select == "last":
        assert found.epoch == 4
    else:
        assert found.score == pytest.approx(max(pair[select] for pair in pairs))
        assert found.score == pytest.approx(pairs[found.epoch - 1][select])


def test_an_unknown_group_cannot_choose() -> None:
    with pytest.raises(SettingError, match="near, pair"):
        fitted(plan("gru", select_group="task9", epochs=1))


@pytest.mark.parametrize(("kind", "causal"), [("gru", True), ("multitask-tcn", False)])
def test_only_a_causal_multitask_tcn_becomes_a_bundle(kind: str, causal: bool) -> None:
    settings = plan(kind, {"causal": causal}, epochs=1)
    trained = train(task(settings, [example("a", 1)], [example("c", 3, 200)]))
    with pytest.raises(SettingError, match="only a causal multitask-tcn"):
        _ = trained.spec
