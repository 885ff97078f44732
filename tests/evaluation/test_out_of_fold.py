"""Out-of-fold answers: they come back exactly, and a file that could flatter a system is refused with the reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from rtseg.errors import SettingError
from rtseg.evaluation.out_of_fold import (
    Fold,
    OutOfFold,
    TrainingCost,
    check_out_of_fold,
    hold_unanswered,
    identify,
    read_out_of_fold,
    write_out_of_fold,
)
from rtseg.frames.skeleton import MICE7
from tests.training.scenes import HEADS, example

EXAMPLES = [example(name, number, 30 + number) for number, name in enumerate(("a/1", "b", "c", "d"))]
DATA = identify("tiny", MICE7, 30.0, HEADS, EXAMPLES)
COLUMNS = tuple(f"{head.name}.{name}" for head in HEADS for name in head.classes)


def random_probs(n_frames: int, seed: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.dirichlet(np.ones(len(h.classes)), n_frames) for h in HEADS], axis=1).astype(np.float32)


def answers() -> OutOfFold:
    """Two seeds, two folds; every part is valid."""
    return OutOfFold(
        system="net",
        recipe="0" * 64,
        causal=True,
        lookahead_frames=2,
        dataset="tiny",
        dataset_hash=DATA.hash,
        columns=COLUMNS,
        seeds=(5, 6),
        folds=(Fold(("c",), ("d",)), Fold(("a/1",), ("b",))),
        fold_of={"a/1": 0, "b": 0, "c": 1, "d": 1},
        hashes={name: one.hash for name, one in DATA.recordings.items()},
        held={"a/1": 2, "b": 2, "c": 2, "d": 2},
        costs=tuple(TrainingCost(seed, fold, 1.5, 1000) for seed in (5, 6) for fold in (0, 1)),
        frames={name: np.arange(one.n_frames) for name, one in DATA.recordings.items()},
        probabilities=tuple({e.name: random_probs(len(e), seed) for e in EXAMPLES} for seed in (1, 2)),
        settings={"name": "net", "train": {"epochs": 3}},
    )


def changed_probs(change: Callable[[np.ndarray[Any, Any]], Any]) -> OutOfFold:
    """The answers with those of the second seed to `c` changed."""
    good = answers()
    probs = good.probabilities[1]["c"].copy()
    new = change(probs)
    return replace(
        good, probabilities=(good.probabilities[0], {**good.probabilities[1], "c": probs if new is None else new})
    )


def test_answers_come_back_exactly(tmp_path: Path) -> None:
    ours, path = answers(), tmp_path / "net.safetensors"
    write_out_of_fold(ours, path)
    back = read_out_of_fold(path)
    for name in ("system", "recipe", "causal", "lookahead_frames", "dataset", "dataset_hash", "columns", "seeds"):
        assert getattr(back, name) == getattr(ours, name)
    for name in ("folds", "fold_of", "hashes", "held", "costs", "settings"):
        assert getattr(back, name) == getattr(ours, name)
    for one, other in zip((back.frames, *back.probabilities), (ours.frames, *ours.probabilities), strict=True):
        assert one.keys() == other.keys()
        assert all(one[name].tobytes() == other[name].tobytes() for name in one)
    check_out_of_fold(back, DATA, path)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (replace(answers(), columns=COLUMNS[::-1]), "expected the columns near.far, .* got fast.fast"),
        (replace(answers(), fold_of={"a/1": 0, "b": 0, "c": 1}), "no answers to: d"),
        (replace(answers(), fold_of={**answers().fold_of, "e": 1}), "answers to what the data set has not: e"),
        (replace(answers(), frames={"a/1": np.arange(30)}), "of each recording that it names, and of no other"),
        (replace(answers(), probabilities=answers().probabilities[:1]), "answers of 2 seeds, got those of 1"),
        (replace(answers(), seeds=(5, 5)), "one or more different seeds"),
        (replace(answers(), hashes={**answers().hashes, "b": "0"}), "b: its poses or labels are others now"),
        (replace(answers(), dataset_hash="0" * 64), "data set 'tiny': expected hash .*, got 0000"),
        (replace(answers(), fold_of=dict.fromkeys("bcd", 1) | {"a/1": 0}), "fold 1 answers what it was .*: b"),
        (replace(answers(), folds=(Fold(("c",), ("a/1",)), answers().folds[1])), "fold 0 answers what it was .*: a/1"),
        (replace(answers(), folds=(Fold((), ("d",)), answers().folds[1])), "fold 0: expected training recordings"),
        (replace(answers(), folds=(Fold(("c", "x"), ()), answers().folds[1])), "of the data set, got x"),
        (replace(answers(), folds=(*answers().folds, Fold(("a/1",), ()))), r"each with recordings, got \[0, 1\]"),
        (replace(answers(), fold_of=dict.fromkeys(DATA.recordings, 0)), r"each with recordings, got \[0\]"),
        (replace(answers(), costs=answers().costs[1:]), "one training for every seed and fold"),
        (replace(answers(), frames={**answers().frames, "c": np.arange(1, 33)}), "c: expected the frames 0 to 31"),
        (replace(answers(), frames={**answers().frames, "c": np.arange(31)}), "c: expected the frames 0 to 31"),
        (changed_probs(lambda p: p[:-1]), r"c: expected \(32, 7\) float32, got \(31, 7\)"),
        (changed_probs(lambda p: p.astype(np.float64)), "got .* float64"),
        (changed_probs(lambda p: p.__setitem__((3, 1), np.nan)), "frame 3, column 1: expected a probability .* nan"),
        (changed_probs(lambda p: p.__setitem__((3, slice(0, 2)), (1.5, -0.5))), "frame 3, column 0: .* got 1.5"),
        (changed_probs(lambda p: p.__setitem__((3, slice(2, 5)), 0.5)), "frame 3, head 'speed': .* got 1.5"),
    ],
)
def test_what_could_flatter_is_refused(bad: OutOfFold, reason: str) -> None:
    check_out_of_fold(answers(), DATA, Path("x"))
    with pytest.raises(SettingError, match=rf"^x: .*{reason}.*Run 'rtseg crossvalidate' again"):
        check_out_of_fold(bad, DATA, Path("x"))


def test_a_recording_that_was_changed_since_is_named() -> None:
    for change in (
        {"labels": (EXAMPLES[2].labels + 1).astype(np.int16)},
        {"keypoints": EXAMPLES[2].keypoints + np.float32(1)},
        {"confidence": EXAMPLES[2].confidence / 2},
        {"absent": np.isnan(EXAMPLES[2].keypoints).all((1, 2, 3)) | (np.arange(32) == 3)},
    ):
        now = identify("tiny", MICE7, 30.0, HEADS, [*EXAMPLES[:2], replace(EXAMPLES[2], **change), EXAMPLES[3]])
        with pytest.raises(SettingError, match="c: its poses or labels are others now"):
            check_out_of_fold(answers(), now, Path("x"))
    # What belongs to no recording: the heads' scored classes decide the score.
    other = (replace(HEADS[0], scored=("far",)), *HEADS[1:])
    with pytest.raises(SettingError, match="data set 'tiny': expected hash"):
        check_out_of_fold(answers(), identify("tiny", MICE7, 30.0, other, EXAMPLES), Path("x"))


def test_the_datas_hash_knows_no_order_and_one_nan() -> None:
    shown = [replace(e, keypoints=np.where(np.isnan(e.keypoints), -np.float32(np.nan), e.keypoints)) for e in EXAMPLES]
    assert identify("other name", MICE7, 30, HEADS, reversed(shown)).hash == DATA.hash
    assert identify("tiny", MICE7, 25.0, HEADS, EXAMPLES).hash != DATA.hash


def test_a_file_that_was_changed_since_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    write_out_of_fold(answers(), path)
    with safe_open(path, "np") as file:
        about = file.metadata()
    tensors = load_file(path)
    tensors["probabilities/0/c"][0, :2] = tensors["probabilities/0/c"][0, 1::-1]
    save_file(tensors, path, about)
    with pytest.raises(SettingError, match=r"net\.safetensors: changed since it was written"):
        read_out_of_fold(path)
    write_out_of_fold(answers(), path)
    told = json.loads(about["rtseg"]) | {"recipe": "1" * 64}
    save_file(load_file(path), path, {"rtseg": json.dumps(told)})
    with pytest.raises(SettingError, match="changed since it was written"):
        read_out_of_fold(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda about: about | {"version": 2},
        lambda about: about | {"seeds": 5},
        lambda about: about | {"folds": [{"trained_on": ["c"]}]},
        lambda about: about | {"recordings": []},
        lambda about: {"format": about["format"]},
        lambda about: [],
    ],
)
def test_other_headers_are_refused(change: Callable[[Any], Any], tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    write_out_of_fold(answers(), path)
    with safe_open(path, "np") as file:
        about = json.loads(file.metadata()["rtseg"])
    save_file(load_file(path), path, {"rtseg": json.dumps(change(about))})
    with pytest.raises(SettingError, match=r"net\.safetensors: expected out-of-fold answers, version 1"):
        read_out_of_fold(path)


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 nothing", b"text" * 9])
def test_other_files_are_refused(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingError, match=r"x\.safetensors: expected out-of-fold answers"):
        read_out_of_fold(path)


@given(st.lists(st.booleans(), max_size=30))
def test_what_was_not_answered_takes_the_last_answer(answered: list[bool]) -> None:
    probs = random_probs(len(answered), 3)
    probs[~np.array(answered, np.bool_)] = np.nan
    whole, n_held = hold_unanswered(probs, HEADS)
    assert n_held == answered.count(False)
    last = np.array([1 / 2] * 2 + [1 / 3] * 3 + [1 / 2] * 2, np.float32)
    for row, probabilities in zip(whole, probs, strict=True):
        last = last if np.isnan(probabilities).any() else probabilities
        assert row.tobytes() == last.tobytes()
