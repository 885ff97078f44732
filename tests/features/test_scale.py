"""How large animals appear: against a slow version, equivariant, judged by training's, and features divided by it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtseg.config import BodySettings
from rtseg.errors import SettingError, SnapshotError
from rtseg.features.body_size import BodySize, describe_size
from rtseg.features.extractor import FeatureExtractor
from rtseg.features.scale import SizeMeter, fit_body_size, measure
from rtseg.features.slot_state import load_slot, set_slot, slot_bytes
from rtseg.features.spec import PLACES, FeatureSpec
from rtseg.frames.skeleton import Skeleton
from tests import naive, naive_scale
from tests.features.scenes import ARENA, FPS, scene_of, skeleton_of, wander

SKELETON = skeleton_of(2, 4)
PAIRS = ((0, 1), (1, 2), (0, 3))
SIZE = BodySize(tuple((f"p{i}", f"p{j}") for i, j in PAIRS), (30.0, 40.0, 50.0), 0.8, 1.25, 2.0, 5)
FLAG = 256


def in_bodies(spec: FeatureSpec | None = None) -> FeatureExtractor:
    return FeatureExtractor(SKELETON, spec or FeatureSpec(scale="body", windows_s=(0.3,)), FPS, SIZE)


def judged(keypoints: np.ndarray, size: BodySize, given: float | None = None) -> tuple[np.ndarray, dict[str, Any]]:
    """Whether each frame is flagged, and the report."""
    meter = SizeMeter(SKELETON, size, FPS)
    state, quality, scales = meter.init_state(2), np.full(len(keypoints), 8, np.int32), np.empty(len(keypoints))
    meter.open_slot(state, 1, given)
    measure(keypoints, np.ones(len(keypoints), np.int32), meter.plan, state, FLAG, quality, scales)
    assert (scales == (given or 1.0)).all()
    assert (quality & 8).all()
    assert not state.measured[0]
    return quality & FLAG > 0, meter.report(state, 1)


@pytest.mark.parametrize("missing", [0.0, 0.8])
def test_the_measure_equals_the_slow_version(missing: float) -> None:
    points, _ = wander((2, 4), 80, seed=3, missing=missing)
    points[:4] = np.nan
    meter = SizeMeter(SKELETON, SIZE, FPS, divides=True)
    found = meter.measure(points, np.zeros(80, np.int32), meter.init_state(1))
    np.testing.assert_allclose(found, naive_scale.running_sizes(points, PAIRS, SIZE.lengths_px, 2.0 * FPS), rtol=1e-6)
    assert np.isnan(found[:4]).all()


def test_features_in_body_lengths_equal_the_naive_version() -> None:
    extractor, (points, scores) = in_bodies(), wander((2, 4), 40, seed=5, missing=0.5)
    scales = naive_scale.running_sizes(points, PAIRS, SIZE.lengths_px, 2.0 * FPS)
    found, wanted = extractor.run(points, scores, ARENA), naive.features(scene_of(extractor, points, scores))
    assert {f.group for f in extractor.features} == set(wanted) - set(PLACES)
    for column, feature in enumerate(extractor.features):
        values = np.array(naive_scale.at_scale(feature.group, wanted[feature.group], scales)[feature.name])
        size = np.nanmax(np.abs(values), initial=1.0)
        np.testing.assert_allclose(found[:, column], values, rtol=1e-4, atol=2e-5 * size, err_msg=str(feature))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), power=st.integers(-12, 12), identities=st.sampled_from(["tracker", "relinked"]))
def test_features_in_body_lengths_do_not_know_the_scale(seed: int, power: int, identities: str) -> None:
    extractor = in_bodies(FeatureSpec(scale="body", identities=identities, windows_s=(0.1, 0.5)))
    points, scores = wander((2, 4), 50, seed, missing=0.5)
    there = extractor.run(points * np.float32(2.0**power), scores, ARENA)
    assert there.tobytes() == extractor.run(points, scores, ARENA).tobytes()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), cut=st.integers(0, 50))
def test_chunks_and_snapshots_do_not_matter(seed: int, cut: int) -> None:
    extractor, (points, scores) = in_bodies(), wander((2, 4), 50, seed, missing=0.5)
    whole, out = extractor.run(points, scores, ARENA), np.empty((50, extractor.n_features), np.float32)
    here, there = extractor.init_state(1, ARENA), extractor.init_state(3, ARENA)
    extractor.step(points[:cut], scores[:cut], np.zeros(cut, np.int32), here, out[:cut])
    set_slot(there, 2, extractor.load_slot(slot_bytes(here, 0)))
    set_slot(there.size, 2, extractor.meter.load_slot(here.size, slot_bytes(here.size, 0)))
    extractor.step(points[cut:], scores[cut:], np.full(50 - cut, 2, np.int32), there, out[cut:])
    assert out.tobytes() == whole.tobytes()
    extractor.reset(there, 2)
    extractor.step(points, scores, np.full(50, 2, np.int32), there, out)
    assert out.tobytes() == whole.tobytes()


def test_nothing_is_known_in_body_lengths_before_a_length_is_seen() -> None:
    extractor, (points, scores) = in_bodies(), wander((2, 4), 10, seed=1, missing=0.0)
    points[:6, :, 1:] = np.nan
    found = extractor.run(points, scores, ARENA)
    lengths = np.array([f.group not in ("confidence", "missing", "absence") for f in extractor.features])
    assert np.isnan(found[:6, lengths]).all()
    assert not np.isnan(found[:, ~lengths]).any()
    assert not np.isnan(found[6:, [f.group == "within_distance" for f in extractor.features]]).any()


def test_animals_of_another_size_are_flagged_once_enough_is_seen() -> None:
    points, _ = wander((2, 4), 60, seed=2, missing=0.3)
    own = fit_body_size([points], SKELETON, FPS, BodySettings(frames=5))
    assert own is not None
    flagged, report = judged(points, own)
    assert not flagged.any()
    assert (report["out_of_range"], describe_size(report)) == (0, "")
    for factor in (0.5, 1.6):
        flagged, report = judged(points * np.float32(factor), own)
        first = int(np.argmax(flagged))
        assert flagged[first:].all()
        assert 1 <= first < 8, "after a third of five frames that show a distance"
        assert report["out_of_range"] == flagged.sum()
        assert report["ratio"] == pytest.approx(factor, rel=0.05)
        assert describe_size(report).startswith(f"animals appear {report['ratio']:.2f} x")
        assert not judged(points * np.float32(factor), own, given=factor)[0].any(), "its scale is known"


@pytest.mark.parametrize(("beyond", "first"), [(1.2, 10), (1.1, 14), (1.05, 21), (1.01, 28), (0.99, None)])
def test_few_frames_flag_only_a_size_that_is_far_from_trainings(beyond: float, first: int | None) -> None:
    """Judged from a third of `frames` on, in a range that narrows to training's as more is seen."""
    size = replace(SIZE, frames=30, horizon_s=1e6)
    still = np.zeros((40, 2, 4, 2))
    still[..., 1:, 0] = (30, 70, 0)
    still[:, :, 3, 1] = 50
    for factor in (1.25 * beyond, 0.8 / beyond):
        flagged, report = judged((still * factor).astype(np.float32), size)
        assert flagged.tolist() == [first is not None and n >= first for n in range(1, 41)]
        assert report["out_of_range"] == flagged.sum()
        assert report["ratio"] == pytest.approx(factor, rel=1e-4)
        early, report = judged((still[:29] * factor).astype(np.float32), size)
        assert early.tolist() == flagged[:29].tolist()
        # A size that is training's is only told once all of the frames have shown it.
        assert (report["ratio"] is None) == (not early.any())


def test_a_restart_forgets_the_size_and_a_new_stream_the_report() -> None:
    meter = SizeMeter(SKELETON, SIZE, FPS)
    state, points = meter.init_state(1), wander((2, 4), 20, seed=2, missing=0.0)[0] * np.float32(9)
    meter.open_slot(state, 0, 2.0)
    measure(points, np.zeros(20, np.int32), meter.plan, state, FLAG, np.zeros(20, np.int32), np.empty(20))
    report = meter.report(state, 0)
    meter.reset(state, 0)
    assert meter.report(state, 0) == report | {"measured": 0}
    assert state.scale.tolist() == [2.0]
    meter.open_slot(state, 0)
    assert meter.report(state, 0)["ratio"] is None
    assert state.scale.tolist() == [1.0]


def test_points_upon_one_another_have_no_size() -> None:
    extractor = in_bodies()
    out = extractor.run(np.full((8, 2, 4, 2), 50, np.float32), np.ones((8, 2, 4), np.float32), ARENA)
    assert np.isnan(out[:, [f.unit.startswith("px") for f in extractor.features]]).all()


def test_a_bundle_without_sizes_judges_nothing() -> None:
    meter = SizeMeter(SKELETON, None, FPS)
    state, quality = meter.init_state(1), np.zeros(30, np.int32)
    points, scales = wander((2, 4), 30, seed=2)[0], np.empty(30)
    measure(points, np.zeros(30, np.int32), meter.plan, state, FLAG, quality, scales)
    assert not quality.any()
    assert (scales == 1).all()
    assert meter.report(state, 0) == {}


@pytest.mark.parametrize(
    ("part", "value"),
    [("measured", -1), ("outside", -1), ("sums", -1.0), ("sums", np.nan), ("scale", 0.0), ("sums", 0)],
)
def test_a_state_that_none_can_have_is_refused(part: str, value: float) -> None:
    meter = SizeMeter(SKELETON, SIZE, FPS)
    state = meter.init_state(1)
    meter.measure(wander((2, 4), 9, seed=1, missing=0.0)[0], np.zeros(9, np.int32), state)
    meter.load_slot(state, slot_bytes(state, 0))
    getattr(state, part)[0] = value
    with pytest.raises(SnapshotError, match="damaged"):
        meter.load_slot(state, slot_bytes(state, 0))
    with pytest.raises(SnapshotError, match="damaged"):
        load_slot(state, b"", "size")


def test_training_says_how_large_its_animals_are() -> None:
    points, _ = wander((2, 4), 400, seed=8, missing=0.4)
    settings_ = BodySettings(frames=20, percentile=0, margin=0.1)
    found = fit_body_size([points[:200], points[200:] * np.float32(1.2), points[:5]], SKELETON, FPS, settings_)
    assert found is not None
    assert len(found.pairs) == 6, "no edges: all pairs"
    sizes = SizeMeter(SKELETON, found, FPS, divides=True)
    spread = [
        sizes.measure(p, np.zeros(len(p), np.int32), sizes.init_state(1))
        for p in (points[:200], points[200:] * np.float32(1.2))
    ]
    assert found.low <= min(s[40:].min() for s in spread) / 1.1 + 1e-9
    assert found.high >= max(s[40:].max() for s in spread) * 1.1 - 1e-9
    assert 0.5 < found.low < 1 < found.high < 2
    assert fit_body_size([points * np.float32(4)], SKELETON, FPS, settings_).low == pytest.approx(  # type: ignore[union-attr]
        fit_body_size([points], SKELETON, FPS, settings_).low  # type: ignore[union-attr]
    )


def test_one_point_has_no_size() -> None:
    one = Skeleton(("a", "b"), ("centroid",))
    assert fit_body_size([np.zeros((9, 2, 1, 2), np.float32)], one, FPS, BodySettings()) is None
    with pytest.raises(SettingError, match=r"needs a body length: two points.*centroid"):
        FeatureExtractor(one, FeatureSpec(scale="body"), FPS, None)


def test_where_an_animal_is_has_no_place_among_body_lengths() -> None:
    assert set(FeatureSpec(scale="body").groups).isdisjoint(PLACES)
    with pytest.raises(SettingError, match="center tell where in the arena"):
        FeatureSpec(("speed", "center"), scale="body")
    with pytest.raises(SettingError, match="'px' or 'body', got 'mm'"):
        FeatureSpec(scale="mm")
    assert FeatureSpec.from_dict(FeatureSpec(scale="body").to_dict()) == FeatureSpec(scale="body")
    assert "scale" not in FeatureSpec().to_dict(), "older bundles keep their hashes"
