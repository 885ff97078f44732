"""The spec: names and columns of any selection of groups, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtseg.errors import SettingError
from rtseg.features.extractor import FeatureExtractor
from rtseg.features.spec import GROUPS, FeatureSpec
from rtseg.frames.skeleton import MICE7
from tests.features.scenes import ARENA, FPS, skeleton_of, wander

UNITS = {"px", "px/s", "px/s^2", "px^2", "1", "s", "px, px/s, px^2"}


def run(
    groups: tuple[str, ...], n_animals: int, n_points: int, order: str = "kept"
) -> tuple[FeatureExtractor, np.ndarray]:
    spec = FeatureSpec(groups=groups, animal_order=order)
    extractor = FeatureExtractor(skeleton_of(n_animals, n_points), spec, FPS)
    return extractor, extractor.run(*wander((n_animals, n_points), 25, seed=4), ARENA)


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize(("n_animals", "n_points"), [(1, 3), (2, 4), (3, 2)])
def test_a_group_alone_gives_the_columns_it_has_among_all(group: str, n_animals: int, n_points: int) -> None:
    everything, table = run((), n_animals, n_points)
    alone, part = run((group,), n_animals, n_points)
    columns = [i for i, f in enumerate(everything.features) if f.group == group]
    assert tuple(everything.features[i] for i in columns) == alone.features
    assert np.ascontiguousarray(table[:, columns]).tobytes() == part.tobytes()


@settings(max_examples=30, deadline=None)
@given(
    groups=st.lists(st.sampled_from(list(GROUPS)), min_size=1, unique=True), order=st.sampled_from(["kept", "sorted"])
)
def test_any_selection_gives_its_columns_in_the_fixed_order(groups: list[str], order: str) -> None:
    everything, table = run((), 2, 3, order)
    some, part = run(tuple(groups), 2, 3, order)
    columns = [i for i, f in enumerate(everything.features) if f.group in groups]
    assert tuple(everything.features[i] for i in columns) == some.features
    assert np.ascontiguousarray(table[:, columns]).tobytes() == part.tobytes()


@pytest.mark.parametrize(("n_animals", "n_points"), [(1, 2), (2, 7), (3, 5)])
def test_names_differ_and_units_are_known(n_animals: int, n_points: int) -> None:
    features = FeatureSpec().features(skeleton_of(n_animals, n_points))
    assert len({(f.group, f.name) for f in features}) == len(features)
    assert {f.unit for f in features} <= UNITS
    assert [f.group for f in features] == sorted((f.group for f in features), key=list(GROUPS).index)


def test_no_groups_means_all() -> None:
    assert FeatureSpec().groups == tuple(GROUPS)
    assert {f.group for f in FeatureSpec().features(MICE7)} == set(GROUPS)


@settings(max_examples=50, deadline=None)
@given(
    groups=st.lists(st.sampled_from(list(GROUPS)), unique=True),
    lags=st.sets(st.integers(1, 60), min_size=1, max_size=4),
    horizons=st.lists(st.floats(0.01, 100), max_size=4),
    hold=st.integers(0, 100),
    order=st.sampled_from(["kept", "sorted"]),
)
def test_a_spec_survives_json(groups: list[str], lags: set[int], horizons: list[float], hold: int, order: str) -> None:
    spec = FeatureSpec(tuple(groups), tuple(sorted(lags)), tuple(horizons), hold, animal_order=order)
    again = FeatureSpec.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert again.features(MICE7) == spec.features(MICE7)
    assert replace(again, groups=()) == replace(spec, groups=())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"groups": ("position", "smell")}, "smell.*position"),
        ({"lags": ()}, "lags"),
        ({"lags": (0, 1)}, "lags"),
        ({"lags": (3, 1)}, "rising"),
        ({"lags": (1, 1)}, "lags"),
        ({"horizons_s": (0.5, 0.0)}, "horizons_s"),
        ({"horizons_s": (-1.0,)}, "horizons_s"),
        ({"hold_frames": -1}, "hold_frames"),
        ({"windows_s": (0.0,)}, "windows_s"),
        ({"windows_s": (2.0, 0.5)}, "rising"),
        ({"absence_cap_s": 0.0}, "absence_cap_s"),
        ({"animal_order": "random"}, "'kept' or 'sorted', got 'random'"),
        ({"identities": "guessed"}, "'tracker' or 'relinked', got 'guessed'"),
        ({"relink_cap_px": 0.0}, "relink_cap_px"),
        ({"relink_margin_px": -1.0}, "relink_margin_px"),
    ],
)
def test_wrong_feature_settings_are_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingError, match=says):
        FeatureSpec(**change)


def test_an_unknown_setting_of_a_manifest_is_refused() -> None:
    with pytest.raises(SettingError, match="smoothing"):
        FeatureSpec.from_dict({**FeatureSpec().to_dict(), "smoothing": 3})


def test_too_many_animals_have_too_many_views() -> None:
    with pytest.raises(SettingError, match=r"too many for 5; set features.animal_order = 'sorted'"):
        FeatureSpec(("speed",)).views(replace(MICE7, animals=tuple("abcde")))


def test_a_manifest_from_before_relinking_takes_the_trackers_identities() -> None:
    old = {k: v for k, v in FeatureSpec().to_dict().items() if not k.startswith(("identities", "relink"))}
    assert FeatureSpec.from_dict(old).identities == "tracker"
