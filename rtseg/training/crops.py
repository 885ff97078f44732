"""Random crops of the training recordings as batches of features and labels, and the features' scaler.

A crop's features remember the frames before it, as a stream's do; the network starts fresh, and its warm-up carries no
loss. What is drawn depends on the seed and the epoch alone, so a resumed run draws the same crops.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rtseg.config import AugmentSettings
from rtseg.errors import SettingError
from rtseg.features.extractor import FeatureExtractor
from rtseg.recordings.heads import Head
from rtseg.recordings.recording import IGNORE
from rtseg.training.augment import (
    augment,
    augment_settings_of_copies,
    draw_rate,
    frames_at,
    interpolate,
    interpolate_labels,
    labels_between,
    mirrored,
    poses_at,
)
from rtseg.training.task import F32, Example, TrainingTask

LEAD_HORIZONS = 3
"""After this many time constants an average has forgotten all but 5 % of its past."""


@dataclass(frozen=True, eq=False)
class Batch:
    """features (B, T, F) float32 with NaN, labels (B, T, H) int16 with the warm-up set to IGNORE."""

    features: F32
    labels: NDArray[np.int16]


def balanced_copies(examples: Sequence[Example], heads: Sequence[Head]) -> list[Example]:
    """The copies that give every head group as many sequences as the largest has (paper, III.E and III.H).

    A group's sequences are the examples with a label of one of its heads; they are copied in turn. A copy keeps its
    group's labels only, so that it counts for this group alone.
    """
    columns: dict[str, list[int]] = {}
    for column, head in enumerate(heads):
        columns.setdefault(head.group, []).append(column)
    sequences = {g: [e for e in examples if (e.labels[:, c] != IGNORE).any()] for g, c in columns.items()}
    wanted = max(map(len, sequences.values()), default=0)
    copies = []
    for group, own in sequences.items():
        for number in range(wanted - len(own) if own else 0):
            original = own[number % len(own)]
            # Labels of other groups are taken out, or balancing one task would weigh the others anew.
            labels = np.full_like(original.labels, IGNORE)
            labels[:, columns[group]] = original.labels[:, columns[group]]
            copies.append(replace(original, labels=labels))
    return copies


class CropSampler:
    """Random crops of a task's training recordings, augmented, as features."""

    def __init__(self, task: TrainingTask, extractor: FeatureExtractor) -> None:
        recipe, factor = task.recipe, task.recipe.augment.interpolate
        originals = [_interpolated(e, factor) for e in task.training]
        copies = balanced_copies(originals, task.heads) if recipe.augment.balance_tasks else []
        self._examples, self._n_originals = [*originals, *copies], len(originals)
        self._recipe, self._skeleton = recipe, task.skeleton
        self._extractor = (
            extractor
            if factor == 1
            else FeatureExtractor(task.skeleton, extractor.spec, extractor.fps * factor, extractor.size)
        )  # of the up-sampled rate, so that speeds stay px per second
        # A crop's features begin this many frames earlier: as long as averages, windows, held points and lags remember.
        spec, rate = self._extractor.spec, self._extractor.fps
        remembered_s = max(LEAD_HORIZONS * max(spec.horizons_s, default=0.0), max(spec.windows_s, default=0.0))
        self._lead = round(remembered_s * rate) + spec.hold_frames + 2 * max(spec.lags)
        # Where crops differ by a mirror at most, the features of whole recordings are computed once: with random
        # augmentation every crop has other keypoints, and nothing could be reused.
        fixed = replace(recipe.augment, mirror=False, interpolate=1) == AugmentSettings()
        # Float32; with mirroring each recording may be cached in both forms.
        size = sum(map(len, self._examples)) * self._extractor.n_features * 4 * (2 if recipe.augment.mirror else 1)
        cached = fixed and size <= recipe.train.cache_mb * 2**20
        self._cache: dict[tuple[int, bool], NDArray[np.float32]] | None = {} if cached else None
        # Recordings are drawn in proportion to the frames that carry a label of any head.
        frames = np.array([(e.labels != IGNORE).any(axis=1).sum() for e in self._examples], np.float64)
        if not frames.any():
            raise SettingError("no frame of the training recordings carries a label; look at the dataset file's heads")
        self._share = frames / frames.sum()
        once = frames.sum() / (recipe.train.batch * (recipe.train.crop_frames - recipe.train.warmup_frames))
        self.batches_per_epoch = recipe.train.epoch_batches or max(1, round(once))

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """The batches of one epoch: about every labelled frame once, unless the recipe says how many."""
        # Not one generator for the whole run: a resumed run could not put it where it was.
        rng = np.random.default_rng([self._recipe.train.seed, epoch])
        for _ in range(self.batches_per_epoch):
            yield self._draw(rng)

    def _draw(self, rng: np.random.Generator) -> Batch:
        train = self._recipe.train
        shape = (train.batch, train.crop_frames)
        # A recording shorter than a crop is filled up with unknown features and without labels.
        features = np.full((*shape, self._extractor.n_features), np.nan, np.float32)
        labels = np.full((*shape, self._examples[0].labels.shape[1]), IGNORE, np.int16)
        for row, which in enumerate(rng.choice(len(self._examples), train.batch, p=self._share)):
            example = self._examples[which]
            rate = draw_rate(self._recipe.augment, rng)
            start, stop, first, last = self._place(frames_at(len(example), rate), rng)
            features[row, : stop - start] = self._features(which, start, stop, rate, rng)
            labels[row, first - start : last - start] = labels_between(example.labels, np.arange(first, last) * rate)
        labels = delay_labels(labels, self._recipe.model.lookahead_frames)
        every_nth = slice(None, None, train.frame_stride)  # crops begin anywhere, so every phase is seen
        return Batch(features[:, every_nth], labels[:, every_nth])

    def _features(self, which: int, start: int, stop: int, rate: float, rng: np.random.Generator) -> F32:
        """Features (T, F) of the frames start .. stop of an example, augmented; they remember what came before.

        rate: frames of the recording for one of the crop.
        """
        if self._cache is not None:
            turned = self._recipe.augment.mirror and rng.random() < 0.5
            if (which, turned) not in self._cache:
                whole = self._examples[which]
                points, scores = whole.keypoints, whole.confidence
                if turned:
                    points, scores = mirrored(points, scores, self._skeleton, self._recipe.arena)
                self._cache[which, turned] = self._extractor.run(points, scores, self._recipe.arena)
            return self._cache[which, turned][start:stop]
        example, lead = self._examples[which], min(start, self._lead)
        at = np.arange(start - lead, stop) * rate
        begin, end = int(at[0]), int(np.ceil(at[-1])) + 1
        points, scores = example.keypoints[begin:end], example.confidence[begin:end]
        if rate != 1:
            points, scores = poses_at(points, scores, at - begin)
        points, scores = augment(
            points,
            scores,
            self._augment_settings(which),
            self._skeleton,
            self._recipe.arena,
            rng,
        )
        # The lead is augmented together with the crop, or the animals would jump where the crop begins.
        before = example.keypoints[:begin]  # an animal's size is remembered for longer than the lead
        return self._extractor.run(points, scores, self._recipe.arena, before)[lead:]

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

    def _augment_settings(self, which: int) -> AugmentSettings:
        settings = self._recipe.augment
        return settings if which < self._n_originals else augment_settings_of_copies(settings)


def _interpolated(example: Example, factor: int) -> Example:
    if factor == 1:
        return example
    points, scores = interpolate(example.keypoints, example.confidence, factor)
    labels = np.stack([interpolate_labels(c, factor) for c in example.labels.T], axis=1)
    return Example(example.name, points, scores, labels)


def delay_labels(labels: NDArray[np.int16], lookahead: int) -> NDArray[np.int16]:
    """Labels (B, T, H) moved later by the lookahead: the answer at t + k is about frame t; IGNORE before frame k."""
    if lookahead == 0:
        return labels
    late = np.full_like(labels, IGNORE)
    # The network's input stays in place: at t + k it has seen frames up to t + k, and answers about t.
    late[:, lookahead:] = labels[:, :-lookahead]
    return late


def fit_scaler(features: Sequence[NDArray[np.float32]], kind: str, clip: float) -> dict[str, NDArray[np.float32]]:
    """The scaler tensors of a network, all (F,) but the clip (1,), from training features: list of (T, F) with NaN.

    `standard`: mean and deviation after cutting each feature at its 0.5 and 99.5 percentiles, because identity swaps
    make speeds that no animal has. `minmax`: these percentiles to 0 and 1 (the paper's [0, 1]). `range`: the same less
    the mean. Unknown values are filled with the mean.
    """
    # Percentiles of every n-th frame: neighbouring frames say nearly the same, and a sort of all takes long.
    table = np.concatenate(features)[:: max(1, sum(map(len, features)) // 100_000)]
    never = np.isnan(table).all(axis=0)
    table[:, never] = 0.0
    low, high = np.nanpercentile(table, (0.5, 99.5), axis=0)
    cut = np.clip(table, low, high)
    mean, deviation = np.nanmean(cut, axis=0), np.nanstd(cut, axis=0)
    if kind in ("minmax", "range"):
        shift, width = low if kind == "minmax" else mean, high - low
    else:
        shift, width = mean, deviation
    # A feature that never changes says nothing: scaled by zero, it cannot blow up where it changes when serving.
    scale = np.where(width > 1e-6, 1.0 / np.maximum(width, 1e-6), 0.0)
    return {
        "scaler.fill": mean.astype(np.float32),
        "scaler.shift": shift.astype(np.float32),
        "scaler.scale": scale.astype(np.float32),
        "scaler.clip": np.array([clip], np.float32),
    }
