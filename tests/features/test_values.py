"""Every feature's value against the slow, obvious version, found by its name; and what must not change a value."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rtseg.features.extractor import FeatureExtractor
from rtseg.features.spec import GROUPS, Feature, FeatureSpec
from rtseg.frames.skeleton import MICE7
from tests import naive
from tests.features.scenes import ARENA, FPS, extractor_of, scene_of, skeleton_of, wander

F32 = NDArray[np.float32]


def assert_equals_naive(extractor: FeatureExtractor, keypoints: F32, confidence: F32) -> None:
    """Within float32 rounding, NaN at the same places, and every name known to both."""
    found = extractor.run(keypoints, confidence, ARENA)
    wanted = naive.features(scene_of(extractor, keypoints, confidence))
    if extractor.spec.animal_order == "sorted":
        wanted = {group: naive.forget_order(group, columns) for group, columns in wanted.items()}
    names = {(group, name) for group, columns in wanted.items() for name in columns}
    assert {(f.group, f.name) for f in extractor.features} == {(g, n) for g, n in names if g in extractor.spec.groups}
    for column, feature in enumerate(extractor.features):
        values = np.array(wanted[feature.group][feature.name])
        size = np.nanmax(np.abs(values), initial=1.0)
        # A coordinate of 1000 px has 6e-5 px in float32; a velocity is a difference of coordinates, scaled.
        absolute = 2e-4 if feature.unit == "px" else 1e-5 * size
        np.testing.assert_allclose(
            found[:, column], values, rtol=1e-5, atol=absolute, err_msg=f"{feature}, frames where they differ"
        )


@pytest.mark.parametrize("n_animals", [1, 2, 3])
@pytest.mark.parametrize("n_points", [2, 5, 7])
def test_every_group_equals_the_naive_version(n_animals: int, n_points: int) -> None:
    extractor = extractor_of(n_animals, n_points)
    for seed, missing in ((0, 0.0), (1, 0.5)):
        assert_equals_naive(extractor, *wander((n_animals, n_points), 40, seed, missing))


@pytest.mark.parametrize("lags", [(1,), (4,), (1, 2), (2, 5, 11)])
@pytest.mark.parametrize("hold_frames", [0, 1, 6, 1000])
def test_lags_and_holding(lags: tuple[int, ...], hold_frames: int) -> None:
    spec = FeatureSpec(lags=lags, hold_frames=hold_frames, horizons_s=(0.1, 1.0), absence_cap_s=0.3)
    extractor = extractor_of(2, 3, fps=50.0, spec=spec)
    assert_equals_naive(extractor, *wander((2, 3), 45, seed=hold_frames + sum(lags), missing=0.6))


@pytest.mark.parametrize(("n_animals", "n_points"), [(1, 3), (2, 5), (3, 4)])
def test_sorted_columns_equal_the_naive_version(n_animals: int, n_points: int) -> None:
    extractor = extractor_of(n_animals, n_points, spec=FeatureSpec(animal_order="sorted"))
    for seed, missing in ((0, 0.0), (1, 0.6)):
        assert_equals_naive(extractor, *wander((n_animals, n_points), 40, seed, missing))


@pytest.mark.parametrize("order", ["kept", "sorted"])
def test_roots_are_those_of_the_linear_features(order: str) -> None:
    """What is per second and what is an area, sign kept; everything else, and NaN, stays as it was, bit for bit."""
    linear = extractor_of(2, 4, spec=FeatureSpec(animal_order=order))
    rooted = extractor_of(2, 4, spec=FeatureSpec(animal_order=order, motion="roots"))
    points, scores = wander((2, 4), 60, seed=2, missing=0.4)
    plain, found = linear.run(points, scores, ARENA), rooted.run(points, scores, ARENA)
    assert found.tobytes() != plain.tobytes()
    for column, feature in enumerate(linear.features):
        per_second = feature.unit in ("px/s", "px/s^2", "px^2") or feature.name.partition(".")[2].startswith(
            ("speed.mean", "approach.mean", "overlap.mean")
        )
        values = plain[:, column]
        wanted = np.copysign(np.sqrt(np.sqrt(np.abs(values))), values) if per_second else values
        assert np.array_equal(found[:, column], wanted, equal_nan=True), feature


@pytest.mark.parametrize("n_animals", [1, 2, 3])
def test_relinked_animals_equal_the_naive_version(n_animals: int) -> None:
    """Names that a tracker swaps at random come back; every feature is that of the relinked recording, bit for bit."""
    plain = extractor_of(n_animals, 4)
    relinking = extractor_of(n_animals, 4, spec=FeatureSpec(identities="relinked"))
    for seed, missing in ((0, 0.0), (1, 0.5)):
        true_points, true_scores = wander((n_animals, 4), 120, seed, missing)
        points, scores, rng = true_points.copy(), true_scores.copy(), np.random.default_rng(seed)
        for t in range(1, 120):
            if rng.random() < 0.2:
                order = rng.permutation(n_animals)
                points[t:], scores[t:] = points[t:, order], scores[t:, order]
        linked = naive.relinked(points, scores, relinking.spec.relink_margin_px, relinking.spec.relink_cap_px)
        found = relinking.run(points, scores, ARENA)
        assert found.tobytes() == plain.run(*linked, ARENA).tobytes()
        if not missing:
            assert found.tobytes() == plain.run(true_points, true_scores, ARENA).tobytes()


def test_a_link_holds_while_an_animal_is_away_and_starts_anew_with_the_stream() -> None:
    """The animal that stays keeps its name when the tracker calls it the other, and both when the other comes back."""
    extractor = extractor_of(2, 3, spec=FeatureSpec(("position", "confidence"), identities="relinked", hold_frames=0))
    body = np.array([[100.0, 100.0], [500.0, 400.0]])[:, None] + np.arange(3)[:, None] * 10.0
    frames = np.stack([body, body, np.stack([body[1], np.full((3, 2), np.nan)]), body[::-1]]).astype(np.float32)
    scores = np.where(np.isnan(frames[..., 0]), 0, 0.9).astype(np.float32)
    found = extractor.run(frames, scores, ARENA)
    first, second = found[:, :6], found[:, 6:12]
    assert np.isnan(first[2]).all()
    assert (second == second[0]).all()
    assert first[3].tobytes() == first[0].tobytes()
    assert found[2, 12:].tolist() == [0, 0, 0, *[np.float32(0.9)] * 3]
    again = extractor.run(frames[3:], scores[3:], ARENA)
    assert again[0, :6].tobytes() == second[0].tobytes(), "a fresh stream takes the tracker's names"


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), data=st.data())
def test_views_are_the_features_of_the_other_names(seed: int, data: st.DataObject) -> None:
    """For one to three animals and any groups: view v is what the extractor gives for the animals in order v."""
    n_animals = data.draw(st.integers(1, 3))
    groups = tuple(data.draw(st.sets(st.sampled_from(list(GROUPS)), min_size=1)))
    extractor = extractor_of(n_animals, 3, spec=FeatureSpec(groups))
    points, scores = wander((n_animals, 3), 25, seed, missing=0.4)
    plain = extractor.run(points, scores, ARENA)
    views = extractor.spec.views(extractor.skeleton)
    assert len(views) == math.factorial(n_animals)
    assert views[0] == tuple(range(1, extractor.n_features + 1))
    for view, order in zip(views, itertools.permutations(range(n_animals)), strict=True):
        columns = np.array(view, np.int64)  # one animal alone may have no feature at all
        seen = plain[:, np.abs(columns) - 1] * np.sign(columns).astype(np.float32)
        np.testing.assert_allclose(seen, extractor.run(points[:, order], scores[:, order], ARENA), rtol=1e-4, atol=1e-3)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), data=st.data())
def test_where_the_order_is_forgotten_it_does_not_matter_at_all(seed: int, data: st.DataObject) -> None:
    """Exactly (but for a zero's sign), for two and three animals in any order, missing ones included."""
    n_animals = data.draw(st.sampled_from([2, 3]))
    order = list(data.draw(st.permutations(range(n_animals))))
    extractor = extractor_of(n_animals, 3, spec=FeatureSpec(animal_order="sorted"))
    keypoints, confidence = wander((n_animals, 3), 25, seed, missing=0.5)
    other = np.ascontiguousarray(keypoints[:, order]), np.ascontiguousarray(confidence[:, order])
    one, two = extractor.run(keypoints, confidence, ARENA), extractor.run(*other, ARENA)
    assert np.array_equal(one, two, equal_nan=True)


def test_no_horizons_and_many() -> None:
    for horizons in ((), (0.2, 0.5, 1.0, 3.0, 9.0)):
        assert_equals_naive(extractor_of(2, 3, spec=FeatureSpec(horizons_s=horizons)), *wander((2, 3), 30, 5))


@pytest.mark.parametrize("order", ["kept", "sorted"])
@pytest.mark.parametrize("windows", [(0.01,), (0.2, 0.5), (0.1, 0.11, 2.0)])
def test_windows_of_speeds_equal_the_naive_version(windows: tuple[float, ...], order: str) -> None:
    """Shorter than a frame, of the same number of frames, longer than the recording; with points that are missing."""
    spec = FeatureSpec(("speed", "missing"), lags=(1, 4), hold_frames=2, windows_s=windows, animal_order=order)
    extractor = extractor_of(2, 3, spec=spec)
    for seed, missing in ((0, 0.0), (1, 0.6)):
        assert_equals_naive(extractor, *wander((2, 3), 45, seed, missing))


def test_windows_leave_every_other_feature_as_it_is() -> None:
    points, scores = wander((2, 4), 60, seed=2, missing=0.4)
    plain, windowed = extractor_of(2, 4), extractor_of(2, 4, spec=FeatureSpec(windows_s=(0.5,)))
    before, after = plain.run(points, scores, ARENA), windowed.run(points, scores, ARENA)
    names = [f.name for f in windowed.features]
    assert len(names) == len(plain.features) + 2 * 2 * 4 * 3
    kept = [names.index(f.name) for f in plain.features]
    assert np.ascontiguousarray(after[:, kept]).tobytes() == before.tobytes()


def test_hand_computed_windows() -> None:
    """A point that runs 30 px/s, stands still, is gone and comes back: windows of two and three frames."""
    spec = FeatureSpec(("speed",), lags=(1,), hold_frames=0, windows_s=(0.2, 0.3))
    extractor = FeatureExtractor(skeleton_of(1, 2), spec, 10.0)
    xs = [100.0, 103.0, 103.0, math.nan, math.nan, math.nan, 200.0, 206.0]
    frames = np.stack([[[[x, x * 0], [50.0, 50.0]]] for x in xs]).astype(np.float32)
    found = extractor.run(frames, np.ones((8, 1, 2), np.float32), ARENA)
    at = {f.name: i for i, f in enumerate(extractor.features)}
    nan = math.nan
    for name, wanted in {
        "speed_1": [nan, 30, 0, nan, nan, nan, nan, 60],
        "speed_1.mean_0.2s": [nan, 30, 15, 0, nan, nan, nan, 60],
        "speed_1.max_0.2s": [nan, 30, 30, 0, nan, nan, nan, 60],
        "speed_1.mean_0.3s": [nan, 30, 15, 15, 0, nan, nan, 60],
        "speed_1.max_0.3s": [nan, 30, 30, 30, 0, nan, nan, 60],
    }.items():
        np.testing.assert_array_equal(found[:, at[f"a.p0.{name}"]], np.float32(wanted), err_msg=name)
        assert np.nanmax(found[:, at[f"a.p1.{name}"]]) == 0


def test_a_recording_without_any_point() -> None:
    extractor = extractor_of(2, 3)
    keypoints, confidence = np.full((20, 2, 3, 2), np.nan, np.float32), np.zeros((20, 2, 3), np.float32)
    assert_equals_naive(extractor, keypoints, confidence)
    found = extractor.run(keypoints, confidence, ARENA)
    cap = FeatureSpec().absence_cap_s
    for column, feature in enumerate(extractor.features):
        expected = {"confidence": 0.0, "missing": 1.0, "absence": cap}.get(feature.group, math.nan)
        np.testing.assert_array_equal(found[:, column], expected)


def test_an_animal_folded_to_one_spot_has_no_heading() -> None:
    extractor = extractor_of(1, 3)
    keypoints = np.full((3, 1, 3, 2), 300.0, np.float32)
    assert_equals_naive(extractor, keypoints, np.ones((3, 1, 3), np.float32))
    found = extractor.run(keypoints, np.ones((3, 1, 3), np.float32), ARENA)
    heading = [i for i, f in enumerate(extractor.features) if f.group == "heading"]
    assert np.isnan(found[:, heading]).all()


def test_hand_computed_values() -> None:
    """An animal that faces down the picture and walks 3 px a frame, another 100 px ahead that stands still."""
    extractor = FeatureExtractor(skeleton_of(2, 2), FeatureSpec(lags=(1, 2), hold_frames=0), 10.0)
    keypoints = np.empty((4, 2, 2, 2), np.float32)
    for t in range(4):
        keypoints[t, 0] = [[200, 120 + 3 * t], [200, 80 + 3 * t]]  # front, rear
        keypoints[t, 1] = [[200, 210], [200, 190]]
    found = extractor.run(keypoints, np.ones((4, 2, 2), np.float32), (0, 0, 400, 300))
    at = {f.name: i for i, f in enumerate(extractor.features)}
    last = {name: float(found[3, i]) for name, i in at.items()}
    assert last["a.p0.x"] == 0.0
    assert last["a.p0.y"] == 120 + 9 - 150
    assert last["a.p0-p1"] == 40.0
    assert last["a.p0-b.p1"] == 190 - 129
    assert last["a.p0.speed_1"] == last["a.p0.speed_2"] == 30.0
    assert last["a.center.y"] == 109 - 150
    assert last["a.extension"] == 20.0
    assert (last["a.heading_cos"], last["a.heading_sin"]) == (0.0, 1.0)
    assert (last["a.p0.along"], last["a.p0.across"]) == (20.0, 0.0)
    assert (last["a>b.p0.along"], last["a>b.p0.across"]) == (210 - 109, 0.0)
    assert (last["a.v_along_1"], last["a.v_across_1"]) == (30.0, 0.0)
    assert last["a.a_along_1"] == 0.0
    assert math.isnan(last["a.a_along_2"])  # needs four frames before this one
    assert last["a>b.approach_1"] == pytest.approx(30.0, rel=1e-4)
    assert last["b>a.approach_1"] == 0.0
    assert last["a>b.bearing_cos"] == pytest.approx(1.0, rel=1e-4)
    assert last["b>a.bearing_cos"] == pytest.approx(-1.0, rel=1e-4)
    assert last["a-b.turn_cos"] == 1.0
    assert last["a.speed.mean_2s"] == 30.0
    assert last["b.speed.mean_2s"] == 0.0


# What a change of the scene does to which group; positions are in pixels and confidences are numbers of their own.
UNMOVED = set(GROUPS) - {"position", "center"}
UNTURNED = UNMOVED - {"box_overlap", "heading", "averages"}


def columns_of(features: Iterable[Feature], groups: set[str]) -> list[int]:
    return [i for i, f in enumerate(features) if f.group in groups]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), dx=st.integers(-300, 300), dy=st.integers(-300, 300))
def test_a_shift_changes_positions_only(seed: int, dx: int, dy: int) -> None:
    extractor = extractor_of(2, 4)
    keypoints, confidence = wander((2, 4), 15, seed)
    keypoints = np.round(keypoints * 8) / 8  # a shift is then exact in float32
    shift = np.array([dx, dy], np.float32)
    one = extractor.run(keypoints, confidence, ARENA)
    two = extractor.run(keypoints + shift, confidence, ARENA)
    kept = columns_of(extractor.features, UNMOVED)
    units = [{"px/s": 0.02, "px/s^2": 2.0, "px^2": 0.2}.get(extractor.features[i].unit, 0.002) for i in kept]
    assert (np.isnan(one[:, kept]) == np.isnan(two[:, kept])).all()
    assert (np.nan_to_num(np.abs(one[:, kept] - two[:, kept])).max(axis=0) <= units).all()
    moved = columns_of(extractor.features, {"position", "center"})
    np.testing.assert_allclose(
        two[:, moved] - one[:, moved], np.resize(shift, (15, len(moved))) + 0 * one[:, moved], atol=1e-3
    )


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), angle=st.floats(0, 2 * math.pi))
def test_a_turn_about_the_arenas_middle_changes_only_what_knows_the_camera(seed: int, angle: float) -> None:
    extractor = extractor_of(2, 4)
    keypoints, confidence = wander((2, 4), 15, seed)
    middle = np.array([(ARENA[0] + ARENA[2]) / 2, (ARENA[1] + ARENA[3]) / 2])
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    turned = ((keypoints - middle) @ turn + middle).astype(np.float32)
    one, two = extractor.run(keypoints, confidence, ARENA), extractor.run(turned, confidence, ARENA)
    # float32 rounds a turned coordinate by up to 6e-5 px, and a speed at lag 1 is 30 times a difference of two. An axis
    # of few px turns that into a heading that is off by 1e-4, and 300 px away into 0.03 px.
    tolerance = {"px": 3e-2, "px/s": 3e-2 * FPS, "px/s^2": 6e-2 * FPS**2, "1": 1e-3, "s": 0.0}
    for i in columns_of(extractor.features, UNTURNED):
        feature = extractor.features[i]
        np.testing.assert_allclose(two[:, i], one[:, i], atol=tolerance[feature.unit], rtol=1e-3, err_msg=str(feature))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_naming_the_animals_the_other_way_round_exchanges_their_features(seed: int) -> None:
    extractor = extractor_of(2, 4)
    keypoints, confidence = wander((2, 4), 15, seed)
    one = extractor.run(keypoints, confidence, ARENA)
    two = extractor.run(np.ascontiguousarray(keypoints[:, ::-1]), np.ascontiguousarray(confidence[:, ::-1]), ARENA)
    at = {(f.group, f.name): i for i, f in enumerate(extractor.features)}
    other = str.maketrans("ab", "ba")
    for (group, name), i in at.items():
        sign = -1.0 if name.endswith("turn_sin") else 1.0
        who, dot, what = name.partition(".")
        if group == "between_distance":  # a.p0-b.p1 is b.p1-a.p0 after the exchange
            first, second = name.split("-")
            twin = f"a{second[1:]}-b{first[1:]}"
        elif "-" in who:
            twin = name  # a-b stands for both orders
        else:
            twin = who.translate(other) + dot + what
        j = at[group, twin]
        np.testing.assert_allclose(two[:, j], sign * one[:, i], rtol=1e-6, atol=1e-6, err_msg=f"{name} and {twin}")


def test_units_are_what_the_scale_says() -> None:
    """Twice the frame rate doubles what is per second; twice the distance doubles what is in px."""
    keypoints, confidence = wander((2, 4), 30, 3)
    spec = FeatureSpec(horizons_s=())
    once = extractor_of(2, 4, 30.0, spec)
    features = once.features
    base = once.run(keypoints, confidence, ARENA)
    faster = extractor_of(2, 4, 60.0, spec).run(keypoints, confidence, ARENA)
    larger = once.run(keypoints * 2, confidence, tuple(2 * v for v in ARENA))  # type: ignore[arg-type]
    for i, feature in enumerate(features):
        rate = {"px/s": 2.0, "px/s^2": 4.0, "s": 0.5}.get(feature.unit, 1.0)
        size = {"px": 2.0, "px/s": 2.0, "px/s^2": 2.0, "px^2": 4.0}.get(feature.unit, 1.0)
        capped = base[:, i] < 4.0 if feature.unit == "s" else np.full(30, True)
        np.testing.assert_allclose(faster[capped, i], rate * base[capped, i], rtol=1e-6, err_msg=str(feature))
        np.testing.assert_allclose(larger[:, i], size * base[:, i], rtol=1e-4, atol=1e-4, err_msg=str(feature))


def test_how_many_features_mice7_has() -> None:
    """F for CalMS21's skeleton, worked out from the groups' definitions."""
    a, k, lags, horizons = 2, 7, 3, 3
    pairs, ordered = 1, 2
    expected = (
        2 * a * k + a * k * (k - 1) // 2 + pairs * k * k + a * k * lags + pairs + 2 * a + a  # the paper's
        + 2 * a * k + 2 * ordered * k + 2 * a + 2 * ordered + 2 * pairs
        + 2 * a * lags + ordered * lags + 2 * a * lags
        + horizons * (2 * a + 2 * pairs + ordered)
        + 3 * a * k
    )  # fmt: skip
    assert len(FeatureSpec().features(MICE7)) == expected
