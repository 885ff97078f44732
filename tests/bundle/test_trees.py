"""Trees in a bundle: written and read, selected, and refused where a kernel would read what is not there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rtseg.bundle.bundle import WEIGHTS, Bundle, load_bundle, save_bundle
from rtseg.bundle.limits import read_architecture
from rtseg.bundle.model_card import model_card
from rtseg.bundle.trees import TreesSpec, longest_walk
from rtseg.errors import BundleError, SettingError
from rtseg.inference.classifier import Classifier
from tests.engine.networks import SPECS
from tests.inference.test_session import wandering
from tests.trees import random_trees, with_trees

Tensors = dict[str, NDArray[Any]]
SMALL = SPECS["one head, odd sizes"]
NODES = "head.task1.trees.branches"


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> Bundle:
    return with_trees(load_bundle(tiny_bundle))


@pytest.fixture
def folder(bundle: Bundle, tmp_path: Path) -> Path:
    save_bundle(bundle, tmp_path / "trees")
    return tmp_path / "trees"


def test_a_bundle_of_trees_comes_back_as_it_was(bundle: Bundle, folder: Path) -> None:
    back = load_bundle(folder)
    assert back.architecture == bundle.architecture
    assert {n: (t.dtype, t.tobytes()) for n, t in back.weights.items()} == {
        n: (t.dtype, t.tobytes()) for n, t in bundle.weights.items()
    }
    recording = wandering(60)
    assert Classifier(back).run(recording).probs.tobytes() == Classifier(bundle).run(recording).probs.tobytes()
    card = model_card(back)
    assert "rounds of boosting" in card
    assert "up to 16 frames before it" in card


def test_a_bundle_of_trees_has_no_network(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="trees, which the engine numba alone steps"):
        _ = bundle.network


def test_heads_that_are_left_answer_as_before(bundle: Bundle) -> None:
    recording = wandering(60)
    one = bundle.select_heads(["sniff_face"])
    assert [h.name for h in one.heads] == ["sniff_face"]
    assert one.hash.endswith(":sniff_face")
    assert Classifier(one).run(recording).probs.tobytes() == Classifier(bundle).run(recording).probs[:, 4:].tobytes()
    with pytest.raises(SettingError, match="unknown head 'mount'"):
        bundle.select_heads(["mount"])


def spoilt(tensors: Tensors, name: str, change: Callable[[NDArray[Any]], object]) -> Tensors:
    copy = tensors[name].copy()
    change(copy)
    return {**tensors, name: copy}


def at(*place: int) -> Callable[[Any], Callable[[NDArray[Any]], object]]:
    return lambda value: lambda tensor: tensor.__setitem__(place, value)


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        (NODES, at(0, 0)(10**6), "node 0 of"),
        (NODES, at(0, 0)(-1), "node 0 of"),
        (NODES, at(0, 1)(10**6), "children behind it"),
        (NODES, at(0, 1)(2**31 - 1), "children behind it"),
        (NODES, at(0, 1)(-5), "children behind it"),
        (NODES, at(2, 1)(1), "children behind it"),
        (NODES, at(0, 2)(7), "children behind it"),
        ("head.task1.trees.roots", at(0, 0)(-1), "nodes that are not there"),
        ("head.task1.trees.roots", at(1, 0)(2**30), "nodes that are not there"),
        ("head.task1.trees.values", at(0)(np.nan), "not finite"),
        ("head.task1.trees.base", at(0)(np.inf), "not finite"),
        ("head.task1.calibration.scale", at(0)(-np.inf), "not finite"),
    ],
)
def test_tensors_that_would_lead_a_kernel_astray_are_refused(
    bundle: Bundle, folder: Path, name: str, change: Callable[[NDArray[Any]], object], says: str
) -> None:
    tensors = spoilt(dict(bundle.weights), name, change)
    save_bundle(replace(bundle, weights=tensors), folder)
    with pytest.raises(BundleError, match=says):
        load_bundle(folder)


def test_a_last_node_has_no_room_for_children(bundle: Bundle) -> None:
    last = len(bundle.weights[NODES]) - 1
    for left in (last, last + 1):
        with pytest.raises(BundleError, match="children behind it"):
            bundle.architecture.check_tensors(spoilt(dict(bundle.weights), NODES, at(last - 1, 1)(left)))


def test_types_and_shapes_are_those_that_the_kernel_reads(bundle: Bundle) -> None:
    for name, wrong in (
        (NODES, bundle.weights[NODES].astype(np.int64)),
        (NODES, bundle.weights[NODES][:-1]),
        ("head.task1.trees.values", bundle.weights["head.task1.trees.values"].astype(np.float64)),
    ):
        with pytest.raises(BundleError, match="expected"):
            bundle.architecture.check_tensors({**bundle.weights, name: wrong})
    without = {n: t for n, t in bundle.weights.items() if n != NODES}
    with pytest.raises(BundleError, match="got nothing"):
        bundle.architecture.check_tensors(without)
    with pytest.raises(BundleError, match="does not know: more"):
        bundle.architecture.check_tensors({**bundle.weights, "more": np.zeros(1, np.float32)})


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_whatever_passes_the_check_can_be_walked(data: st.DataObject) -> None:
    """Random changes of the nodes: refused, or every walk ends inside within the depth that was said."""
    spec, tensors = random_trees(SMALL)
    name = "head.only.trees.branches"
    nodes = tensors[name].copy()
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(nodes) - 1)), data.draw(st.integers(0, 2))
        nodes[place] = data.draw(st.integers(-3, len(nodes) + 3))
    try:
        spec.check_tensors({**tensors, name: nodes})
    except BundleError:
        return
    for root in tensors["head.only.trees.roots"].ravel():
        seen, level = 0, {int(root)}
        while level:
            below = {int(child) for node in level if nodes[node, 1] for child in (nodes[node, 1], nodes[node, 1] + 1)}
            assert all(0 <= node < len(nodes) and 0 <= nodes[node, 0] < spec.n_columns for node in level)
            seen, level = seen + 1, below
        assert seen - 1 <= spec.trees[0].depth


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"n_features": 0}, "whole and positive"),
        ({"n_features": True}, "whole and positive"),
        ({"windows": [0]}, "whole and positive"),
        ({"windows": [10**9]}, "whole and positive"),
        ({"windows": [30_000_000]}, "whole and positive"),
        ({"windows": [1_000_000]}, "bytes of a stream's state"),
        ({"windows": [1] * 17}, "at most 16 windows"),
        ({"n_features": 16_384, "windows": [1] * 9}, "columns"),
        ({"trees": []}, "trees for 0 of 1 heads"),
        ({"trees": [{"rounds": 10**6, "nodes": 3, "depth": 1}]}, "whole and not negative"),
        ({"trees": [{"rounds": 1, "nodes": 2**40, "depth": 1}]}, "whole and not negative"),
        ({"trees": [{"rounds": 1, "nodes": 3, "depth": 65}]}, "whole and not negative"),
        ({"trees": [{"rounds": -1, "nodes": 3, "depth": 1}]}, "whole and not negative"),
        ({"trees": [{"rounds": 1, "nodes": 3}]}, "lacks or misnames"),
        ({"trees": 5}, "lacks or misnames"),
        ({"more": 1}, "misnames a field: more"),
        ({"heads": []}, "trees for 1 of 0 heads"),
        ({"heads": [{"name": "a", "classes": ["one"], "scored": [], "group": "a"}]}, "has the classes"),
        ({"kind": "forest"}, "expected an architecture of kind"),
    ],
)
def test_sizes_that_no_bundle_has_are_refused(change: dict[str, Any], says: str) -> None:
    spec, _ = random_trees(SMALL)
    with pytest.raises(BundleError, match=says):
        read_architecture({**spec.to_dict(), **change})


def test_sizes_come_back() -> None:
    spec, _ = random_trees(SMALL)
    assert TreesSpec.from_dict(spec.to_dict()) == spec
    assert read_architecture(spec.to_dict()) == spec
    assert asdict(spec.trees[0])["depth"] == 4
    assert spec.comparisons == 3 * spec.trees[0].rounds * 4
    assert spec.work > spec.comparisons


def test_a_gap_that_is_filled_holds_up_nobody_for_long(bundle: Bundle, folder: Path) -> None:
    """What one message of a client may cost counts trees and windows, too (`limits.check_servable`)."""
    long = replace(bundle.architecture, windows=(4000,))
    assert long.work > 16 * 4000 * long.n_features
    with pytest.raises(BundleError, match=r"state may take|stream's state"):
        read_architecture(replace(bundle.architecture, windows=(40_000,)).to_dict())
    assert (folder / WEIGHTS).stat().st_size < 100_000


def test_a_walk_is_measured_as_far_as_it_may_go() -> None:
    chain = np.zeros((9, 3), np.int32)
    for node in range(4):
        chain[2 * node] = 0, 2 * node + 1, 2 * node + 1
        # The right child goes on: nodes 2, 4, 6 and 8.
    roots = np.array([[0]], np.int32)
    assert longest_walk(roots, chain, 9) == 4
    assert longest_walk(roots, chain, 4) == 4
    assert longest_walk(roots, chain, 2) == 3
