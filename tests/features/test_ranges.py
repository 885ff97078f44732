"""Ranges of training's features: what they are fitted to, and what is out of them, against a slow version."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtseg.config import RangeSettings
from rtseg.errors import SettingError
from rtseg.features.drift import RangeCheck, check_ranges
from rtseg.features.extractor import FeatureExtractor
from rtseg.features.ranges import FeatureRanges, fit_ranges
from rtseg.features.slot_state import load_slot, set_slot, slot_bytes
from rtseg.features.spec import Feature, FeatureSpec
from tests.features.scenes import ARENA, FPS, skeleton_of, wander

FLAG = 256
FEATURES = [Feature(f"f{i}", "speed", "px/s", "", i) for i in range(4)]
UNIT = FeatureRanges(np.zeros(4, np.float32), np.ones(4, np.float32), share=0.5, far=2.0)


def checked(ranges: FeatureRanges, rows: np.ndarray) -> tuple[np.ndarray, dict[str, object]]:
    """Quality of each row, and the report."""
    rules = RangeCheck(ranges, FEATURES)
    state, quality = rules.init_state(2), np.full(len(rows), 8, np.int32)
    check_ranges(rows.astype(np.float32), np.ones(len(rows), np.int32), *rules.plan, state, FLAG, quality)
    assert not any(part[0].any() for part in state)  # the other slot
    return quality, rules.report(state, 1)


@pytest.mark.parametrize(
    ("row", "out"),
    [
        ([0.0, 1.0, 0.5, 0.5], False),  # the ends belong to the range
        ([1.1, -0.1, 0.5, 0.5], False),  # half of the features is not more than half
        ([1.1, -0.1, 1.1, 0.5], True),
        ([1.1, np.nan, np.nan, np.nan], True),  # of those that are known
        ([np.nan] * 4, False),
        ([2.9, 0.5, 0.5, 0.5], False),
        ([3.1, 0.5, 0.5, 0.5], True),  # more than two widths away
        ([0.5, 0.5, 0.5, -2.1], True),
        ([np.inf, np.nan, 0.5, 0.5], True),
    ],
)
def test_a_frame_is_out_of_range_by_share_or_by_distance(row: list[float], out: bool) -> None:
    quality, report = checked(UNIT, np.array([row]))
    assert quality.tolist() == [8 | FLAG if out else 8]  # other flags stay
    assert (report["frames"], report["out_of_range"]) == (1, int(out))


def test_the_record_says_which_and_how_far() -> None:
    rows = np.full((10, 4), 0.5)
    rows[2:8, 1] = np.linspace(1.1, 1.6, 6)
    rows[3, 2] = -1.5
    _, report = checked(UNIT, rows)
    assert report["features"] == [
        {"feature": "speed: f1 [px/s]", "frames": 6, "farthest": pytest.approx(0.6)},
        {"feature": "speed: f2 [px/s]", "frames": 1, "farthest": pytest.approx(-1.5)},
    ]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 30))
def test_chunks_do_not_matter_and_a_slow_version_agrees(seed: int, chunk: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.normal(0.5, 0.8, (30, 4)).astype(np.float32)
    rows[rng.random((30, 4)) < 0.2] = np.nan
    rules = RangeCheck(UNIT, FEATURES)
    state, quality = rules.init_state(1), np.zeros(30, np.int32)
    for start in range(0, 30, chunk):
        here = rows[start : start + chunk]
        check_ranges(here, np.zeros(len(here), np.int32), *rules.plan, state, FLAG, quality[start : start + chunk])
    outside = (rows < 0) | (rows > 1)
    distance = np.where(outside, np.where(rows < 0, -rows, rows - 1), 0)
    flagged = (outside.sum(1) > 0.5 * (~np.isnan(rows)).sum(1)) | (distance > 2).any(1)
    np.testing.assert_array_equal(quality > 0, flagged)
    np.testing.assert_array_equal(state.outside[0], outside.sum(0))
    np.testing.assert_allclose(np.abs(state.farthest[0]), distance.max(0), rtol=1e-6)
    moved = rules.init_state(3)
    set_slot(moved, 2, load_slot(state, slot_bytes(state, 0), "drift"))
    assert rules.report(moved, 2) == rules.report(state, 0)
    rules.reset(moved, 2)
    assert rules.report(moved, 2) == {"frames": 0, "out_of_range": 0, "features": []}


def test_ranges_hold_training_and_not_a_camera_that_stands_elsewhere() -> None:
    skeleton = skeleton_of(2, 4)
    extractor = FeatureExtractor(skeleton, FeatureSpec(), FPS)
    points, scores = wander((2, 4), 1500, seed=1)
    features = extractor.run(points, scores, ARENA)
    ranges = fit_ranges([features[:700], features[700:]], extractor.features, RangeSettings())
    rules = RangeCheck(ranges, extractor.features)
    shares = []
    for scale in (1.0, 4.0):
        state, quality = rules.init_state(1), np.zeros(1500, np.int32)
        there = extractor.run(points * np.float32(scale), scores, ARENA)
        check_ranges(there, np.zeros(1500, np.int32), *rules.plan, state, FLAG, quality)
        shares.append((quality > 0).mean())
    assert shares[0] < 0.02
    assert shares[1] > 0.5
    groups = np.array([f.group for f in extractor.features])
    assert np.isinf(ranges.low[groups == "missing"]).all()
    assert np.isfinite(ranges.low[groups == "position"]).all()


def test_what_never_varied_or_was_never_known_is_not_watched() -> None:
    table = np.random.default_rng(0).random((100, 4)).astype(np.float32)
    table[:, 1] = 3.0
    table[:, 2] = np.nan
    ranges = fit_ranges([table], FEATURES, RangeSettings(percentile=0, margin=0.5))
    assert np.isinf(ranges.low).tolist() == [False, True, True, False]
    width = table[:, 0].max() - table[:, 0].min()
    assert ranges.high[0] == pytest.approx(table[:, 0].max() + 0.5 * width)


def test_a_manifest_gives_back_what_it_got() -> None:
    ranges = replace(UNIT, low=np.array([-np.inf, 0, 0.1, -2.5], np.float32))
    again = FeatureRanges.from_dict(ranges.to_dict(), 4)
    for part in ("low", "high"):
        assert getattr(again, part).tobytes() == getattr(ranges, part).tobytes()
    assert (again.share, again.far) == (0.5, 2.0)
    for wrong in ({"low": [0, 0, 0]}, {"low": [2, 0, 0, 0]}, {"high": [float("nan")] * 4}, {"wide": 1}):
        with pytest.raises(SettingError, match="ranges: "):
            FeatureRanges.from_dict(ranges.to_dict() | wrong, 4)
