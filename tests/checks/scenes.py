"""Small labelled recordings, and datasets on disk with what laboratories get wrong."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rtseg.checks.summary import DatasetSummary, RecordingSummary, summarize_item
from rtseg.frames.skeleton import Skeleton
from rtseg.recordings.bouts import Bout
from rtseg.recordings.heads import Head, HeadRule, apply_rules
from rtseg.recordings.labels.label_file import NumberedBout, Tracks, Video, paint
from rtseg.recordings.recording import Recording
from rtseg.recordings.sources import Item

SKELETON = Skeleton(("a", "b"), ("nose", "tail"))
N_FRAMES = 120
ACT = HeadRule(Head("act", ("other", "groom"), ("groom",), "act"), unlabelled="other")
GROOMS = {"groom": [(10, 40), (60, 70)]}
Bouts = dict[str, Sequence[tuple[int, int]]]


def walk(seed: int, n_frames: int = N_FRAMES) -> NDArray[np.float32]:
    """Keypoints (T, 2, 2, 2) that move in every frame, of animals of one length."""
    steps = np.random.default_rng(seed).normal(0, 2, (n_frames, 2, 1, 2))
    return (300 + np.cumsum(steps, axis=0) + [[0, 0], [40, 0]]).astype(np.float32)


def item(
    name: str, bouts: Bouts, *, rules: Sequence[HeadRule] = (ACT,), keypoints: NDArray[np.float32] | None = None
) -> Item:
    """A recording with one track 'act' of these bouts, which the rules make labels of."""
    points = walk(zlib.crc32(name.encode())) if keypoints is None else keypoints
    confidence = np.isfinite(points).all(axis=-1).astype(np.float32)
    recording = Recording(name, SKELETON, points, confidence, 30.0, f"poses/{name}.csv")
    names = tuple(bouts)
    numbered = [NumberedBout(Bout(*b, names.index(n)), 1) for n, some in bouts.items() for b in some]
    track = paint(Path(f"{name}.csv"), "act", names, numbered, Video(len(points), 30.0))
    heads = apply_rules(tuple(rules), Tracks([("act", track)]), len(points), f"{name}.csv")
    return Item(recording, heads)


def summary(
    train: Sequence[Item],
    validation: Sequence[Item],
    *,
    rules: Sequence[HeadRule] = (ACT,),
    simulated: bool = False,
    pooled: bool = False,
) -> DatasetSummary:
    """Of two splits; pooled: of one, as for cross-validation."""
    splits: dict[str, list[RecordingSummary]] = {
        "train": [summarize_item(one) for one in train],
        "validation": [summarize_item(one) for one in validation],
    }
    if pooled:
        splits = {"train": splits["train"] + splits["validation"]}
    return DatasetSummary("lab", SKELETON, tuple(rules), splits, simulated, validation="" if pooled else "validation")
