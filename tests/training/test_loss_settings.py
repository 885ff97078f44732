"""Every switch of the loss against a slow version in numpy: targets at boundaries, earlier stages, task weights."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rtseg.recordings.recording import IGNORE
from rtseg.training.losses import mix_at_boundaries, one_hot
from tests.training.scenes import HEADS
from tests.training.test_losses import FRAMES_ONLY, criterion, labels_of, logits

NEAR_ONLY = {"near": 1.0, "pair": 0.0}


def probs_of(stage: dict[str, Tensor], name: str) -> np.ndarray:
    return torch.softmax(stage[name].detach().double(), -1).numpy()


def loss_of(labels: Tensor, seed: int = 2, **settings: Any) -> float:
    """Of one stage of random logits."""
    found: float = criterion(labels, **{**FRAMES_ONLY, **settings})([logits(seed)], labels).item()
    return found


def head_losses(labels: Tensor, seed: int = 2) -> list[float]:
    """The plain mean cross entropy of each head."""
    found = []
    for column, head in enumerate(HEADS):
        p, y = probs_of(logits(seed), head.name).reshape(-1, len(head.classes)), labels[..., column].flatten().numpy()
        found.append(float(-np.log(p[y != IGNORE][range((y != IGNORE).sum()), y[y != IGNORE]]).mean()))
    return found


def naive_mix(labels: list[int], n: int, reach: int) -> np.ndarray:
    mixed = np.zeros((len(labels), n))
    borders = [t for t in range(1, len(labels)) if IGNORE not in labels[t - 1 : t + 1] and labels[t] != labels[t - 1]]
    for t, label in enumerate(labels):
        if label == IGNORE:
            continue
        mixed[t, label] = 1.0
        if borders:
            border = min(borders, key=lambda b: abs(t + 0.5 - b))  # the earlier of two alike
            other, apart = labels[border - 1 if t >= border else border], abs(t + 0.5 - border)
            share = max(0.5 * (1 - apart / reach), 0.0)
            mixed[t] *= 1 - share
            mixed[t, other] += share
    return mixed


@settings(deadline=None)
@given(st.lists(st.sampled_from([IGNORE, 0, 0, 0, 1, 1, 2]), min_size=1, max_size=40), st.integers(1, 9))
def test_targets_at_boundaries(labels: list[int], reach: int) -> None:
    target = torch.tensor([labels, labels[::-1]])
    found = mix_at_boundaries(target, one_hot(target, 3), reach).numpy()
    np.testing.assert_allclose(found[0], naive_mix(labels, 3, reach), atol=1e-6)
    np.testing.assert_allclose(found[1], naive_mix(labels[::-1], 3, reach), atol=1e-6)
    kept = np.array(labels) != IGNORE
    np.testing.assert_allclose(found[0].sum(-1), kept, atol=1e-6)
    assert (found[0].max(-1)[kept] >= 0.5).all()  # no frame's own label is outvoted
    assert (found[0][kept, np.array(labels)[kept]] >= 0.5).all()


def test_boundary_smoothing_reaches_the_loss() -> None:
    labels = labels_of()
    labels[:, 4:12, 0] = IGNORE
    found = loss_of(labels, boundary_smoothing_frames=3, task_weights=NEAR_ONLY)
    log = np.log(probs_of(logits(2), "near"))
    wanted = np.stack([naive_mix(row.tolist(), 2, 3) for row in labels[..., 0]])
    assert found == pytest.approx(-(wanted * log).sum() / wanted.sum(), rel=1e-5)


def test_tasks_by_sum() -> None:
    near, speed, fast = head_losses(labels_of())
    found = loss_of(labels_of(), task_weighting="sum", task_weights={"near": 7.0})
    assert found == pytest.approx(near + (speed + fast) / 2, rel=1e-5)


def test_tasks_by_their_share_of_the_loss_with_constant_weights() -> None:
    labels = labels_of()
    near, speed, fast = head_losses(labels)
    tasks = np.array([near, (speed + fast) / 2])
    share = tasks / tasks.sum()
    assert loss_of(labels, task_weighting="share", loss_factor=0.1) == pytest.approx(0.1 * (share @ tasks), rel=1e-5)
    through, alone = logits(2), logits(2)
    criterion(labels, **FRAMES_ONLY, task_weighting="share")([through], labels).backward()
    weights = {"near": float(share[0]), "pair": 0.0}
    criterion(labels, **FRAMES_ONLY, task_weights=weights)([alone], labels).backward()
    assert through["near"].grad is not None
    assert alone["near"].grad is not None
    torch.testing.assert_close(through["near"].grad, alone["near"].grad)


def test_tasks_by_learned_uncertainty() -> None:
    labels = labels_of()
    made = criterion(labels, **FRAMES_ONLY, task_weighting="uncertainty")
    near, speed, fast = head_losses(labels)
    with torch.no_grad():
        made.log_variance.copy_(torch.tensor([0.5, -1.0]))
    loss = made([logits(2)], labels)
    expected = math.exp(-0.5) * near + 0.25 + math.exp(1.0) * (speed + fast) / 2 - 0.5
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    loss.backward()
    torch.testing.assert_close(
        made.log_variance.grad, torch.tensor([0.5 - math.exp(-0.5) * near, 0.5 - math.exp(1.0) * (speed + fast) / 2])
    )
    labels[..., 0] = IGNORE  # a task without a label has no say, neither does its uncertainty
    assert made([logits(2)], labels).item() == pytest.approx(math.exp(1.0) * (speed + fast) / 2 - 0.5, rel=1e-5)


def test_only_uncertainty_has_parameters() -> None:
    assert [tuple(p.shape) for p in criterion(labels_of(), task_weighting="uncertainty").parameters()] == [(2,)]
    assert not list(criterion(labels_of(), task_weighting="share").parameters())


def test_all_earlier_stages_count_alike_and_half_as_much_as_the_last() -> None:
    labels, stages = labels_of(), [logits(seed) for seed in (1, 2, 3)]
    parts = [loss_of(labels, seed) for seed in (1, 2, 3)]
    found = criterion(labels, **FRAMES_ONLY)(stages, labels).item()
    assert found == pytest.approx(parts[2] + 0.5 * (parts[0] + parts[1]), rel=1e-5)
