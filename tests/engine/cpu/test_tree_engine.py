"""The engine of trees beside its contract: against a walk node by node, and what its kernel is compiled for."""

from __future__ import annotations

import numpy as np
import pytest

from rtseg.bundle.trees import TreesSpec
from rtseg.engine.cpu import tree_kernels
from rtseg.engine.cpu.tree_engine import ADVANCE, TreeEngine
from rtseg.engine.select import choose_engine, make_engine
from rtseg.errors import EngineError
from tests.engine.networks import SPECS, bundle_of, features_of
from tests.trees import random_trees, rows_of, walked, with_trees


@pytest.mark.parametrize("name", ["small", "one head, odd sizes", "thirteen heads"])
def test_answers_are_those_of_a_walk_node_by_node(name: str) -> None:
    spec, tensors = random_trees(SPECS[name], seed=3)
    features = features_of(SPECS[name], 90)
    expected = np.stack([walked(spec, tensors, row) for row in rows_of(features, spec.windows)])
    assert expected.std(axis=0).min() > 0.005, "probabilities that hardly move would prove nothing"
    found = TreeEngine(spec, tensors, 1).run(features)
    # A mean that numpy rounds to the other side of a threshold is another leaf; these never are.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_a_value_at_a_border_goes_right_and_one_that_is_not_known_where_training_sent_it() -> None:
    head = SPECS["one head, odd sizes"].heads
    spec, tensors = random_trees(SPECS["one head, odd sizes"])
    one = TreesSpec(spec.n_features, (), head, (type(spec.trees[0])(1, 9, 1),))
    branches = np.zeros((9, 3), np.int32)
    branches[::3] = [(2, 1, 2), (2, 4, 4), (2, 7, 8)]
    tensors |= {
        "head.only.trees.base": np.zeros(3, np.float32),
        "head.only.trees.roots": np.array([[0], [3], [6]], np.int32),
        "head.only.trees.branches": branches,
        "head.only.trees.values": np.array([5, -1, 1] * 3, np.float32),
        "head.only.calibration.scale": np.ones(3, np.float32),
        "head.only.calibration.shift": np.zeros(3, np.float32),
    }
    one.check_tensors(tensors)
    features = np.zeros((4, spec.n_features), np.float32)
    features[:, 2] = 5, np.nextafter(np.float32(5), np.float32(0)), np.nan, -np.inf
    right, left, unknown, least = TreeEngine(one, tensors, 1).run(features)
    assert right.tobytes() == left.tobytes() == least.tobytes()  # all three trees alike: a third each
    np.testing.assert_allclose(unknown, np.exp([1, -1, 1]) / np.exp([1, -1, 1]).sum(), atol=1e-6)


def test_a_head_that_nothing_was_labelled_for_is_undecided_and_others_answer() -> None:
    spec, tensors = random_trees(SPECS["small"])
    none = {
        "head.face.trees.base": np.zeros(1, np.float32),
        "head.face.trees.roots": np.zeros((1, 0), np.int32),
        "head.face.trees.branches": np.zeros((0, 3), np.int32),
        "head.face.trees.values": np.zeros(0, np.float32),
        "head.face.calibration.scale": np.ones(2, np.float32),
        "head.face.calibration.shift": np.zeros(2, np.float32),
    }
    without = TreesSpec(spec.n_features, spec.windows, spec.heads, (spec.trees[0], type(spec.trees[0])(0, 0, 0)))
    without.check_tensors({**tensors, **none})
    features = features_of(SPECS["small"], 40)
    answers = TreeEngine(without, {**tensors, **none}, 1).run(features)
    assert (answers[:, 4:] == 0.5).all()
    assert answers[:, :4].tobytes() == TreeEngine(spec, tensors, 1).run(features)[:, :4].tobytes()


def test_the_kernel_is_compiled_ahead_for_what_it_is_called_with() -> None:
    spec, tensors = random_trees(SPECS["small"])
    engine = TreeEngine(spec, tensors, 1)
    engine.run(features_of(SPECS["small"], 3))
    assert engine.kernels == (ADVANCE,)
    signatures = getattr(tree_kernels.advance, "signatures", [ADVANCE.types])  # none without the JIT
    assert signatures == [ADVANCE.types]


@pytest.mark.parametrize("name", ["onnx", "torch", "cuda", "tensorrt", "onnx:int8"])
def test_engines_for_networks_refuse_trees_in_one_line(name: str) -> None:
    with pytest.raises(EngineError, match=f"engine '{name.partition(':')[0]}'.* holds gradient-boosted trees, which"):
        make_engine(with_trees(bundle_of(SPECS["small"])), name)


def test_auto_takes_numba_for_trees() -> None:
    engine, _ = choose_engine(with_trees(bundle_of(SPECS["small"])))
    assert isinstance(engine, TreeEngine)
    assert engine.name == "numba"
