"""The multitask loss: class-balanced cross entropy per head, truncated smoothing, a weighted sum over tasks.

Tensors in, a scalar out; which frames count was decided by the crops (IGNORE).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from rtseg.config import TrainSettings
from rtseg.recordings.heads import Head
from rtseg.recordings.recording import IGNORE


def class_weights(labels: Sequence[NDArray[np.int16]], heads: Sequence[Head], power: float) -> list[Tensor]:
    """Per head a weight per class: inverse frequency to `power`, mean 1 over the labelled frames; 0 for absent classes.

    labels: list of (T, H).
    """
    weights = []
    for column, head in enumerate(heads):
        counts = np.zeros(len(head.classes))
        for table in labels:
            kept = table[:, column][table[:, column] != IGNORE]
            counts += np.bincount(kept, minlength=len(head.classes))
        share = counts / max(counts.sum(), 1)
        weight = np.where(counts > 0, np.maximum(share, 1e-9) ** -power, 0.0)
        weights.append(torch.tensor(weight / max((weight * share).sum(), 1e-9), dtype=torch.float32))
    return weights


def multitask_loss(
    first: dict[str, Tensor],
    refined: dict[str, Tensor],
    labels: Tensor,
    heads: Sequence[Head],
    weights: Sequence[Tensor],
    settings: TrainSettings,
) -> Tensor:
    """The loss of a batch; logits (B, T, n) per head, labels (B, T, H).

    Heads of one group share the group's weight; a head without a labelled frame in the batch drops out.
    """
    members: dict[str, int] = {}
    for head in heads:
        members[head.group] = members.get(head.group, 0) + 1
    # Zero, but a function of the logits: crops may all lie in masked stretches, and such a batch must not end the run.
    total = next(iter(refined.values())).float().sum() * 0.0
    for column, head in enumerate(heads):
        target = labels[..., column].long()
        if not bool((target != IGNORE).any()):
            continue
        loss = _frame_loss(refined[head.name], target, weights[column], settings)
        loss = loss + settings.stage_weight * _frame_loss(first[head.name], target, weights[column], settings)
        task = settings.task_weights.get(head.group, settings.task_weight_default)
        total = total + loss * (task / members[head.group])
    return total * settings.loss_factor


def _frame_loss(logits: Tensor, target: Tensor, weight: Tensor, settings: TrainSettings) -> Tensor:
    logits = logits.float()
    loss = F.cross_entropy(
        logits.flatten(0, 1),
        target.flatten(),
        weight,
        ignore_index=IGNORE,
        label_smoothing=settings.label_smoothing,
    )
    if settings.smoothing:
        # Li et al. 2020, eq. 7: log-probabilities of neighbouring frames, the earlier one detached, cut at tau.
        log = F.log_softmax(logits, -1)
        step = (log[:, 1:] - log[:, :-1].detach()).abs().clamp(max=settings.smoothing_cut)
        kept = ((target[:, 1:] != IGNORE) & (target[:, :-1] != IGNORE)).unsqueeze(-1)
        loss = loss + settings.smoothing * (step.square() * kept).sum() / (kept.sum() * logits.shape[-1]).clamp(min=1)
    return loss
