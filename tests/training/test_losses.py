"""The loss: ignored frames have no influence, classes and tasks weigh what they should, absent heads drop out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rtseg.config import TrainSettings
from rtseg.recordings.recording import IGNORE
from rtseg.training.losses import MultitaskLoss, class_weights
from tests.training.scenes import HEADS

SIZES = {head.name: len(head.classes) for head in HEADS}
EVEN = [torch.ones(n) for n in SIZES.values()]
FRAMES_ONLY: dict[str, Any] = {"smoothing": 0.0}


def logits(seed: int = 0, batch: int = 2, n_frames: int = 20) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(batch, n_frames, n, generator=generator, dtype=torch.float32).requires_grad_()
        for name, n in SIZES.items()
    }


def labels_of(seed: int = 0, batch: int = 2, n_frames: int = 20) -> Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(
        np.stack([rng.integers(0, n, (batch, n_frames)) for n in SIZES.values()], -1).astype(np.int16)
    )


def criterion(labels: Tensor, weights: list[Tensor] = EVEN, **settings: Any) -> MultitaskLoss:
    """The loss with these class weights in place of those of the labels."""
    made = MultitaskLoss(HEADS, [row.numpy() for row in labels], TrainSettings(**settings))
    made.class_weights = weights
    return made


def loss_of(first: dict[str, Tensor], refined: dict[str, Tensor], labels: Tensor, **settings: Any) -> Tensor:
    found: Tensor = criterion(labels, **settings)([first, refined], labels)
    return found


@pytest.mark.parametrize("smoothing", [0.0, 0.15])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_an_ignored_frame_has_no_influence(smoothing: float, label_smoothing: float) -> None:
    labels = labels_of()
    labels[0, 5:9] = IGNORE
    labels[1, 0, 1] = IGNORE
    settings = {"smoothing": smoothing, "label_smoothing": label_smoothing}
    first, refined = logits(1), logits(2)
    loss = loss_of(first, refined, labels, **settings)
    loss.backward()
    for stage in (first, refined):
        for column, name in enumerate(SIZES):
            gradient = stage[name].grad
            assert gradient is not None
            ignored = labels[..., column] == IGNORE
            assert (gradient[ignored] == 0).all()
            assert (gradient[~ignored] != 0).any(-1).all()
    other = {n: t.detach().clone() for n, t in refined.items()}
    for column, name in enumerate(SIZES):
        other[name][labels[..., column] == IGNORE] = 50.0
    assert loss_of(first, other, labels, **settings).item() == loss.item()


def test_the_frame_loss_is_the_weighted_mean_cross_entropy() -> None:
    refined, labels = logits(3), labels_of(4)
    weights = [torch.tensor([0.5, 2.0]), torch.tensor([1.0, 0.0, 3.0]), torch.tensor([1.0, 1.0])]
    found = criterion(labels, weights, **FRAMES_ONLY)([refined], labels)
    expected = 0.0
    for column, head in enumerate(HEADS):
        probs = torch.softmax(refined[head.name].detach().double(), -1).flatten(0, 1)
        target = labels[..., column].long().flatten()
        cost = -probs[range(len(target)), target].log()
        weight = weights[column].double()[target]
        members = 2 if head.group == "pair" else 1
        expected += float((cost * weight).sum() / weight.sum()) / members
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_tasks_weigh_what_the_recipe_says() -> None:
    first, refined, labels = logits(1), logits(2), labels_of()
    parts = {
        group: loss_of(first, refined, labels, task_weights={group: 1.0, other: 0.0}).item()
        for group, other in (("near", "pair"), ("pair", "near"))
    }
    both = loss_of(first, refined, labels, task_weights={"near": 3.0})
    assert both.item() == pytest.approx(3.0 * parts["near"] + parts["pair"], rel=1e-5)
    tenth = loss_of(first, refined, labels, loss_factor=0.1)
    assert tenth.item() == pytest.approx(0.1 * (parts["near"] + parts["pair"]), rel=1e-5)


def test_a_head_without_a_labelled_frame_drops_out() -> None:
    first, refined, labels = logits(1), logits(2), labels_of()
    labels[..., 1] = IGNORE
    loss = loss_of(first, refined, labels)
    loss.backward()
    gradient = refined["speed"].grad
    assert gradient is None or (gradient == 0).all()
    assert (refined["near"].grad != 0).any()
    labels[..., 0] = labels[..., 2] = 0
    assert torch.isfinite(loss_of(first, refined, labels))


def test_a_batch_without_any_label_costs_nothing_and_can_be_trained_on() -> None:
    """A crop may lie in a masked stretch; a run must not die of a batch of them."""
    first, refined = logits(1), logits(2)
    loss = loss_of(first, refined, torch.full((2, 20, 3), IGNORE, dtype=torch.int16))
    assert loss.item() == 0
    loss.backward()
    assert all(t.grad is None or (t.grad == 0).all() for t in (*first.values(), *refined.values()))


def test_smoothing_by_hand() -> None:
    """Li et al. 2020, eq. 7: squared steps of the log-probabilities, cut at tau, between labelled neighbours."""
    refined = {n: t.detach() for n, t in logits(2).items()}
    refined["near"][0, 7] = torch.tensor([30.0, -30.0])  # far beyond the cut
    labels = labels_of()
    labels[0, 12, 0] = IGNORE
    near_only = {"near": 1.0, "pair": 0.0}
    with_it, without = (
        criterion(labels, smoothing=weight, task_weights=near_only)([refined], labels).item() for weight in (0.5, 0.0)
    )
    log = F.log_softmax(refined["near"].double(), -1).numpy()
    steps = []
    for b in range(2):
        for t in range(1, 20):
            if labels[b, t, 0] != IGNORE and labels[b, t - 1, 0] != IGNORE:
                steps += [min(abs(log[b, t, c] - log[b, t - 1, c]), 4.0) ** 2 for c in range(2)]
    assert with_it - without == pytest.approx(0.5 * np.mean(steps), rel=1e-4)


def test_the_smoothing_gradient_reaches_the_later_frame_alone() -> None:
    refined = logits(2, batch=1, n_frames=2)
    labels = torch.zeros((1, 2, 3), dtype=torch.int16)
    criterion(labels, smoothing=1.0)([refined], labels).backward()
    smooth = refined["near"].grad.clone()  # type: ignore[union-attr]
    refined["near"].grad = None
    criterion(labels, smoothing=0.0)([refined], labels).backward()
    assert torch.equal(smooth[:, 0], refined["near"].grad[:, 0])  # type: ignore[index]
    assert not torch.equal(smooth[:, 1], refined["near"].grad[:, 1])  # type: ignore[index]


def test_class_weights() -> None:
    labels = np.zeros((100, 3), np.int16)
    labels[:20, 0] = 1
    labels[20:50, 1] = 1  # class 2 of head 1 is absent
    labels[50:, 2] = IGNORE
    labels[:10, 2] = 1
    near, speed, fast = class_weights([labels[:37], labels[37:]], HEADS, 0.5)
    assert (near[1] / near[0]).item() == pytest.approx((80 / 20) ** 0.5)
    assert (0.8 * near[0] + 0.2 * near[1]).item() == pytest.approx(1.0)
    assert speed[2] == 0
    assert (0.7 * speed[0] + 0.3 * speed[1]).item() == pytest.approx(1.0)
    assert (fast[1] / fast[0]).item() == pytest.approx((40 / 10) ** 0.5)  # ignored frames don't count
    for weights, present in zip(class_weights([labels], HEADS, 0.0), (2, 2, 2), strict=True):
        np.testing.assert_allclose(weights[:present], 1.0)
    inverse = class_weights([labels], HEADS, 1.0)[0]
    assert (0.8 * inverse[0]).item() == pytest.approx((0.2 * inverse[1]).item())


def test_class_weights_without_any_label_are_zero() -> None:
    nothing = np.full((10, 3), IGNORE, np.int16)
    assert all((w == 0).all() for w in class_weights([nothing], HEADS, 0.5))
