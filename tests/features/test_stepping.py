"""Stepping: run equals step bit for bit, streams don't disturb each other, no future frame, reset and state."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rtseg.errors import SnapshotError
from rtseg.features.extractor import FeatureExtractor, FeatureState
from rtseg.features.slot_state import set_slot, slot_bytes
from rtseg.features.spec import FeatureSpec
from tests.features.scenes import ARENA, extractor_of, wander

F32 = NDArray[np.float32]
ELSEWHERE = (0.0, 0.0, 300.0, 200.0)


@pytest.fixture(scope="module")
def extractor() -> FeatureExtractor:
    return extractor_of(2, 4, spec=FeatureSpec(lags=(1, 3), hold_frames=4, windows_s=(0.1, 0.4)))


@pytest.fixture(scope="module")
def scene() -> tuple[F32, F32]:
    return wander((2, 4), 60, seed=2)


def step_one(extractor: FeatureExtractor, state: FeatureState, slot: int, keypoints: F32, confidence: F32) -> F32:
    out = np.empty((1, extractor.n_features), np.float32)
    extractor.step(keypoints[None], confidence[None], np.array([slot], np.int32), state, out)
    return out[0]


def step_all(extractor: FeatureExtractor, state: FeatureState, slot: int, keypoints: F32, confidence: F32) -> F32:
    return np.array([step_one(extractor, state, slot, k, c) for k, c in zip(keypoints, confidence, strict=True)])


def test_run_is_step_frame_by_frame(extractor: FeatureExtractor, scene: tuple[F32, F32]) -> None:
    stepped = step_all(extractor, extractor.init_state(1, ARENA), 0, *scene)
    assert stepped.tobytes() == extractor.run(*scene, ARENA).tobytes()


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(0, 60), max_size=8))
def test_chunks_do_not_matter(extractor: FeatureExtractor, scene: tuple[F32, F32], cuts: list[int]) -> None:
    keypoints, confidence = scene
    state, edges, parts = extractor.init_state(3, ARENA), [0, *sorted(cuts), 60], []
    for start, stop in pairwise(edges):
        out = np.empty((stop - start, extractor.n_features), np.float32)
        extractor.step(keypoints[start:stop], confidence[start:stop], np.full(stop - start, 1, np.int32), state, out)
        parts.append(out)
    assert np.concatenate(parts).tobytes() == extractor.run(keypoints, confidence, ARENA).tobytes()


@settings(max_examples=25, deadline=None)
@given(order=st.lists(st.integers(0, 2), min_size=1, max_size=90), batch=st.integers(1, 9))
def test_streams_do_not_disturb_each_other(extractor: FeatureExtractor, order: list[int], batch: int) -> None:
    """Three streams at their own pace, taken up in batches of any make-up; each gets what it would get alone."""
    scenes = [wander((2, 4), 90, seed) for seed in range(3)]
    at = [0, 0, 0]
    state, given_to = extractor.init_state(4, ARENA), {0: [], 1: [], 2: []}  # type: ignore[var-annotated]
    for start in range(0, len(order), batch):
        slots = np.array(order[start : start + batch], np.int32)
        rows = []
        for slot in slots:
            rows.append((scenes[slot][0][at[slot]], scenes[slot][1][at[slot]]))
            at[slot] += 1
        out = np.empty((len(slots), extractor.n_features), np.float32)
        extractor.step(np.array([k for k, _ in rows]), np.array([c for _, c in rows]), slots, state, out)
        for slot, row in zip(slots, out, strict=True):
            given_to[int(slot)].append(row)
    for slot, rows_of in given_to.items():
        n = len(rows_of)
        if n:
            alone = extractor.run(scenes[slot][0][:n], scenes[slot][1][:n], ARENA)
            assert np.array(rows_of).tobytes() == alone.tobytes()


@settings(max_examples=40, deadline=None)
@given(cut=st.integers(1, 59), seed=st.integers(0, 1000))
def test_the_future_changes_nothing(extractor: FeatureExtractor, scene: tuple[F32, F32], cut: int, seed: int) -> None:
    keypoints, confidence = (part.copy() for part in scene)
    keypoints[cut:], confidence[cut:] = wander((2, 4), 60 - cut, seed + 77, missing=0.8)
    changed, before = extractor.run(keypoints, confidence, ARENA), extractor.run(*scene, ARENA)
    assert changed[:cut].tobytes() == before[:cut].tobytes()
    assert changed[cut:].tobytes() != before[cut:].tobytes()


def test_a_reset_forgets_everything_and_leaves_the_others(extractor: FeatureExtractor, scene: tuple[F32, F32]) -> None:
    state = extractor.init_state(2, ARENA)
    other = wander((2, 4), 60, 9)
    first = step_all(extractor, state, 1, other[0][:30], other[1][:30])
    step_all(extractor, state, 0, other[0], other[1])
    extractor.reset(state, 0)
    assert step_all(extractor, state, 0, *scene).tobytes() == extractor.run(*scene, ARENA).tobytes()
    second = step_all(extractor, state, 1, other[0][30:], other[1][30:])
    assert np.concatenate((first, second)).tobytes() == extractor.run(*other, ARENA).tobytes()


def test_each_slot_has_its_own_arena_and_keeps_it_over_a_reset(
    extractor: FeatureExtractor, scene: tuple[F32, F32]
) -> None:
    state = extractor.init_state(2, ARENA)
    state.memory.arena[1] = ELSEWHERE
    step_all(extractor, state, 1, *scene)
    extractor.reset(state, 1)
    assert step_all(extractor, state, 1, *scene).tobytes() == extractor.run(*scene, ELSEWHERE).tobytes()
    assert step_all(extractor, state, 0, *scene).tobytes() == extractor.run(*scene, ARENA).tobytes()


@pytest.mark.parametrize("cut", [0, 1, 6, 7, 31])
def test_a_state_goes_on_elsewhere_bit_for_bit(extractor: FeatureExtractor, scene: tuple[F32, F32], cut: int) -> None:
    keypoints, confidence = scene
    here = extractor.init_state(2, ELSEWHERE)
    step_all(extractor, here, 0, keypoints[:cut], confidence[:cut])
    data = slot_bytes(here, 0)
    there = extractor.init_state(3, ARENA)
    step_all(extractor, there, 2, *wander((2, 4), 20, 5))
    set_slot(there, 2, extractor.load_slot(data))
    assert slot_bytes(there, 2) == data
    rest = step_all(extractor, there, 2, keypoints[cut:], confidence[cut:])
    assert rest.tobytes() == extractor.run(*scene, ELSEWHERE)[cut:].tobytes()
    assert step_all(extractor, here, 0, keypoints[cut:], confidence[cut:]).tobytes() == rest.tobytes()


def test_a_state_of_another_size_or_that_none_can_have_is_refused(extractor: FeatureExtractor) -> None:
    state = extractor.init_state(1, ARENA)
    whole = slot_bytes(state, 0)
    for damaged in (whole + b"more", whole[:-1], b"", None, [1, 2]):
        with pytest.raises(SnapshotError, match="damaged"):
            extractor.load_slot(damaged)
    for part, value in (("links", 7), ("links", -1), ("frames", -1), ("averaged", -1), ("age", -5)):
        state = extractor.init_state(1, ARENA)
        getattr(state.memory, part)[0] = value
        with pytest.raises(SnapshotError, match="damaged"):
            extractor.load_slot(slot_bytes(state, 0))


def test_inputs_stay_as_they_are(extractor: FeatureExtractor, scene: tuple[F32, F32]) -> None:
    keypoints, confidence = (part.copy() for part in scene)
    extractor.run(keypoints, confidence, ARENA)
    assert keypoints.tobytes() == scene[0].tobytes()
    assert confidence.tobytes() == scene[1].tobytes()


def test_every_column_is_written(extractor: FeatureExtractor, scene: tuple[F32, F32]) -> None:
    """What stood in `out` before must not show through."""
    slots = np.zeros(60, np.int32)
    outs = [np.full((60, extractor.n_features), fill, np.float32) for fill in (1e9, -7.0)]
    for out in outs:
        extractor.step(*scene, slots, extractor.init_state(1, ARENA), out)
    assert outs[0].tobytes() == outs[1].tobytes()


def test_a_long_stream_does_not_drift_from_a_young_one() -> None:
    """Rings and held points are exact: after a gap longer than any memory only the averages may tell the age."""
    groups = ("speed", "body_velocity", "acceleration", "position", "missing")
    spec = FeatureSpec(groups=groups, hold_frames=3, windows_s=(0.4,))
    extractor = extractor_of(2, 4, spec=spec)
    old = extractor.init_state(1, ARENA)
    step_all(extractor, old, 0, *wander((2, 4), 5000, 1))
    empty = np.full((30, 2, 4, 2), np.nan, np.float32), np.zeros((30, 2, 4), np.float32)
    step_all(extractor, old, 0, *empty)
    young = extractor.init_state(1, ARENA)
    step_all(extractor, young, 0, *empty)
    after = wander((2, 4), 40, 3)
    assert step_all(extractor, old, 0, *after).tobytes() == step_all(extractor, young, 0, *after).tobytes()
