"""How a checkpoint is chosen: a network's answers about the validation recordings, their scores, and one number."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from rtseg.config import TrainSettings
from rtseg.errors import SettingError
from rtseg.evaluation.metrics import constant_scores, group_scores, macro_mean, score_head
from rtseg.model.base import SequenceModel
from rtseg.recordings.heads import Head, output_offsets
from rtseg.training.task import Example, TrainingTask

GroupScores = dict[str, dict[str, float]]
"""Head group -> `f1` and `map`."""


def predict_probabilities(model: SequenceModel, features: NDArray[np.float32], lookahead: int) -> NDArray[np.float32]:
    """Probabilities (T, P), row t about frame t; the last `lookahead` rows, never answered, are NaN.

    features: (T, F), of a whole recording. A network that sees every n-th frame answers the n phases one by one.
    """
    model.eval()  # no dropout
    with torch.no_grad():
        late = np.empty((len(features), model.n_outputs), np.float32)
        for phase in range(min(model.phases, len(features))):
            own = slice(phase, None, model.phases)
            late[own] = model.probabilities(torch.from_numpy(np.ascontiguousarray(features[own]))[None])[0].numpy()
    return np.concatenate((late[lookahead:], np.full((min(lookahead, len(late)), late.shape[1]), np.nan, np.float32)))


def score_groups(
    heads: Sequence[Head], examples: Sequence[Example], predictions: Sequence[NDArray[np.float32]], fps: float
) -> GroupScores:
    """Scores per head group of predictions (T, P) of each example; rows of NaN were never answered and don't count."""
    offsets = output_offsets(heads)
    scores = {}
    for column, head in enumerate(heads):
        videos = []
        for probs, example in zip(predictions, examples, strict=True):
            # One column tells: a row is answered whole or not at all.
            answered = ~np.isnan(probs[:, 0])
            of_head = probs[answered, offsets[column] : offsets[column + 1]]
            videos.append((of_head, example.labels[answered, column]))
        scores[head.name] = score_head(head, videos, fps)
    return group_scores(heads, scores)


def constant_f1(heads: Sequence[Head], examples: Sequence[Example]) -> dict[str, float]:
    """Head group -> macro-F1 of the best constant answers about the recordings; NaN without a positive frame.

    Empty without recordings.
    """
    if not examples:
        return {}
    of_groups: dict[str, list[float]] = {}
    for column, head in enumerate(heads):
        f1, _ = constant_scores(head, np.concatenate([e.labels[:, column] for e in examples]))
        of_groups.setdefault(head.group, []).append(f1)
    return {group: macro_mean(values) for group, values in of_groups.items()}


def is_above(scores: GroupScores, constant: Mapping[str, float], settings: TrainSettings) -> bool:
    """Whether macro-F1 of every group that decides is above the best constant answer's, where there is one."""
    if not scores:
        return False
    deciding = [settings.select_group] if settings.select_group else list(scores)
    return all(math.isnan(constant[group]) or scores[group]["f1"] > constant[group] for group in deciding)


def score_held_out(task: TrainingTask, predictions: Sequence[NDArray[np.float32]]) -> tuple[GroupScores, float]:
    """Scores of predictions of the validation recordings, and the number to choose by; no score and NaN without any."""
    if not task.validation:
        return {}, math.nan
    groups = score_groups(task.heads, task.validation, predictions, task.fps)
    return groups, selection_score(groups, task.recipe.train)


def selection_score(scores: GroupScores, settings: TrainSettings) -> float:
    """What a checkpoint is chosen by: the mean over head groups of macro-F1 and mAP, or of what `select` names.

    select_group: the one that decides; empty = all. A group without a positive validation frame has no score and is
    left out. Raises SettingError where no group has a score: nothing would tell good weights from bad ones.
    """
    group = settings.select_group
    if group and group not in scores:
        raise SettingError(f"train.select_group = {group!r} is no head group; there are: {', '.join(scores)}")
    metrics = (settings.select,) if settings.select in ("f1", "map") else ("f1", "map")
    deciding = [scores[group]] if group else list(scores.values())
    # NaN is the score of a group without a positive frame. In the mean it would make every checkpoint's score NaN, and
    # no checkpoint better than another.
    known = [[v for v in (s[name] for name in metrics) if not math.isnan(v)] for s in deciding]
    means = [sum(values) / len(values) for values in known if values]
    if not means:
        raise SettingError("no scored class has a frame in the validation recordings; choose others for validation")
    return float(np.mean(means))
