"""XGBoost's trees as a bundle has them: the same leaves, whatever the rows hold; a difference is noticed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from rtseg.bundle.trees import TreesSpec
from rtseg.engine.cpu.tree_engine import TreeEngine
from rtseg.errors import RtsegError
from rtseg.recordings.heads import Head
from rtseg.training.boosting.xgboost_trees import _base, check_same, trees_of

xgboost = pytest.importorskip("xgboost")


def some_rows(n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rows = rng.normal(0, 10, (n, 6)).astype(np.float32)
    rows[rng.random(rows.shape) < 0.2] = np.nan
    rows[:, 3] = np.round(rows[:, 3])  # values that meet thresholds exactly
    return rows


def boosted(n_classes: int, rounds: int = 12) -> tuple[Head, Any]:
    rows = some_rows(800, 1)
    labels = (np.nan_to_num(rows[:, 0]) + np.nan_to_num(rows[:, 3]) > 3).astype(int) + (rows[:, 1] > 8)
    labels = np.minimum(labels, n_classes - 1)
    objective = {"objective": "binary:logistic"}
    if n_classes > 2:
        objective = {"objective": "multi:softprob", "num_class": n_classes}
    data = xgboost.QuantileDMatrix(rows, labels, max_bin=64, nthread=1)
    settings = {"tree_method": "hist", "max_bin": 64, "max_depth": 5, "eta": 0.3, "seed": 1, "nthread": 1, **objective}
    classes = tuple("abcd"[:n_classes])
    return Head("head", classes, classes[1:], "head"), xgboost.train(settings, data, rounds)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_engine_gives_what_xgboost_gives(n_classes: int) -> None:
    head, booster = boosted(n_classes)
    trees, rows = trees_of(head, booster), some_rows(3000, 2)
    check_same(trees, booster, rows)
    spec = TreesSpec(6, (), (head,), (trees.sizes,))
    spec.check_tensors(trees.tensors())
    predicted = booster.inplace_predict(rows)
    expected = predicted if n_classes > 2 else np.stack((1 - predicted, predicted), axis=1)
    assert expected.std(axis=0).min() > 0.05
    found = TreeEngine(spec, trees.tensors(), 1).run(rows)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_sums_have_the_bits_of_xgboost_s() -> None:
    head, booster = boosted(3)
    trees, rows = trees_of(head, booster), some_rows(1000, 3)
    margins = booster.inplace_predict(rows, predict_type="margin")
    np.testing.assert_array_equal(trees.logits(rows), margins)


def test_a_booster_of_one_leaf_and_none_at_all() -> None:
    head, _ = boosted(2, 1)
    data = xgboost.QuantileDMatrix(np.zeros((10, 6), np.float32), np.zeros(10), max_bin=64, nthread=1)
    constant = xgboost.train({"objective": "binary:logistic", "base_score": 0.3, "max_bin": 64, "nthread": 1}, data, 2)
    trees = trees_of(head, constant)
    assert trees.sizes.depth == 0
    check_same(trees, constant, some_rows(20, 1))
    none = trees_of(head, None)
    assert (none.sizes.rounds, none.sizes.nodes) == (0, 0)
    assert (none.logits(some_rows(5, 1)) == 0).all()


def test_another_way_of_writing_trees_is_noticed() -> None:
    head, booster = boosted(2)
    trees, rows = trees_of(head, booster), some_rows(400, 4)
    for wrong in (
        replace(trees, base=trees.base + np.float32(0.001)),
        replace(trees, values=np.nextafter(trees.values, np.float32(9)) + np.float32(1e-3)),
        replace(trees, branches=trees.branches[:, [0, 1, 1]]),  # NaN always to the left
    ):
        with pytest.raises(RtsegError, match=f"what XGBoost {xgboost.__version__} answers"):
            check_same(wrong, booster, rows)


@pytest.mark.parametrize("said", ["5E-1", "[5E-1]"])
def test_a_base_of_two_classes_is_a_probability(said: str) -> None:
    assert _base(said, 1).tolist() == [0.0]


def test_a_base_of_more_classes_is_one_number_for_all_or_one_for_each() -> None:
    assert _base("5E-1", 3).tolist() == [0.5, 0.5, 0.5]
    assert _base("[1E0,2E0,-3E0]", 3).tolist() == [1.0, 2.0, -3.0]
