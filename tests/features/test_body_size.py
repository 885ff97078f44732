"""What a bundle says of the size of training's animals: given back as it was, and refused where it cannot be."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rtseg.errors import SettingError
from rtseg.features.body_size import BodySize, describe_size, measured_pairs
from rtseg.frames.skeleton import MICE7, Skeleton

SIZE = BodySize((("nose", "neck"), ("neck", "tail_base")), (20.5, 61.0), 0.75, 1.4, 300.0, 300)


def test_a_manifest_gives_back_what_it_got() -> None:
    assert BodySize.from_dict(json.loads(json.dumps(SIZE.to_dict())), MICE7) == SIZE


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"pairs": [["nose", "paw"], ["neck", "tail_base"]]}, "not in the skeleton: paw"),
        ({"lengths_px": [1.0]}, "for every pair"),
        ({"lengths_px": [1.0, 0.0]}, "above 0"),
        ({"lengths_px": [1.0, float("nan")]}, "above 0"),
        ({"low": 2.0}, "low < high"),
        ({"frames": 0}, "frames"),
        ({"wide": 1}, "expected the keys"),
    ],
)
def test_a_wrong_body_size_of_a_manifest_is_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingError, match=says):
        BodySize.from_dict(SIZE.to_dict() | change, MICE7)


def test_edges_are_measured_and_without_them_all_pairs() -> None:
    assert measured_pairs(MICE7) == MICE7.edges
    assert measured_pairs(Skeleton(("a",), ("x", "y", "z"))) == (("x", "y"), ("x", "z"), ("y", "z"))
    assert measured_pairs(Skeleton(("a",), ("x",))) == ()


def test_what_a_person_is_told() -> None:
    report = {"ratio": 0.5, "low": 0.75, "high": 1.4, "measured": 400, "out_of_range": 100}
    told = describe_size(report)
    assert told.startswith("animals appear 0.50 x as large as in training (there 0.75 to 1.40 x): give px_per_mm")
    for fine in ({}, report | {"ratio": 1.0}, report | {"ratio": None}, report | {"low": None, "high": None}):
        assert describe_size(fine) == ""
