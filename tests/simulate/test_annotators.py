"""People who label: boundaries, short bouts, and that no two of them agree."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtseg.recordings.bouts import bouts_of
from rtseg.simulate.annotators import (
    ANNOTATORS,
    TASK3_BEHAVIOURS,
    drop_short_bouts,
    label_task1,
    label_task2,
    label_task3,
    shift_boundaries,
)
from rtseg.simulate.behaviour import AGGRESSIVE, ATTACK, CALM, INVESTIGATION, MOUNT
from rtseg.simulate.body import simulate_motion
from rtseg.simulate.plan import draw_plan

labels_of_some_length = st.lists(st.integers(0, 3), min_size=1, max_size=60).map(lambda x: np.array(x, np.int8))


@given(labels_of_some_length, st.integers(0, 2**32), st.floats(-5, 10), st.floats(0, 8))
def test_shifted_boundaries_keep_length_and_order(labels: np.ndarray, seed: int, delay: float, jitter: float) -> None:
    shifted = shift_boundaries(np.random.default_rng(seed), labels, delay, jitter)
    assert shifted.shape == labels.shape
    remaining = iter(bout.label for bout in bouts_of(labels))
    assert all(any(label == before for before in remaining) for label in (b.label for b in bouts_of(shifted)))


@given(labels_of_some_length)
def test_a_pure_delay_moves_every_boundary_by_as_much(labels: np.ndarray) -> None:
    shifted = shift_boundaries(np.random.default_rng(0), labels, delay_frames=3, jitter_frames=0)
    np.testing.assert_array_equal(shifted[3:], labels[:-3])
    assert (shifted[:3] == labels[0]).all()


@given(labels_of_some_length, st.integers(1, 12))
def test_no_short_bout_remains_but_the_first(labels: np.ndarray, least: int) -> None:
    kept = drop_short_bouts(labels, least)
    assert all(stop - start >= least for start, stop, _ in bouts_of(kept)[1:])


@pytest.fixture(scope="module")
def scene() -> tuple:
    rng = np.random.default_rng(8)
    plan = draw_plan(rng, 20_000, CALM, AGGRESSIVE)
    return plan, simulate_motion(rng, plan)


def test_task1_labels_are_the_plan_but_for_its_boundaries(scene: tuple) -> None:
    plan, _ = scene
    labels = label_task1(np.random.default_rng(0), plan)
    differ = labels != plan.behaviour
    assert 0 < differ.mean() < 0.06


def test_annotators_agree_in_the_main_and_never_wholly(scene: tuple) -> None:
    plan, motion = scene
    tracks = {a.name: label_task2(np.random.default_rng(1), plan, motion, a) for a in ANNOTATORS}
    assert list(tracks) == [f"annotator-id_{i}" for i in range(1, 6)]
    for one, two in combinations(tracks.values(), 2):
        assert 0.6 < (one == two).mean() < 0.99
    for labels in tracks.values():
        assert {ATTACK, INVESTIGATION, MOUNT} < set(labels.tolist())


def test_biases_show(scene: tuple) -> None:
    """The generous one sees more investigation than the strict one; the slow one notes no short bout."""
    plan, motion = scene
    strict, generous, slow = (label_task2(np.random.default_rng(1), plan, motion, ANNOTATORS[i]) for i in (1, 2, 3))
    assert (generous == INVESTIGATION).sum() > 1.3 * (strict == INVESTIGATION).sum()
    assert (generous == MOUNT).sum() < (strict == MOUNT).sum()  # attempts are no mounts to the generous
    lengths = [stop - start for start, stop, _ in bouts_of(slow)]
    assert np.median(lengths) > np.median([stop - start for start, stop, _ in bouts_of(generous)])


@pytest.mark.parametrize("behaviour", TASK3_BEHAVIOURS)
def test_task3_behaviours_are_rare_but_there(behaviour: str) -> None:
    rng = np.random.default_rng(9)
    plans = [draw_plan(rng, 15_000, CALM) for _ in range(6)]
    share = float(np.mean([label_task3(rng, plan, behaviour).mean() for plan in plans]))
    assert 0.01 < share < 0.12
