"""Scores of a bundle on a dataset, through the Session that serves: what is scored is what is served.

No torch. Labels are read only for the split that was asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np

from rtseg.classifier import Classifier
from rtseg.errors import SettingError
from rtseg.metrics import HeadScore, Video, group_scores, score_head
from rtseg.recordings.dataset import Dataset

PROTOCOL = "frames pooled over videos, argmax, nothing tuned; means over scored classes, then over a group's heads"
"""CalMS21's."""


def evaluate(
    classifier: Classifier,
    dataset: Dataset,
    split: str = "validation",
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Scores per head and per head group by CalMS21's protocol, and per video; see `rtseg.metrics`.

    Raw probabilities and argmax are scored; `decoded` gives the segmental scores of the decoded labels beside them.
    Heads that only one of bundle and dataset names are left out. Raises SettingError where they have no head in
    common, name other classes for the same head, or differ in frame rate.
    """
    bundle = classifier.bundle
    heads = {h.name: h for h in bundle.heads}
    known = [h for h in dataset.heads if h.name in heads]
    if not known:
        raise SettingError(
            f"dataset {dataset.name!r} labels the heads {', '.join(h.name for h in dataset.heads)}; "
            f"bundle {bundle.name!r} answers {', '.join(heads)}: they have none in common"
        )
    for head in known:
        if head.classes != heads[head.name].classes:
            raise SettingError(
                f"head {head.name!r}: the dataset has the classes {', '.join(head.classes)}, "
                f"the bundle {', '.join(heads[head.name].classes)}"
            )
    bundle.check_rate(dataset.fps, f"dataset {dataset.name!r}")
    videos: dict[str, list[Video]] = {h.name: [] for h in known}
    decoded: dict[str, list[Video]] = {h.name: [] for h in known}
    per_video: dict[str, dict[str, Any]] = {}
    for item in dataset.items(split):
        progress(item.recording.name)
        predictions = classifier.run(item.recording)
        scores = {}
        for head in known:
            if head.name not in item.labels:
                continue
            labels = item.labels[head.name].frames
            video = predictions.of(head.name), labels
            videos[head.name].append(video)
            column = bundle.heads.index(heads[head.name])
            one_hot = np.eye(len(head.classes), dtype=np.float32)[predictions.labels[:, column]]
            decoded[head.name].append((one_hot, labels))
            scores[head.name] = score_head(head, [video], dataset.fps)
        per_video[item.recording.name] = {
            name: {"f1": s.macro_f1, "map": s.mean_average_precision, "frames": s.frames} for name, s in scores.items()
        }
    scores = {h.name: score_head(h, videos[h.name], dataset.fps) for h in known}
    smoothed = {h.name: score_head(h, decoded[h.name], dataset.fps) for h in known}
    report = {
        "bundle": bundle.name,
        "model": bundle.hash,
        "engine": classifier.pool.engine.name,
        "simulated": bundle.simulated or dataset.simulated,
        "dataset": dataset.name,
        "split": split,
        "protocol": PROTOCOL,
        "groups": group_scores(known, scores),
        "heads": {name: asdict(score) for name, score in scores.items()},
        "decoded": {name: _segments(score) for name, score in smoothed.items()},
        "videos": per_video,
    }
    plain: dict[str, Any] = without_nan(report)
    return plain


def without_nan(value: Any) -> Any:
    """The same with None for NaN, as JSON wants it, and floats rounded to six digits."""
    if isinstance(value, dict):
        return {k: without_nan(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(v) for v in value]
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 6)
    return value


def _segments(score: HeadScore) -> dict[str, Any]:
    delays = {name: c.onset_delay_s for name, c in score.classes.items()}
    starts = {name: c.false_starts_per_minute for name, c in score.classes.items()}
    return {
        "macro_f1": score.macro_f1,
        "segmental_f1": score.segmental_f1,
        "edit": score.edit,
        "onset_delay_s": delays,
        "false_starts_per_minute": starts,
    }
