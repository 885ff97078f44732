"""The multitask loss: per head a frame loss on every stage, per task a mean over its heads, a weighted sum over tasks.

Tensors in, a scalar out; the crops have set the frames that carry no loss to IGNORE. `TrainSettings` explains every
switch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from rtseg.config import TrainSettings
from rtseg.recordings.heads import Head
from rtseg.recordings.recording import IGNORE

SMOOTHING_TAU = 4.0
"""Where Li et al. 2020 cut a step of log-probability, so that true boundaries cost little."""
EARLIER_STAGE_WEIGHT = 0.5
"""Weight of every stage but the last, which gives the answer."""


class MultitaskLoss(nn.Module):
    """The loss of a batch, with the class weights of the training labels.

    It has parameters only where tasks are weighted by their learned uncertainty.
    """

    def __init__(self, heads: Sequence[Head], labels: Sequence[NDArray[np.int16]], settings: TrainSettings) -> None:
        """labels: of the training recordings, list of (T, H)."""
        super().__init__()
        self.heads, self.settings = tuple(heads), settings
        self.class_weights = class_weights(labels, heads, settings.class_weight_power)
        self.groups = list(dict.fromkeys(head.group for head in heads))
        self.heads_in_group = {group: sum(h.group == group for h in heads) for group in self.groups}
        if settings.task_weighting == "uncertainty":
            self.log_variance = nn.Parameter(torch.zeros(len(self.groups)))

    def forward(self, stages: Sequence[dict[str, Tensor]], labels: Tensor) -> Tensor:
        """The loss of stages of logits (B, T, n) per head, the answer last.

        labels: (B, T, H). A head without a label in the batch is left out.
        """
        tasks: dict[str, Tensor] = {}
        for column, head in enumerate(self.heads):
            target = labels[..., column].long()
            if not bool((target != IGNORE).any()):
                continue
            loss = self._stage_loss(stages[-1][head.name], column, target)
            for stage in stages[:-1]:
                loss = loss + EARLIER_STAGE_WEIGHT * self._stage_loss(stage[head.name], column, target)
            # By all heads of the group, those without a label in the batch too: a head's weight must not depend on
            # which others happen to be labelled.
            part = loss / self.heads_in_group[head.group]
            tasks[head.group] = tasks[head.group] + part if head.group in tasks else part
        if not tasks:
            # Zero, but a function of the logits: crops may all lie in masked stretches; that must not end the run.
            return next(iter(stages[-1].values())).float().sum() * 0.0
        return self._weighted(tasks) * self.settings.loss_factor

    def _weighted(self, tasks: dict[str, Tensor]) -> Tensor:
        losses = torch.stack(list(tasks.values()))
        match self.settings.task_weighting:
            case "sum":
                return losses.sum()
            case "share":
                # Constants: only the losses have a gradient, not the weights made of them.
                share = losses.detach().clamp(min=0)
                return (losses * share / share.sum().clamp(min=1e-9)).sum()
            case "uncertainty":
                s = self.log_variance[[self.groups.index(group) for group in tasks]]
                return (torch.exp(-s) * losses + s / 2).sum()
        weights = [self.settings.task_weights.get(group, 1.0) for group in tasks]
        return (losses * torch.tensor(weights)).sum()

    def _stage_loss(self, logits: Tensor, column: int, target: Tensor) -> Tensor:
        # Under autocast the logits may be bfloat16, in which sums over thousands of frames would lose their digits.
        settings, logits, labelled = self.settings, logits.float(), target != IGNORE
        targets = one_hot(target, logits.shape[-1])
        targets = mix_at_boundaries(target, targets, settings.boundary_smoothing_frames / settings.frame_stride)
        loss = self._cross_entropy(logits, column, targets, labelled)
        if settings.smoothing:
            loss = loss + settings.smoothing * smoothing_loss(logits, labelled)
        return loss

    def _cross_entropy(self, logits: Tensor, column: int, targets: Tensor, labelled: Tensor) -> Tensor:
        """Cross entropy with class weights, the mean as torch's cross_entropy takes it (divided by the weights)."""
        weight, smooth = self.class_weights[column], self.settings.label_smoothing
        smoothed = targets * (1 - smooth) + smooth / logits.shape[-1]
        cost = -(weight * smoothed * F.log_softmax(logits, -1)).sum(-1)
        # The weights of the targets before smoothing, as torch divides: smoothing must not change the scale.
        total = ((weight * targets).sum(-1) * labelled).sum()
        return (cost * labelled).sum() / total.clamp(min=1e-9)


def class_shares(labels: Sequence[NDArray[np.int16]], heads: Sequence[Head]) -> list[Tensor]:
    """Per head each class's share of the labelled frames; zeros without any. labels: list of (T, H)."""
    shares = []
    for column, head in enumerate(heads):
        counts = np.zeros(len(head.classes))
        for table in labels:
            labelled = table[:, column][table[:, column] != IGNORE]
            counts += np.bincount(labelled, minlength=len(head.classes))
        shares.append(torch.from_numpy(counts / max(counts.sum(), 1)))
    return shares


def class_weights(labels: Sequence[NDArray[np.int16]], heads: Sequence[Head], power: float) -> list[Tensor]:
    """Per head a weight per class: inverse frequency to `power`, mean 1 over the labelled frames; 0 for absent classes.

    labels: list of (T, H).
    """
    weights = []
    for share in class_shares(labels, heads):
        weight = torch.where(share > 0, share.clamp(min=1e-9) ** -power, 0.0)
        weights.append((weight / (weight * share).sum().clamp(min=1e-9)).float())
    return weights


def one_hot(target: Tensor, n: int) -> Tensor:
    """Labels (B, T) to (B, T, n) of 0 and 1, all 0 where IGNORE."""
    # IGNORE becomes one class more, whose column is cut off.
    return F.one_hot(torch.where(target == IGNORE, n, target), n + 1)[..., :n].float()


def mix_at_boundaries(target: Tensor, hot: Tensor, reach: float) -> Tensor:
    """Targets (B, T, n) that mix the labels on both sides of a boundary, within `reach` frames of it.

    target: (B, T) labels; hot: the same as one_hot. The other label's share falls from a half at the boundary, which
    lies between two frames, to nothing `reach` frames away; only the nearest boundary counts, the earlier of two alike.
    """
    t = target.shape[1]
    if reach == 0 or t < 2:
        return hot
    # A change at t means that the boundary lies between t - 1 and t. Next to unlabelled frames there may be boundaries
    # that nobody marked; they are not counted.
    labelled = target != IGNORE
    change = torch.zeros_like(labelled)
    change[:, 1:] = (target[:, 1:] != target[:, :-1]) & labelled[:, 1:] & labelled[:, :-1]
    time, far = torch.arange(t).expand_as(target), t + math.ceil(reach)
    # For every frame the last change up to it and the first one after it; `far` where there is none.
    last = torch.where(change, time, -far).cummax(1).values
    following = torch.full_like(target, far)
    following[:, :-1] = torch.where(change, time, far).flip(1).cummin(1).values.flip(1)[:, 1:]
    since, until = time - last, following - time - 1
    share = (0.5 - (torch.minimum(since, until) + 0.5) / (2 * reach)).clamp(min=0) * labelled
    other = target.gather(1, torch.where(since <= until, last - 1, following).clamp(0, t - 1))
    return hot * (1 - share[..., None]) + one_hot(other, hot.shape[-1]) * share[..., None]


def smoothing_loss(logits: Tensor, labelled: Tensor) -> Tensor:
    """Li et al. 2020, eq. 7: steps between neighbours' log-probabilities, the earlier one detached, cut at tau."""
    log = F.log_softmax(logits, -1)
    step = (log[:, 1:] - log[:, :-1].detach()).abs().clamp(max=SMOOTHING_TAU)
    both = (labelled[:, 1:] & labelled[:, :-1]).unsqueeze(-1)
    return (step.square() * both).sum() / (both.sum() * logits.shape[-1]).clamp(min=1)
