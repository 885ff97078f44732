"""The log of trials: ensembles are averages of logits, and what is not trained yet is left out."""

from __future__ import annotations

from typing import Any

import numpy as np
import trials

from rtseg.study.trials import Trial


def softmax(logits: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    powers = np.exp(logits)
    return powers / powers.sum(-1, keepdims=True)


def test_an_ensemble_is_the_mean_of_its_members_logits() -> None:
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 3, (2, 40, 5))
    offsets = (0, 2, 5)

    def answers(of: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float32]]:
        return np.concatenate([softmax(of[:, :2]), softmax(of[:, 2:])], 1).astype(np.float32)

    found = trials.averaged([{"a": answers(one)} for one in logits], offsets)
    np.testing.assert_allclose(found["a"], answers(logits.mean(0)), atol=1e-6)


def test_only_what_is_trained_and_whole_ensembles_have_a_row() -> None:
    plan = {
        "trial": [{"name": name} for name in "abc"],
        "ensemble": [{"name": "ab", "of": ["a", "b"]}, {"name": "bc", "of": ["b", "c"]}],
    }
    probs = np.full((4, 2), 0.5, np.float32)
    done = {name: Trial({"multiply_adds": 10, "seconds": 2.0}, {"v": probs}) for name in "ab"}
    rows = trials.rows_of(plan, done, (0, 2))
    assert [row.name for row in rows] == ["a", "b", "ab"]
    assert (rows[2].multiply_adds, rows[2].seconds) == (20, 4.0)
