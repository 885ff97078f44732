"""What a training is given: a recipe, and labelled recordings in memory. The same for every kind of system.

Recordings are read here, and checked (`rtseg.checks`) before anything is trained on them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg import config
from rtseg.checks.findings import find_problems, require_trainable
from rtseg.checks.summary import DatasetSummary, RecordingSummary, summarize_item
from rtseg.config import Recipe
from rtseg.errors import SettingError
from rtseg.features.body_size import BodySize
from rtseg.features.extractor import FeatureExtractor
from rtseg.features.scale import fit_body_size
from rtseg.features.spec import FeatureSpec
from rtseg.frames.gaps import Stretch, stretches_of
from rtseg.frames.skeleton import Skeleton
from rtseg.recordings.dataset import Dataset
from rtseg.recordings.heads import Head
from rtseg.recordings.recording import IGNORE, Recording

F32 = NDArray[np.float32]
EventCallback = Callable[[dict[str, Any]], None]
"""Called after every batch and evaluation with what happened, for a progress bar."""
Say = Callable[[str], None]
"""Called with what is being done, and with warnings, which begin with 'warning: '."""
TRAIN, VALIDATION = "train", "validation"
"""The splits that a training reads, where it learns from no other ones."""


@dataclass(frozen=True, eq=False)
class Example:
    """A recording with the labels of every head: (T, H) int16, IGNORE where there are none.

    absent: as a Recording's.
    """

    name: str
    keypoints: F32
    confidence: F32
    labels: NDArray[np.int16]
    absent: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.keypoints)

    def pieces(self, fill_frames: int) -> list[tuple[Stretch, Example]]:
        """What a stream steps without a restart (`frames.gaps`): each stretch, and its frames as an Example.

        So features and network begin afresh where they do when serving, and nothing is learnt from frames that are
        never answered. The first one has the same name, the others NAME@FRAME.
        """
        if self.absent is None:
            return [(Stretch(0, len(self)), self)]
        found: list[tuple[Stretch, Example]] = []
        for stretch in stretches_of(self.absent, fill_frames):
            here = slice(*stretch)
            name = f"{self.name}@{stretch.start}" if found else self.name
            found.append((stretch, Example(name, self.keypoints[here], self.confidence[here], self.labels[here])))
        return found


def example_of(recording: Recording, labels: dict[str, NDArray[np.int16]], heads: Sequence[Head]) -> Example:
    """One Example; heads without labels are IGNOREd."""
    table = np.full((len(recording), len(heads)), IGNORE, np.int16)
    for column, head in enumerate(heads):
        if head.name in labels:
            table[:, column] = labels[head.name]
    return Example(recording.name, recording.keypoints, recording.confidence, table, recording.absent)


def read_training(
    dataset: Dataset, progress: Say = lambda _: None, splits: Sequence[str] = (TRAIN,)
) -> tuple[list[Example], list[Example]]:
    """The recordings of `splits`, to train on, and the held-out ones of `validation`: none where it is among those.

    progress: called with every recording, then with all warnings. Raises SettingError with everything that
    `rtseg check` calls an error.
    """
    names = [*splits, *([] if VALIDATION in splits else [VALIDATION])]
    read = {split: _read_split(dataset, split, progress) for split in names}
    _check(dataset, {split: summaries for split, (_, summaries) in read.items()}, splits, VALIDATION, progress)
    training = [example for split in splits for example in read[split][0]]
    return training, [] if VALIDATION in splits else read[VALIDATION][0]


def read_pooled(dataset: Dataset, splits: Sequence[str], progress: Say = lambda _: None) -> list[Example]:
    """The recordings of several splits as one, for studies that divide them anew. As `read_training`."""
    read = {split: _read_split(dataset, split, progress) for split in dict.fromkeys(splits)}
    _check(dataset, {split: summaries for split, (_, summaries) in read.items()}, tuple(read), "", progress)
    return [example for examples, _ in read.values() for example in examples]


def _read_split(dataset: Dataset, split: str, progress: Say) -> tuple[list[Example], list[RecordingSummary]]:
    examples, summaries = [], []
    for item in dataset.items(split):
        progress(f"reading {split}: {item.recording.name}")
        labels = {name: track.frames for name, track in item.labels.items()}
        examples.append(example_of(item.recording, labels, dataset.heads))
        summaries.append(summarize_item(item))
    return examples, summaries


def _check(
    dataset: Dataset,
    splits: Mapping[str, Sequence[RecordingSummary]],
    learnt: Sequence[str],
    validation: str,
    progress: Say,
) -> None:
    dataset.warnings.tell(progress)
    summary = DatasetSummary(
        dataset.name, dataset.skeleton, dataset.rules, splits, dataset.simulated, validation=validation
    )
    findings = find_problems(summary.learning_from(learnt))
    for finding in findings:
        if finding.severity == "warning":
            progress(f"warning: {finding.text}")
    require_trainable(findings, dataset.name)


@dataclass(frozen=True, eq=False)
class TrainingTask:
    """One training: the recipe, what the recordings show, and the recordings themselves.

    heads: in the order of the labels' columns. validation: the recordings that the checkpoint is chosen by, or none
    where nothing is held out and the last epoch's weights are taken (train.select = "last"). The paper's
    tasks are something else: head groups (`Head.group`), of which one training may have several.
    """

    recipe: Recipe
    skeleton: Skeleton
    fps: float
    heads: tuple[Head, ...]
    training: Sequence[Example]
    validation: Sequence[Example]

    def require_recordings(self) -> None:
        """Raise SettingError where there is nothing to train on or nothing to choose a checkpoint by."""
        # Trees choose their number of rounds whatever is selected.
        chooses = self.recipe.train.select != "last" or self.recipe.model.is_trees
        if not self.training or (chooses and not self.validation):
            raise SettingError("training needs at least one training and one validation recording")

    def in_pieces(self) -> TrainingTask:
        """The same task with its recordings cut where serving would restart (`Example.pieces`)."""
        training, validation = (
            [piece for example in examples for _, piece in example.pieces(self.recipe.gaps.fill_frames)]
            for examples in (self.training, self.validation)
        )
        return replace(self, training=training, validation=validation)

    def feature_extractor(self) -> FeatureExtractor:
        """What turns the recordings into the recipe's features."""
        spec = FeatureSpec.from_settings(self.recipe.features)
        # Measured only where features need it: a look at every training recording.
        return FeatureExtractor(self.skeleton, spec, self.fps, self.body_size if spec.scale == "body" else None)

    @cached_property
    def body_size(self) -> BodySize | None:
        """How large the animals of the training recordings appear; None where no two points are ever seen together."""
        return fit_body_size([e.keypoints for e in self.training], self.skeleton, self.fps, self.recipe.body)

    def fingerprint(self) -> str:
        """A hash of everything that the outcome depends on; a checkpoint of another training is not resumed."""
        plain = config.to_plain(self.recipe)
        del plain["train"]["splits"]  # the recordings of which follow
        digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode())
        # These are frozen dataclasses and numbers, whose repr says everything.
        digest.update(repr((self.skeleton, self.fps, self.heads)).encode())
        # The recordings themselves, not their names: one that was labelled anew makes another training.
        for example in (*self.training, *self.validation):
            digest.update(example.name.encode())
            for array in (example.keypoints, example.confidence, example.labels):
                digest.update(np.ascontiguousarray(array).data)
            if example.absent is not None:
                digest.update(example.absent.data)
        return digest.hexdigest()


def features_of(example: Example, extractor: FeatureExtractor, recipe: Recipe) -> F32:
    """Features (T, F) of a whole recording, or of a piece of one."""
    return extractor.run(example.keypoints, example.confidence, recipe.arena)


def predict_in_pieces(example: Example, recipe: Recipe, n_outputs: int, predict: Callable[[Example], F32]) -> F32:
    """Probabilities (T, P) of a recording by `predict`, piece by piece; NaN where serving gives no answer."""
    probs = np.full((len(example), n_outputs), np.nan, np.float32)
    for (start, stop), piece in example.pieces(recipe.gaps.fill_frames):
        probs[start:stop] = predict(piece)
    return probs
