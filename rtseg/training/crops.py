"""Training recordings in memory, and random crops of them as batches of features and labels.

A crop's features remember the frames before it, as a stream's do; the network starts fresh, and its warm-up carries no
loss. What is drawn depends on the seed and the epoch alone, so a resumed run draws the same crops.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.config import AugmentSettings, Recipe
from rtseg.errors import SettingError
from rtseg.features.extractor import FeatureExtractor
from rtseg.frames.skeleton import Skeleton
from rtseg.recordings.heads import Head
from rtseg.recordings.recording import IGNORE, Recording
from rtseg.training.augment import augment, copy_settings, interpolate, interpolate_labels, mirrored, take_away

F32 = NDArray[np.float32]
LEAD_HORIZONS = 3
"""After so many time constants an average has forgotten all but 5 % of what was before."""


@dataclass(frozen=True, eq=False)
class Example:
    """A recording with the labels of every head: (T, H) int16, IGNORE where there are none.

    soft: a teacher's probabilities (T, P), all heads side by side, NaN where there are none; training only.
    """

    name: str
    keypoints: F32
    confidence: F32
    labels: NDArray[np.int16]
    soft: F32 | None = None

    def __len__(self) -> int:
        return len(self.keypoints)


@dataclass(frozen=True, eq=False)
class Batch:
    """features (B, T, F) float32 with NaN, labels (B, T, H) int16 with the warm-up set to IGNORE.

    soft: (B, T, P) a teacher's probabilities, NaN in the warm-up and where there are none; None without a teacher.
    """

    features: F32
    labels: NDArray[np.int16]
    soft: F32 | None = None


def example_of(recording: Recording, labels: dict[str, NDArray[np.int16]], heads: Sequence[Head]) -> Example:
    """One Example; heads without labels are IGNOREd."""
    table = np.full((len(recording), len(heads)), IGNORE, np.int16)
    for column, head in enumerate(heads):
        if head.name in labels:
            table[:, column] = labels[head.name]
    return Example(recording.name, recording.keypoints, recording.confidence, table)


def balanced_copies(examples: Sequence[Example], heads: Sequence[Head]) -> list[Example]:
    """The copies that give every head group as many sequences as the largest has (paper, III.E and III.H).

    A group's sequences are the examples with a label of one of its heads; they are copied in turn. A copy keeps its
    group's labels (and teacher) only, so that it counts for this group alone.
    """
    columns: dict[str, list[int]] = {}
    for column, head in enumerate(heads):
        columns.setdefault(head.group, []).append(column)
    members = {g: [e for e in examples if (e.labels[:, c] != IGNORE).any()] for g, c in columns.items()}
    wanted = max(map(len, members.values()), default=0)
    outputs = np.repeat(np.arange(len(heads)), [len(h.classes) for h in heads])  # output -> its head's column
    copies = []
    for group, own in members.items():
        for number in range(wanted - len(own) if own else 0):
            original = own[number % len(own)]
            labels = np.full_like(original.labels, IGNORE)
            labels[:, columns[group]] = original.labels[:, columns[group]]
            soft = original.soft
            if soft is not None:
                soft = np.where(np.isin(outputs, columns[group]), soft, np.float32(np.nan))
            copies.append(replace(original, labels=labels, soft=soft))
    return copies


class CropSampler:
    """Random crops of examples, augmented, as features."""

    def __init__(
        self,
        examples: Sequence[Example],
        recipe: Recipe,
        skeleton: Skeleton,
        extractor: FeatureExtractor,
        heads: Sequence[Head],
    ) -> None:
        factor = recipe.augment.interpolate
        originals = [_interpolated(e, factor) for e in examples]
        copies = balanced_copies(originals, heads) if recipe.augment.balance_tasks else []
        self._examples, self._n_originals = [*originals, *copies], len(originals)
        self._recipe, self._skeleton = recipe, skeleton
        self._extractor = (
            extractor if factor == 1 else FeatureExtractor(skeleton, extractor.spec, extractor.fps * factor)
        )
        # So many frames before a crop are long enough for what its features remember: averages, held points, lags.
        spec, rate = self._extractor.spec, self._extractor.fps
        self._lead = round(LEAD_HORIZONS * max(spec.horizons_s, default=0.0) * rate) + spec.hold_frames
        self._lead += 2 * max(spec.lags)
        # Where crops differ by a mirror at most, the features of whole recordings are worked out once and kept.
        fixed = replace(recipe.augment, mirror=False, interpolate=1) == AugmentSettings()
        size = sum(map(len, self._examples)) * self._extractor.n_features * 4 * (2 if recipe.augment.mirror else 1)
        kept = fixed and size <= recipe.train.cache_mb * 2**20
        self._kept: dict[tuple[int, bool], NDArray[np.float32]] | None = {} if kept else None
        # Recordings are drawn in proportion to the frames that carry a label of any head.
        frames = np.array([(e.labels != IGNORE).any(axis=1).sum() for e in self._examples], np.float64)
        if not frames.any():
            raise SettingError("no frame of the training recordings carries a label; look at the dataset file's heads")
        self._share = frames / frames.sum()
        self._soft = any(e.soft is not None for e in self._examples)
        self._n_outputs = sum(len(h.classes) for h in heads)
        self.batches_per_epoch = max(
            1, round(frames.sum() / (recipe.train.batch * (recipe.train.crop_frames - recipe.train.warmup_frames)))
        )

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """The batches of one epoch: about every labelled frame once."""
        rng = np.random.default_rng([self._recipe.train.seed, epoch])
        for _ in range(self.batches_per_epoch):
            yield self._draw(rng)

    def _draw(self, rng: np.random.Generator) -> Batch:
        train = self._recipe.train
        shape = (train.batch, train.crop_frames)
        features = np.full((*shape, self._extractor.n_features), np.nan, np.float32)
        labels = np.full((*shape, self._examples[0].labels.shape[1]), IGNORE, np.int16)
        soft = np.full((*shape, self._n_outputs), np.nan, np.float32) if self._soft else None
        for row, which in enumerate(rng.choice(len(self._examples), train.batch, p=self._share)):
            example = self._examples[which]
            start, stop, first, last = self._place(len(example), rng)
            features[row, : stop - start] = self._features(which, start, stop, rng)
            labels[row, first - start : last - start] = example.labels[first:last]
            if soft is not None and example.soft is not None:
                soft[row, first - start : last - start] = example.soft[first:last]
        lookahead = self._recipe.model.lookahead_frames
        labels = delay(labels, lookahead, IGNORE)
        soft = None if soft is None else delay(soft, lookahead, np.nan)
        kept = slice(None, None, train.frame_stride)  # crops begin anywhere, so every phase is seen
        return Batch(features[:, kept], labels[:, kept], None if soft is None else soft[:, kept])

    def _features(self, which: int, start: int, stop: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """Features (T, F) of the frames start .. stop of an example, augmented; they remember what came before."""
        if self._kept is not None:
            turned = self._recipe.augment.mirror and rng.random() < 0.5
            if (which, turned) not in self._kept:
                whole = self._examples[which]
                points, scores = whole.keypoints, whole.confidence
                if turned:
                    points, scores = mirrored(points, scores, self._skeleton, self._recipe.arena)
                self._kept[which, turned] = self._extractor.run(points, scores, self._recipe.arena)
            return self._kept[which, turned][start:stop]
        example, lead = self._examples[which], min(start, self._lead)
        points, scores = augment(
            example.keypoints[start - lead : stop],
            example.confidence[start - lead : stop],
            self._augment(which),
            self._skeleton,
            self._recipe.arena,
            rng,
        )
        like_data = self._recipe.augment.drop_like_data
        if like_data and rng.random() < like_data:
            take_away(points, scores, self._missing(stop - start + lead, rng))
        return self._extractor.run(points, scores, self._recipe.arena)[lead:]

    def _place(self, n_frames: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
        """Where a crop lies in a recording, and which of its frames carry loss: start, stop, first, last."""
        train, latest = self._recipe.train, max(n_frames - self._recipe.train.crop_frames, 0)
        # A start before the recording puts its true beginning, which needs no warm-up, into the crop; what sees both
        # ways needs half of the warm-up at either end, and none where the recording ends.
        before = train.warmup_frames if self._recipe.model.causal else train.warmup_frames // 2
        after = train.warmup_frames - before
        start = int(rng.integers(-before, latest + after + 1))
        start = min(max(start, 0), latest)
        stop = min(start + train.crop_frames, n_frames)
        return start, stop, start + (before if start > 0 else 0), stop - (after if stop < n_frames else 0)

    def _augment(self, which: int) -> AugmentSettings:
        settings = self._recipe.augment
        return settings if which < self._n_originals else copy_settings(settings)

    def _missing(self, n_frames: int, rng: np.random.Generator) -> NDArray[np.bool_]:
        """Which points (T, A, K) a random stretch of the training recordings misses; none beyond its recording's end.

        Interpolated recordings give stretches as long as their own.
        """
        example = self._examples[rng.choice(len(self._examples), p=self._share)]
        start = int(rng.integers(0, max(len(example) - n_frames, 0) + 1))
        points = example.keypoints[start : start + n_frames]
        gone = np.zeros((n_frames, *points.shape[1:3]), bool)
        gone[: len(points)] = np.isnan(points).any(-1)
        return gone


def _interpolated(example: Example, factor: int) -> Example:
    if factor == 1:
        return example
    if example.soft is not None:
        raise SettingError("augment.interpolate makes frames that a teacher said nothing about: distil without it")
    points, scores = interpolate(example.keypoints, example.confidence, factor)
    labels = np.stack([interpolate_labels(c, factor) for c in example.labels.T], axis=1)
    return Example(example.name, points, scores, labels)


def delay(values: NDArray[Any], lookahead: int, nothing: float) -> NDArray[Any]:
    """Labels or probabilities (B, T, n) moved later by the lookahead: the answer at t + k is about frame t.

    nothing: what the first frames hold, which answer about no frame.
    """
    if lookahead == 0:
        return values
    late = np.full_like(values, nothing)
    late[:, lookahead:] = values[:, :-lookahead]
    return late


def fit_scaler(features: Sequence[NDArray[np.float32]], kind: str, clip: float) -> dict[str, NDArray[np.float32]]:
    """The scaler tensors of a network from training features, list of (T, F) with NaN.

    `standard`: mean and deviation after cutting each feature at its 0.5 and 99.5 percentiles, because identity swaps
    make speeds that no animal has. `minmax`: these percentiles to 0 and 1 (the paper's [0, 1]). Unknown values are
    filled with the mean.
    """
    table = np.concatenate(features)[:: max(1, sum(map(len, features)) // 100_000)]
    never = np.isnan(table).all(axis=0)
    table[:, never] = 0.0
    low, high = np.nanpercentile(table, (0.5, 99.5), axis=0)
    cut = np.clip(table, low, high)
    mean, deviation = np.nanmean(cut, axis=0), np.nanstd(cut, axis=0)
    if kind == "minmax":
        shift, width = low, high - low
    else:
        shift, width = mean, deviation
    scale = np.where(width > 1e-6, 1.0 / np.maximum(width, 1e-6), 0.0)
    return {
        "scaler.fill": mean.astype(np.float32),
        "scaler.shift": shift.astype(np.float32),
        "scaler.scale": scale.astype(np.float32),
        "scaler.clip": np.array([clip], np.float32),
    }
