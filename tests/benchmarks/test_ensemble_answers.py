"""Out-of-fold answers of an ensemble: the mean of the logits, everything seen by any member, members of one kind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ensemble_answers import ensemble

from rtseg.errors import RtsegError
from rtseg.evaluation.out_of_fold import Fold, OutOfFold, TrainingCost

FILES = [Path("one"), Path("other")]


def member(system: str, probs: list[list[float]], **changes: object) -> OutOfFold:
    made = OutOfFold(
        system=system,
        recipe=system,
        causal=True,
        lookahead_frames=0,
        dataset="d",
        dataset_hash="h",
        columns=("S1.a", "S1.b", "S2.a", "S2.b", "S2.c"),
        seeds=(5,),
        folds=(Fold(("v",), ()), Fold(("u",), ())),
        fold_of={"u": 0, "v": 1},
        hashes={"u": "1", "v": "2"},
        held={"u": 0, "v": 0},
        costs=(TrainingCost(5, 0, 10.0, 100), TrainingCost(5, 1, 20.0, 100)),
        frames={name: np.arange(1) for name in "uv"},
        probabilities=({name: np.array(probs, np.float32) for name in "uv"},),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def test_logits_are_averaged_head_by_head_and_costs_added() -> None:
    one = member("one", [[0.5, 0.5, 0.2, 0.2, 0.6]])
    other = member("other", [[0.9, 0.1, 0.2, 0.2, 0.6]], folds=(Fold(("v",), ("w",)), Fold(("u",), ())))
    both = ensemble("both", [one, other], FILES)
    odds = np.sqrt(9.0)  # the geometric mean of 1 : 1 and 9 : 1
    np.testing.assert_allclose(
        both.probabilities[0]["u"], [[odds / (1 + odds), 1 / (1 + odds), 0.2, 0.2, 0.6]], rtol=1e-6
    )
    assert both.folds[0] == Fold(("v",), ("w",))
    assert both.costs == (TrainingCost(5, 0, 20.0, 200), TrainingCost(5, 1, 40.0, 200))
    assert (both.system, both.causal) == ("both", True)


def test_members_of_other_folds_are_refused() -> None:
    one, other = member("one", [[0.5] * 5]), member("other", [[0.5] * 5], fold_of={"u": 1, "v": 0})
    with pytest.raises(RtsegError, match="other: fold_of differ from those of one"):
        ensemble("both", [one, other], FILES)
