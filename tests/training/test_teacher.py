"""Soft labels: the mean of what teachers said, and no teacher that has seen what it must not have seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rtseg.bundle.bundle import load_bundle
from rtseg.errors import RtsegError, SettingError
from rtseg.study.crossvalidate import crossvalidate
from rtseg.training.answers import Answers, columns_of, file_name, load_answers, save_answers
from rtseg.training.export import train_bundle
from rtseg.training.teacher import with_teacher
from tests.study.scenes import write_dataset
from tests.training.scenes import HEADS, example

COLUMNS = columns_of(HEADS)
EXAMPLES = [example("a/1", 1, 60), example("b", 2, 40)]


def said(name: str, seed: int, **changes: object) -> Answers:
    """A teacher's random answers about one of the examples, having seen the other one."""
    length = {e.name: len(e) for e in EXAMPLES}[name]
    probs = np.random.default_rng(seed).random((length, len(COLUMNS))).astype(np.float32)
    plain = {"recording": name, "columns": COLUMNS, "probs": probs, "seen": ("b",) if name == "a/1" else ("a/1",)}
    return Answers(**(plain | changes))  # type: ignore[arg-type]


def test_answers_come_back_from_their_file_exactly(tmp_path: Path) -> None:
    answers = said("a/1", 3)
    answers.probs[-2:] = np.nan
    path = save_answers(answers, tmp_path / "new")
    assert path.name == file_name("a/1") == "a_1.npz"
    back = load_answers(path)
    np.testing.assert_array_equal(back.probs, answers.probs)
    assert (back.recording, back.columns, back.seen) == (answers.recording, answers.columns, answers.seen)
    assert COLUMNS == ("near.far", "near.near", "speed.still", "speed.slow", "speed.fast", "fast.no", "fast.fast")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 nothing", b"text"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(content)
    with pytest.raises(RtsegError, match=r"x\.npz: no answers of a trained system"):
        load_answers(path)


def test_the_mean_of_all_teachers_and_nothing_where_none_answered(tmp_path: Path) -> None:
    one, two, other = said("a/1", 1), said("a/1", 2), said("b", 3)
    one.probs[50:] = np.nan  # a lookahead owed these
    two.probs[55:] = np.nan
    save_answers(one, tmp_path / "x" / "fold-0")
    save_answers(two, tmp_path / "y")
    save_answers(other, tmp_path / "y")
    first, second = with_teacher(EXAMPLES, [tmp_path / "x", tmp_path / "y"], HEADS)
    assert first.soft is not None
    assert second.soft is not None
    np.testing.assert_allclose(first.soft[:50], (one.probs[:50] + two.probs[:50]) / 2, rtol=1e-6)
    np.testing.assert_array_equal(first.soft[50:55], two.probs[50:55])
    assert np.isnan(first.soft[55:]).all()
    np.testing.assert_array_equal(second.soft, other.probs)
    assert first.soft.dtype == np.float32
    assert EXAMPLES[0].soft is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"seen": ("a/1", "b")}, "its teacher was trained on it"),
        ({"seen": ("b", "secret")}, "its teacher has seen secret, which is no training recording"),
        ({"probs": np.zeros((59, 7), np.float32)}, "the teacher answers 59 frames, the recording has 60"),
        ({"columns": tuple("abcdefg")}, "the teacher answers a, b, c, d, e, f, g; wanted near.far"),
    ],
)
def test_teachers_that_must_not_teach(tmp_path: Path, changes: dict[str, object], reason: str) -> None:
    save_answers(said("a/1", 1, **changes), tmp_path)
    save_answers(said("b", 2), tmp_path)
    with pytest.raises(SettingError, match=f"'a/1': {reason}"):
        with_teacher(EXAMPLES, [tmp_path], HEADS)


def test_no_teacher(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="no teacher here"):
        with_teacher(EXAMPLES, [tmp_path], HEADS)
    save_answers(said("b", 2), tmp_path)
    with pytest.raises(SettingError, match="the teacher says nothing about 'a/1'"):
        with_teacher(EXAMPLES, [tmp_path], HEADS)


def test_from_cross_validation_to_a_bundle(tmp_path: Path) -> None:
    recipe = write_dataset(tmp_path / "data", n_train=4, n_validation=2)
    settings = {"folds": 2, "inside_every": 2, "resamples": 20}
    crossvalidate(recipe, tmp_path / "cv", splits=("train",), **settings)  # type: ignore[arg-type]
    teacher = [tmp_path / "cv" / "crossvalidate.runs" / "tiny"]
    half = ("train.distill_weight=0.5",)
    plain = train_bundle(recipe, tmp_path / "plain")
    taught = train_bundle(recipe, tmp_path / "taught", overrides=half, teacher=teacher)
    assert any((taught.weights[n] != plain.weights[n]).any() for n in plain.weights)
    assert sorted(load_bundle(tmp_path / "taught").provenance["teacher"]) == [f"train/{i:02d}" for i in range(4)]
    assert plain.provenance["teacher"] == {}
    with pytest.raises(SettingError, match=r"set train\.distill_weight above 0"):
        train_bundle(recipe, tmp_path / "x", teacher=teacher)
    with pytest.raises(SettingError, match="name one with --teacher"):
        train_bundle(recipe, tmp_path / "x", overrides=half)
    # A teacher that was trained on validation recordings as well would make their scores worthless.
    crossvalidate(recipe, tmp_path / "all", **settings)  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="its teacher has seen validation/0"):
        train_bundle(recipe, tmp_path / "x", overrides=half, teacher=[tmp_path / "all" / "crossvalidate.runs"])
