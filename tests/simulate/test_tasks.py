"""Sequences in memory: the same bytes for a seed, and `simulated` on every one."""

from __future__ import annotations

import numpy as np
import pytest

from rtseg.errors import SettingError
from rtseg.frames.skeleton import MICE7
from rtseg.simulate.behaviour import ATTACK
from rtseg.simulate.tasks import GROUPS, simulate_group, simulate_sequence


def test_a_seed_gives_the_same_bytes() -> None:
    (one, labels), (two, again) = (simulate_sequence(4, 3000) for _ in range(2))
    assert one.keypoints.tobytes() == two.keypoints.tobytes()
    assert one.confidence.tobytes() == two.confidence.tobytes()
    assert labels.frames.tobytes() == again.frames.tobytes()


@pytest.mark.parametrize("other", [{"seed": 5}, {"name": "another"}, {"aggressive": True}])
def test_another_seed_name_or_temper_gives_other_mice(other: dict) -> None:
    one, _ = simulate_sequence(4, 300)
    two, _ = simulate_sequence(**({"seed": 4, "n_frames": 300} | other))
    assert (one.keypoints != two.keypoints).mean() > 0.9


def test_a_sequence_says_what_it_is() -> None:
    recording, labels = simulate_sequence(0, 1000, name="load-1")
    assert recording.simulated
    assert "simulated" in recording.source
    assert (recording.name, recording.fps, recording.skeleton) == ("load-1", 30.0, MICE7)
    assert recording.keypoints.shape == (1000, 2, 7, 2)
    assert not np.isnan(recording.keypoints).any()
    assert labels.classes == ("attack", "investigation", "mount", "other")
    assert labels.frames.shape == (1000,)


def test_missing_points_are_dropped_and_nothing_else_changes() -> None:
    whole, labels = simulate_sequence(1, 4000)
    holes, same = simulate_sequence(1, 4000, missing=True)
    there = ~np.isnan(holes.keypoints)
    assert 0.9 < there.mean() < 1
    np.testing.assert_array_equal(holes.keypoints[there], whole.keypoints[there])
    assert (holes.confidence[~there.all(axis=-1)] == 0).all()
    np.testing.assert_array_equal(labels.frames, same.frames)


@pytest.mark.parametrize("n_frames", [1, 2, 7])
def test_the_shortest_sequences_work(n_frames: int) -> None:
    recording, labels = simulate_sequence(0, n_frames)
    assert len(recording) == len(labels.frames) == n_frames


def test_no_frame_is_refused() -> None:
    with pytest.raises(SettingError, match="at least one frame, got n_frames=0"):
        simulate_sequence(0, 0)


def test_more_sequences_leave_the_others_as_they_were() -> None:
    few = list(simulate_group(1, "train", "annotator-id_0", 2, seed=1, minutes=0.3))
    more = list(simulate_group(1, "train", "annotator-id_0", 4, seed=1, minutes=0.3))
    assert len(few) == 2
    assert len(more) == 4
    for (one, _), (two, _) in zip(few, more, strict=False):
        assert one.name == two.name
        assert one.keypoints.tobytes() == two.keypoints.tobytes()


def test_few_task1_sequences_hold_attacks() -> None:
    attacks = [
        bool((labels.frames == ATTACK).any())
        for _, labels in simulate_group(1, "train", "annotator-id_0", 8, seed=2, minutes=2)
    ]
    assert sum(attacks) == 2


@pytest.mark.parametrize("annotator", GROUPS[2])
def test_every_annotator_meets_every_class_in_one_sequence(annotator: str) -> None:
    (pair,) = simulate_group(2, "train", annotator, 5, seed=0, minutes=3)
    assert set(pair[1].frames.tolist()) == {0, 1, 2, 3}


@pytest.mark.parametrize("behaviour", GROUPS[3])
def test_every_task3_sequence_shows_its_behaviour(behaviour: str) -> None:
    for recording, labels in simulate_group(3, "test", behaviour, 14, seed=0, minutes=1.5):
        assert recording.simulated
        assert labels.classes == ("other", behaviour)
        assert 0 < labels.frames.mean() < 0.4
