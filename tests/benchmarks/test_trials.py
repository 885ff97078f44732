"""The log of trials: ensembles are averages of logits, what is not trained yet is left out, what is known stays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trials

from rtseg.study.trials import Trial

PROBS = np.full((4, 2), 0.5, np.float32)


def softmax(logits: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    powers = np.exp(logits)
    return powers / powers.sum(-1, keepdims=True)


def trained(seconds: float = 2.0) -> Trial:
    return Trial({"multiply_adds": 10, "seconds": seconds}, {"v": PROBS})


def test_an_ensemble_is_the_mean_of_its_members_logits() -> None:
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 3, (2, 40, 5))
    offsets = (0, 2, 5)

    def answers(of: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float32]]:
        return np.concatenate([softmax(of[:, :2]), softmax(of[:, 2:])], 1).astype(np.float32)

    found = trials.averaged([{"a": answers(one)} for one in logits], offsets)
    np.testing.assert_allclose(found["a"], answers(logits.mean(0)), atol=1e-6)


def test_only_what_is_trained_and_whole_ensembles_have_a_row() -> None:
    plan: dict[str, Any] = {
        "trial": [{"name": name} for name in "abc"],
        "ensemble": [{"name": "ab", "of": ["a", "b"]}, {"name": "bc", "of": ["b", "c"]}],
    }
    rows = trials.rows_of(plan, {name: trained() for name in "ab"}, (0, 2))
    assert [row.name for row in rows] == ["a", "b", "ab"]
    assert (rows[2].multiply_adds, rows[2].seconds) == (20, 4.0)
    assert [row.like for row in rows] == ["", "a", "a"]


def test_a_trial_of_several_seeds_has_a_row_when_all_are_trained_and_is_compared_with_what_it_is_like() -> None:
    plan: dict[str, Any] = {
        "trial": [
            {"name": "a"},
            {"name": "b", "like": "a", "seeds": [1, 2]},
            {"name": "c", "like": "b", "seeds": [1, 2]},
        ]
    }
    done = {"b, seed 1": trained(2.0), "b, seed 2": trained(4.0), "c, seed 1": trained()}
    (row,) = trials.rows_of(plan, done, (0, 2))
    assert (row.name, row.like, len(row.probabilities), row.seconds) == ("b", "", 2, 3.0)
    assert trials.rows_of(plan, {**done, "c, seed 2": trained()}, (0, 2))[1].like == "b"


def test_a_trial_changes_what_the_one_it_is_like_changes_and_its_own_last() -> None:
    plan: dict[str, Any] = {
        "trial": [
            {"name": "a", "set": ["x=1"]},
            {"name": "b", "like": "a", "set": ["y=1"], "seeds": [8]},
            {"name": "c", "like": "b", "set": ["x=2"], "seeds": [8, 9]},
        ]
    }
    assert trials.all_changes(plan, plan["trial"][2]) == ("x=1", "y=1", "x=2")
    assert trials.trainings_of(plan["trial"][2]) == {
        "c, seed 8": ("train.seed=8",),
        "c, seed 9": ("train.seed=9",),
    }


def test_numbers_of_an_earlier_log_stay_and_only_other_trainings_are_scored_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan: dict[str, Any] = {
        "trial": [{"name": "a"}, {"name": "gone", "set": ["x=1"]}, {"name": "changed", "set": ["x=3"]}],
        "ensemble": [{"name": "both", "of": ["a", "gone"]}],
    }
    old = {"multiply_adds": 10, "seconds": 2.0, "heads": "old", "ahead": "old"}
    entries = [
        {"name": "a", "changes": [], **old},
        {"name": "gone", "changes": ["x=1"], **old},
        {"name": "changed", "changes": ["x=2"], **old},
        {"name": "both", "changes": ["mean of a, gone"], **old},
    ]
    log = tmp_path / "trials-d.json"
    log.write_text(json.dumps({"entries": entries}), encoding="utf-8")
    monkeypatch.setattr(trials, "_numbers", lambda row, *_: {"seconds": row.seconds, "heads": "new"})

    dataset: Any = None  # nothing is read where the numbers are given

    def heads(done: dict[str, Trial]) -> dict[str, str]:
        kept, rows = trials.known_numbers(log), trials.rows_of(plan, done, (0, 2))
        return {entry["name"]: entry["heads"] for entry in trials.scored(plan, rows, dataset, [], kept)}

    # Nothing stands for a trial whose settings are others now.
    assert heads({}) == {"a": "old", "gone": "old", "both": "old"}
    assert heads({"a": trained(2.0)}) == {"a": "old", "gone": "old", "both": "old"}
    # Trained again: what is compared with it is scored anew too, as far as its answers are there.
    assert heads({"a": trained(3.0), "changed": trained(1.0)}) == {
        "a": "new",
        "gone": "old",
        "changed": "new",
        "both": "old",
    }


def test_an_earlier_log_that_is_not_there_knows_nothing(tmp_path: Path) -> None:
    assert trials.known_numbers(tmp_path / "trials-d.json") == {}
