"""From a recipe to a bundle: read the recordings of its splits, train, score through Session, write the folder.

The only place where training meets the bundle.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import rtseg
from rtseg import config
from rtseg.bundle import Bundle, load_bundle, save_bundle
from rtseg.classifier import Classifier
from rtseg.config import Recipe
from rtseg.evaluate import evaluate, without_nan
from rtseg.features.spec import FeatureSpec
from rtseg.recordings.dataset import Dataset, load_dataset
from rtseg.training.crops import Example, example_of
from rtseg.training.loop import Report, Trained, train


def train_bundle(
    recipe_file: Path,
    out: Path,
    *,
    root: Path | None = None,
    overrides: tuple[str, ...] = (),
    runs: Path | None = None,
    report: Report = lambda event: None,
    progress: Callable[[str], None] = lambda _: None,
) -> Bundle:
    """Train what a recipe file describes and write the bundle `out`.

    root: replaces the dataset's own folder. runs: where checkpoints go, so that a killed run resumes; None = no
    checkpoints. Only the splits `train` and `validation` are ever read.
    """
    recipe = config.load(recipe_file, Recipe, overrides)
    dataset = load_dataset(recipe_file.parent / recipe.dataset, root)
    training = read_examples(dataset, "train", progress)
    validation = read_examples(dataset, "validation", progress)
    trained = train(recipe, dataset.skeleton, dataset.fps, dataset.heads, training, validation, runs, report)
    bundle = Bundle(
        name=recipe.name,
        skeleton=dataset.skeleton,
        fps=dataset.fps,
        arena=recipe.arena,
        features=FeatureSpec(**config.to_plain(recipe.features)),
        network=trained.spec,
        weights=trained.tensors,
        lookahead_frames=recipe.model.lookahead_frames,
        warmup_frames=recipe.train.warmup_frames,
        simulated=dataset.simulated,
        decoding=recipe.decoding,
        gaps=recipe.gaps,
        provenance=_provenance(recipe, dataset, trained, training, validation),
    )
    progress("scoring through Session")
    save_bundle(bundle, out)
    scores = evaluate(Classifier(load_bundle(out)), dataset, "validation")
    kept = {k: scores[k] for k in ("protocol", "split", "groups", "heads", "decoded")}
    save_bundle(replace(bundle, scores={"validation": kept}), out)
    return load_bundle(out)


def read_examples(dataset: Dataset, split: str, progress: Callable[[str], None] = lambda _: None) -> list[Example]:
    """All recordings of one split with the labels of every head."""
    examples = []
    for item in dataset.items(split):
        progress(f"reading {split}: {item.recording.name}")
        labels = {name: track.frames for name, track in item.labels.items()}
        examples.append(example_of(item.recording, labels, dataset.heads))
    return examples


def _provenance(
    recipe: Recipe, dataset: Dataset, trained: Trained, training: list[Example], validation: list[Example]
) -> dict[str, Any]:
    import torch

    def videos(examples: list[Example]) -> dict[str, str]:
        return {e.name: hashlib.sha256(e.keypoints.tobytes() + e.labels.tobytes()).hexdigest()[:16] for e in examples}

    plain: dict[str, Any] = without_nan(
        {
            "rtseg": rtseg.__version__,
            "torch": torch.__version__,
            "simulated": dataset.simulated,
            "dataset": dataset.name,
            "description": recipe.description,
            "recipe": config.to_plain(recipe),
            "training": videos(training),
            "validation": videos(validation),
            "training_seconds": round(trained.seconds, 1),
            "best_epoch": trained.epoch,
            "multiply_adds": trained.spec.multiply_adds,
            "receptive_field_frames": trained.spec.receptive_field,
            "history": trained.history,
        }
    )
    return plain
