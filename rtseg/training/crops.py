"""Training recordings in memory, and random crops of them as batches of features and labels.

A crop's features begin from a fresh state, as a stream's do; its warm-up carries no loss. What is drawn depends on the
seed and the epoch alone, so a resumed run draws the same crops.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rtseg.config import Recipe
from rtseg.errors import SettingError
from rtseg.features.extractor import FeatureExtractor
from rtseg.recordings.heads import Head
from rtseg.recordings.recording import IGNORE, Recording
from rtseg.skeleton import Skeleton
from rtseg.training.augment import augment, interpolate, interpolate_labels


@dataclass(frozen=True, eq=False)
class Example:
    """A recording with the labels of every head: (T, H) int16, IGNORE where there are none."""

    name: str
    keypoints: NDArray[np.float32]
    confidence: NDArray[np.float32]
    labels: NDArray[np.int16]

    def __len__(self) -> int:
        return len(self.keypoints)


@dataclass(frozen=True, eq=False)
class Batch:
    """features (B, T, F) float32 with NaN, labels (B, T, H) int16 with the warm-up set to IGNORE."""

    features: NDArray[np.float32]
    labels: NDArray[np.int16]


def example_of(recording: Recording, labels: dict[str, NDArray[np.int16]], heads: Sequence[Head]) -> Example:
    """One Example; heads without labels are IGNOREd."""
    table = np.full((len(recording), len(heads)), IGNORE, np.int16)
    for column, head in enumerate(heads):
        if head.name in labels:
            table[:, column] = labels[head.name]
    return Example(recording.name, recording.keypoints, recording.confidence, table)


class CropSampler:
    """Random crops of examples, augmented, as features."""

    def __init__(
        self, examples: Sequence[Example], recipe: Recipe, skeleton: Skeleton, extractor: FeatureExtractor
    ) -> None:
        factor = recipe.augment.interpolate
        self._examples = [
            Example(
                e.name,
                *interpolate(e.keypoints, e.confidence, factor),
                np.stack([interpolate_labels(c, factor) for c in e.labels.T], axis=1),
            )
            for e in examples
        ]
        self._recipe, self._skeleton = recipe, skeleton
        self._extractor = (
            extractor if factor == 1 else FeatureExtractor(skeleton, extractor.spec, extractor.fps * factor)
        )
        # Recordings are drawn in proportion to the frames that carry a label of any head.
        frames = np.array([(e.labels != IGNORE).any(axis=1).sum() for e in self._examples], np.float64)
        if not frames.any():
            raise SettingError("no frame of the training recordings carries a label; look at the dataset file's heads")
        self._share = frames / frames.sum()
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
        features = np.full((train.batch, train.crop_frames, self._extractor.n_features), np.nan, np.float32)
        labels = np.full((train.batch, train.crop_frames, self._examples[0].labels.shape[1]), IGNORE, np.int16)
        for row, which in enumerate(rng.choice(len(self._examples), train.batch, p=self._share)):
            example = self._examples[which]
            # A start before the recording puts its true beginning, which needs no warm-up, into the crop.
            start = int(rng.integers(-train.warmup_frames, max(len(example) - train.crop_frames, 0) + 1))
            warmup = train.warmup_frames if start > 0 else 0
            start = max(start, 0)
            stop = min(start + train.crop_frames, len(example))
            points, scores = augment(
                example.keypoints[start:stop],
                example.confidence[start:stop],
                self._recipe.augment,
                self._skeleton,
                self._recipe.arena,
                rng,
            )
            features[row, : stop - start] = self._extractor.run(points, scores, self._recipe.arena)
            labels[row, warmup : stop - start] = example.labels[start + warmup : stop]
        return Batch(features, delay_labels(labels, self._recipe.model.lookahead_frames))


def delay_labels(labels: NDArray[np.int16], lookahead: int) -> NDArray[np.int16]:
    """Labels (B, T, H) moved later by the lookahead: the answer at t + k is about frame t."""
    if lookahead == 0:
        return labels
    late = np.full_like(labels, IGNORE)
    late[:, lookahead:] = labels[:, :-lookahead]
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
