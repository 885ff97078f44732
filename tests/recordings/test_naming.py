"""Names that a file gives its animals and keypoints, another choice of animals, and animals of different kinds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rtseg.errors import SettingError, SkeletonError
from rtseg.frames.skeleton import Skeleton
from rtseg.recordings.naming import NameMap
from rtseg.recordings.open import read_recording
from rtseg.recordings.recording import Recording
from rtseg.recordings.toml_table import Table

MODEL = Skeleton(("resident", "intruder"), ("nose", "tail_base"))


def recording(*animals: str, keypoints: tuple[str, ...] = ("nose", "tail"), listed: tuple[str, ...] = ()) -> Recording:
    """One frame; animal a, keypoint k is the point (a, k)."""
    n, k = len(animals), len(keypoints)
    points = np.stack(np.meshgrid(np.arange(n), np.arange(k), indexing="ij"), axis=-1)[None].astype(np.float32)
    skeleton = Skeleton(animals, keypoints)
    return Recording("r", skeleton, points, np.ones((1, n, k), np.float32), 30.0, "r.csv", listed_animals=listed)


def places(found: Recording) -> list[list[list[float]]]:
    return found.keypoints[0].tolist()


def test_names_are_mapped_both_ways() -> None:
    names = NameMap({"tail": "tail_base"}, {"m1": "intruder", "m2": "resident"})
    found = names.rename(recording("m1", "m2")).select(MODEL)
    assert found.skeleton == MODEL
    assert places(found) == [[[1, 0], [1, 1]], [[0, 0], [0, 1]]]


def test_names_may_change_places() -> None:
    names = NameMap({"tail": "tail_base"}, {"resident": "intruder", "intruder": "resident"})
    found = names.rename(recording("resident", "intruder")).select(MODEL)
    assert places(found) == [[[1, 0], [1, 1]], [[0, 0], [0, 1]]]


def test_a_files_name_is_matched_as_names_are() -> None:
    names = NameMap({"Tail": "tail_base"}, {"mouse 1": "intruder", "Mouse-2": "resident"})
    found = names.rename(recording("Mouse_1", "mouse2")).select(MODEL)
    assert places(found) == [[[1, 0], [1, 1]], [[0, 0], [0, 1]]]


def test_of_three_animals_two_are_chosen() -> None:
    three = recording("m1", "m2", "m3", keypoints=("nose", "tail_base"))
    with pytest.raises(SkeletonError, match="without a counterpart: resident, intruder"):
        three.select(MODEL)
    for chosen in (NameMap(chosen=("m1", "m3")), NameMap(animals={"m1": "resident", "m3": "intruder"})):
        assert places(chosen.rename(three).select(MODEL)) == [[[0, 0], [0, 1]], [[2, 0], [2, 1]]]


def test_a_chosen_animal_that_is_never_seen_is_missing() -> None:
    two = recording("m1", "m2", keypoints=("nose", "tail_base"), listed=("m1", "m3", "m2"))
    found = NameMap(chosen=("m1", "m3")).rename(two).select(MODEL)
    assert places(found)[0] == [[0, 0], [0, 1]]
    assert np.isnan(found.keypoints[0, 1]).all()
    with pytest.raises(SkeletonError, match=r"r\.csv: none of the animals m3 is ever seen"):
        NameMap(chosen=("m3",)).rename(two)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (NameMap({"tial": "tail_base"}), "keypoints to rename: the source has no 'tial'; it has: nose, tail"),
        (NameMap({"tail": "nose"}), "'nose' would be the name of two"),
        (NameMap(animals={"m3": "resident"}), "animals to rename: the source has no 'm3'"),
        (NameMap(animals={"m1": "m2"}), "'m2' would be the name of two"),
        (NameMap(chosen=("m1", "m3")), "without a counterpart: m3"),
    ],
)
def test_mistakes_name_the_file(names: NameMap, words: str) -> None:
    with pytest.raises(SkeletonError) as error:
        names.rename(recording("m1", "m2"))
    assert words in str(error.value)
    assert str(error.value).startswith("r.csv: ")


def test_a_name_that_is_right_already_may_be_mapped_as_well() -> None:
    names = NameMap({"tail": "tail_base"})
    two = recording("resident", "intruder", keypoints=("nose", "tail_base"))
    assert names.rename(two).skeleton == two.skeleton


def test_options_and_tables() -> None:
    assert NameMap.from_options(("tail=tail_base",), ("m1", "m3")) == NameMap({"tail": "tail_base"}, {}, ("m1", "m3"))
    assert NameMap.from_options((), ("m1=a", "m2=b=c")) == NameMap({}, {"m1": "a", "m2": "b=c"})
    for keypoints, animals in (
        (("tail",), ()),
        (("=x",), ()),
        (("a=b", "a=c"), ()),
        ((), ("m1", "m2=b")),
        ((), ("m1=",)),
    ):
        with pytest.raises(SettingError):
            NameMap.from_options(keypoints, animals)
    plain = {"keypoints": {"tail": "tail_base"}, "animals": ["m1"]}
    assert NameMap.from_plain(Table("", plain)) == NameMap({"tail": "tail_base"}, {}, ("m1",))
    with pytest.raises(SettingError, match="animals"):
        NameMap.from_plain(Table("", {"animals": "m1"}))


CRICKET = """scorer,{s}
individuals,mouse,mouse,mouse,mouse,mouse,mouse,{other},{other},{other}
bodyparts,nose,nose,nose,tail,tail,tail,body,body,body
coords,x,y,likelihood,x,y,likelihood,x,y,likelihood
0,1,2,0.5,3,4,0.25,50,60,0.75
1,1,2,0.5,3,4,0.25,,,
"""


@pytest.fixture(params=["cricket", "single"])
def mouse_and_cricket(request: pytest.FixtureRequest, tmp_path: Path) -> Recording:
    """A mouse of two points and a cricket of one: an animal of its own, or DeepLabCut's unique bodypart."""
    path = tmp_path / "a.csv"
    path.write_text(CRICKET.format(s=",".join("s" * 9), other=request.param))
    return read_recording(path, fps=30)


def test_animals_of_different_kinds(mouse_and_cricket: Recording) -> None:
    other = "single" if mouse_and_cricket.unique is not None else "cricket"
    found = NameMap(animals={other: "prey"}).rename(mouse_and_cricket)
    model = Skeleton(("mouse", "prey"), ("nose", "tail", "body"))
    chosen = found.select(model)
    nan = np.nan
    np.testing.assert_array_equal(
        chosen.keypoints[0], [[[1, 2], [3, 4], [nan, nan]], [[nan, nan], [nan, nan], [50, 60]]]
    )
    assert chosen.confidence[0].tolist() == [[0.5, 0.25, 0], [0, 0, 0.75]]
    assert np.isnan(chosen.keypoints[1, 1]).all()
    # One name for the middle of both would do as well, and the mouse alone is the mouse alone.
    both = NameMap({"nose": "middle", "body": "point"}, {other: "prey"}).rename(mouse_and_cricket)
    assert both.skeleton.keypoints == ("middle", "tail", "point")
    alone = mouse_and_cricket.select(Skeleton(("mouse",), ("nose", "tail")))
    assert places(alone) == [[[1, 2], [3, 4]]]


def test_a_model_that_calls_it_single_finds_it(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(CRICKET.format(s=",".join("s" * 9), other="single"))
    found = read_recording(path, fps=30)
    assert found.skeleton.animals == ("mouse",)
    assert any("unique bodyparts that are no animal are left out: body" in w for w in found.warnings)
    whole = found.part("p", 0, 1).select(Skeleton(("single", "mouse"), ("body", "nose")))
    assert whole.confidence[0].tolist() == [[0.75, 0], [0, 0.5]]
    assert not any("unique" in warning for warning in whole.warnings)
