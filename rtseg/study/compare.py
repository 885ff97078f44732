"""Scores of systems trained with several seeds, and of two of them paired over the same videos.

A video's frames under all seeds are resampled together: seeds are not independent videos.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rtseg.evaluation.bootstrap import RESAMPLES, bootstrap, paired_bootstrap
from rtseg.evaluation.metrics import Video, score_head
from rtseg.recordings.heads import Head, output_offsets
from rtseg.study.trials import ProbabilitiesByName
from rtseg.training.task import Example

METRICS = ("f1", "map", "segmental_f1_50")


def score_system(
    heads: Sequence[Head],
    examples: Sequence[Example],
    seeds: Sequence[ProbabilitiesByName],
    fps: float,
    n: int = RESAMPLES,
) -> dict[str, Any]:
    """Per head: mean and deviation over seeds, the pooled score with its interval over videos; and scores per video."""
    found = score_seeds(heads, examples, seeds, fps)
    for head in heads:
        found["heads"][head.name]["interval"] = bootstrap(pooled_videos(head, heads, examples, seeds), head, n)
    return found


def score_seeds(
    heads: Sequence[Head], examples: Sequence[Example], seeds: Sequence[ProbabilitiesByName], fps: float
) -> dict[str, Any]:
    """What `score_system` gives, without the intervals."""
    found: dict[str, Any] = {"heads": {}, "videos": {example.name: {} for example in examples}}
    # Two answers to two questions: the spread over seeds is what another training would give, the interval what other
    # videos would.
    for head in heads:
        scores = [score_head(head, videos_of(head, heads, examples, probabilities), fps) for probabilities in seeds]
        table = np.array([[s.macro_f1, s.mean_average_precision, s.segmental_f1["50"]] for s in scores])
        entry: dict[str, Any] = {name: _spread(table[:, i]) for i, name in enumerate(METRICS)}
        entry["seeds"] = [dict(zip(METRICS, map(float, row), strict=True)) for row in table]
        entry["classes"] = {
            name: {
                "f1": float(np.mean([s.classes[name].f1 for s in scores])),
                "average_precision": float(np.mean([s.classes[name].average_precision for s in scores])),
                "frames": scores[0].classes[name].frames,
            }
            for name in head.scored
        }
        found["heads"][head.name] = entry
        for example in examples:
            one = [score_head(head, videos_of(head, heads, [example], probabilities), fps) for probabilities in seeds]
            if one[0].frames:
                found["videos"][example.name][head.name] = {
                    "f1": float(np.mean([s.macro_f1 for s in one])),
                    "map": float(np.mean([s.mean_average_precision for s in one])),
                    "frames": one[0].frames,
                }
    return found


def paired_differences(
    heads: Sequence[Head],
    examples: Sequence[Example],
    ours: Sequence[ProbabilitiesByName],
    theirs: Sequence[ProbabilitiesByName],
    n: int = RESAMPLES,
) -> dict[str, Any]:
    """By how much ours scores higher than theirs, per head, paired over videos and the seeds that both have."""
    # Seed i of one is compared with seed i of the other; seeds without a counterpart are left out.
    both = min(len(ours), len(theirs))
    return {
        head.name: paired_bootstrap(
            pooled_videos(head, heads, examples, ours[:both]),
            pooled_videos(head, heads, examples, theirs[:both]),
            head,
            n,
        )
        for head in heads
    }


def videos_of(
    head: Head, heads: Sequence[Head], examples: Sequence[Example], probabilities: ProbabilitiesByName
) -> list[Video]:
    """One head's probabilities and labels of every example, in order."""
    column = [h.name for h in heads].index(head.name)
    here = slice(*output_offsets(heads)[column : column + 2])
    return [(probabilities[e.name][:, here], e.labels[:, column]) for e in examples]


def pooled_videos(
    head: Head, heads: Sequence[Head], examples: Sequence[Example], seeds: Sequence[ProbabilitiesByName]
) -> list[Video]:
    """One video for each example, with the frames of all seeds one after the other."""
    each = [videos_of(head, heads, examples, probabilities) for probabilities in seeds]
    return [
        (np.concatenate([p for p, _ in versions]), np.concatenate([y for _, y in versions]))
        for versions in zip(*each, strict=True)
    ]


def _spread(values: np.ndarray[Any, np.dtype[np.float64]]) -> dict[str, float]:
    return {"mean": float(values.mean()), "sd": float(values.std(ddof=1)) if len(values) > 1 else float("nan")}
