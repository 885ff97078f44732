"""How far a system is said to look ahead, against real networks whose future is changed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from rtseg import config
from rtseg.config import KINDS, Recipe
from rtseg.model.select import make_model
from rtseg.paper.sight import future_frames
from rtseg.recordings.heads import Head
from rtseg.training.boosting.window_table import window_statistics
from rtseg.training.selection import predict_probabilities

HEADS = (Head("one", ("a", "b", "c"), ("a",), "one"), Head("two", ("a", "b"), ("b",), "two"))
T, AT = 240, 100
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((kind, {}) for kind in KINDS if kind != "gradient-boosting"),
    ("conv1d", {"kernel": 5}),
    ("multitask-tcn", {"first_dilation": 2, "head_first_dilation": 3}),
]
SMALL = {
    "channels": 8,
    "layers": 3,
    "stages": 2,
    "head_channels": 4,
    "head_layers": 2,
    "depth": 2,
    "attention_window": 6,
    "window_frames": 40,
    "dropout": 0.0,
}


def recipe(kind: str, **model: Any) -> Recipe:
    plain = {"name": kind, "dataset": "none", "arena": [0, 0, 1, 1], "model": {**SMALL, "kind": kind, **model}}
    return config.from_plain(plain, Recipe)


def answer_after_change(model: torch.nn.Module, features: torch.Tensor, frame: int) -> torch.Tensor:
    changed = features.clone()
    changed[:, frame] += 3.0
    probabilities = model.probabilities
    assert callable(probabilities)
    with torch.no_grad():
        answer: torch.Tensor = probabilities(changed)[0, AT]
    return answer


@pytest.mark.parametrize(("kind", "change"), VARIANTS)
def test_no_frame_beyond_the_sight_matters_and_its_last_frame_does(kind: str, change: dict[str, Any]) -> None:
    settings = recipe(kind, causal=False, **change)
    said = future_frames(settings, 30.0)
    features = torch.from_numpy(np.random.default_rng(1).normal(size=(1, T, 5)))
    matters = False
    for seed in range(3, 8):  # one network may have every rectifier shut on the way from that frame
        torch.manual_seed(seed)
        model = make_model(settings, 5, HEADS).double().eval()
        before = answer_after_change(model, features, 0 if kind in ("lstm", "gru") else T - 1)
        if said is None:
            assert not torch.equal(before, answer_after_change(model, features, T // 2))
            return
        assert AT + said + 1 < T - 1
        assert torch.equal(before, answer_after_change(model, features, AT + said + 1))
        matters |= not torch.equal(before, answer_after_change(model, features, AT + said))
    assert matters


@pytest.mark.parametrize("kind", ["conv1d", "fully-connected"])
def test_a_network_that_sees_every_third_frame_looks_three_times_as_far(kind: str) -> None:
    settings = recipe(kind, causal=False)
    strided = replace(settings, train=replace(settings.train, frame_stride=3))
    said, usual = future_frames(strided, 30.0), future_frames(settings, 30.0)
    assert said is not None
    assert usual is not None
    assert said == 3 * usual
    torch.manual_seed(3)
    model = make_model(strided, 5, HEADS)
    features = np.random.default_rng(1).normal(size=(T, 5)).astype(np.float32)
    before = predict_probabilities(model, features, 0)[AT]
    for frame, matters in ((AT + said, True), (AT + said - 1, False), (AT + said + 3, False), (AT + 1, False)):
        changed = features.copy()
        changed[frame] += 3.0
        assert np.array_equal(predict_probabilities(model, changed, 0)[AT], before) != matters


@pytest.mark.parametrize("kind", KINDS)
def test_a_causal_system_looks_as_far_as_its_lookahead(kind: str) -> None:
    assert future_frames(recipe(kind, causal=True), 30.0) == 0
    assert future_frames(recipe(kind, causal=True, lookahead_frames=6), 30.0) == 6


@pytest.mark.parametrize("fps", [30.0, 25.0])
def test_windows_of_trees_end_where_the_sight_does(fps: float) -> None:
    settings = recipe("gradient-boosting", causal=False)
    said = future_frames(settings, fps)
    assert said is not None
    values = np.zeros((T, 1), np.float32)
    windows = [round(s * fps) for s in settings.boosting.windows_s]
    before = window_statistics(values, windows, False)[AT]
    for frame, matters in ((AT + said, True), (AT + said + 1, False)):
        changed = values.copy()
        changed[frame] = 9.0
        assert bool((window_statistics(changed, windows, False)[AT] != before).any()) == matters
