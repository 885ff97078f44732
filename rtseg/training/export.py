"""From a recipe to a bundle: read the recordings of its splits, train, score through Session, write the folder.

The only place where training meets the bundle.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import rtseg
from rtseg import config
from rtseg.bundle.bundle import Bundle, load_bundle, save_bundle
from rtseg.bundle.model_card import write_card
from rtseg.bundle.provenance import DIGITS, content_hash, poses_hash
from rtseg.config import Recipe
from rtseg.engine.onnx.step_file import add_step
from rtseg.errors import SettingError
from rtseg.evaluation.evaluate import evaluate, manifest_scores, without_nan
from rtseg.features.extractor import FeatureExtractor
from rtseg.features.ranges import FeatureRanges, fit_ranges
from rtseg.features.spec import FeatureSpec
from rtseg.inference.classifier import Classifier
from rtseg.recordings.dataset import Dataset, load_dataset
from rtseg.training.crops import Example, example_of
from rtseg.training.loop import NO_BUNDLE, Report, Trained
from rtseg.training.members import train_network
from rtseg.training.teacher import with_teacher

RANGE_FRAMES = 100_000
"""Training frames that the features' ranges are taken from, evenly spread."""


def train_bundle(
    recipe_file: Path,
    out: Path,
    *,
    root: Path | None = None,
    overrides: tuple[str, ...] = (),
    runs: Path | None = None,
    teacher: Sequence[Path] = (),
    report: Report = lambda event: None,
    progress: Callable[[str], None] = lambda _: None,
) -> Bundle:
    """Train what a recipe file describes and write the bundle `out`.

    root: replaces the dataset's own folder. runs: where checkpoints go, so that a killed run resumes; None = no
    checkpoints. teacher: folders of answers out of fold (`rtseg crossvalidate`) that the training recordings are
    distilled from. Only the splits `train` and `validation` are ever read.
    """
    recipe = config.load(recipe_file, Recipe, overrides)
    if recipe.model.kind != "multitask-tcn" or not recipe.model.causal:
        raise SettingError(f"{recipe_file}: {NO_BUNDLE}")
    dataset = load_dataset(recipe_file.parent / recipe.dataset, root)
    for head in recipe.abstain:
        dataset.head(head)
    training = read_examples(dataset, "train", progress)
    if teacher:
        if recipe.train.distill_weight == 0:
            raise SettingError("a teacher needs a share of the loss: set train.distill_weight above 0")
        training = with_teacher(training, teacher, dataset.heads)
    elif recipe.train.distill_weight > 0:
        raise SettingError("train.distill_weight is above 0 and there is no teacher: name one with --teacher")
    validation = read_examples(dataset, "validation", progress)
    trained = train_network(recipe, dataset.skeleton, dataset.fps, dataset.heads, training, validation, runs, report)
    bundle = Bundle(
        name=recipe.name,
        skeleton=dataset.skeleton,
        fps=dataset.fps,
        arena=recipe.arena,
        features=FeatureSpec(**config.to_plain(recipe.features)),
        network=trained.spec,
        weights=in_halves(trained.tensors),
        lookahead_frames=recipe.model.lookahead_frames,
        warmup_frames=recipe.train.warmup_frames,
        simulated=dataset.simulated,
        decoding=recipe.decoding,
        gaps=recipe.gaps,
        abstain_below=recipe.abstain,
        ranges=_ranges(recipe, dataset, training),
        provenance=_provenance(recipe, dataset, trained, training, validation),
    )
    progress("scoring through Session")
    save_bundle(bundle, out)
    scores = evaluate(Classifier(load_bundle(out)), dataset, "validation")
    save_bundle(replace(bundle, scores={"validation": manifest_scores(scores)}), out)
    add_step(out)
    write_card(out)
    return load_bundle(out)


def in_halves(tensors: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """The weights of every matrix rounded to float16, kept as float32: an engine may then store half the bytes.

    Before scores, ranges and calibration, so that whatever is said of a bundle is said of what is served.
    """
    return {n: t.astype(np.float16).astype(np.float32) if n.endswith(".weight") else t for n, t in tensors.items()}


def read_examples(dataset: Dataset, split: str, progress: Callable[[str], None] = lambda _: None) -> list[Example]:
    """All recordings of one split with the labels of every head."""
    examples = []
    for item in dataset.items(split):
        progress(f"reading {split}: {item.recording.name}")
        labels = {name: track.frames for name, track in item.labels.items()}
        examples.append(example_of(item.recording, labels, dataset.heads))
    return examples


def _teacher_hashes(training: list[Example]) -> dict[str, str]:
    return {e.name: hashlib.sha256(e.soft.tobytes()).hexdigest()[:DIGITS] for e in training if e.soft is not None}


def _ranges(recipe: Recipe, dataset: Dataset, training: list[Example]) -> FeatureRanges:
    """What the features of the training recordings reach, so that live ones that do not look like them are noticed."""
    extractor = FeatureExtractor(dataset.skeleton, FeatureSpec(**config.to_plain(recipe.features)), dataset.fps)
    step = max(1, sum(map(len, training)) // RANGE_FRAMES)
    features = [extractor.run(e.keypoints, e.confidence, recipe.arena)[::step].copy() for e in training]
    return fit_ranges(features, extractor.features, recipe.ranges)


def _provenance(
    recipe: Recipe, dataset: Dataset, trained: Trained, training: list[Example], validation: list[Example]
) -> dict[str, Any]:
    import torch

    def videos(examples: list[Example]) -> dict[str, str]:
        return {e.name: content_hash(e.keypoints, e.labels) for e in examples}

    plain: dict[str, Any] = without_nan(
        {
            "rtseg": rtseg.__version__,
            "torch": torch.__version__,
            "simulated": dataset.simulated,
            "dataset": dataset.name,
            "description": recipe.description,
            "recipe": config.to_plain(recipe),
            "training": videos(training),
            "training_poses": [poses_hash(e.keypoints) for e in training],
            "validation": videos(validation),
            "teacher": _teacher_hashes(training),
            "training_seconds": round(trained.seconds, 1),
            "best_epoch": trained.epoch,
            "multiply_adds": trained.spec.multiply_adds,
            "receptive_field_frames": trained.spec.receptive_field,
            "history": trained.history,
        }
    )
    return plain
