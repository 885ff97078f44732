"""From a recipe to a bundle: read and check recordings, train, score through Session, write the folder.

The only place where training meets the bundle.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import rtseg
from rtseg import config
from rtseg.bundle.architecture import Architecture
from rtseg.bundle.bundle import MANIFEST, PRECISIONS, Bundle, load_bundle, save_bundle
from rtseg.bundle.limits import check_architecture, check_servable
from rtseg.bundle.model_card import write_card
from rtseg.bundle.network import NetworkSpec
from rtseg.bundle.provenance import content_hash, poses_anchors, poses_hash
from rtseg.bundle.trees import Trees
from rtseg.config import Recipe
from rtseg.engine.onnx.step_file import add_step
from rtseg.errors import RtsegError, SettingError
from rtseg.evaluation.evaluate import evaluate, manifest_scores, without_nan
from rtseg.features.ranges import FeatureRanges, fit_ranges
from rtseg.features.spec import FeatureSpec
from rtseg.inference.classifier import Classifier
from rtseg.model.select import network_spec
from rtseg.recordings.dataset import Dataset, load_dataset
from rtseg.training.boosting.trees import train_trees
from rtseg.training.boosting.window_table import WindowTable
from rtseg.training.ensemble import train_network
from rtseg.training.task import VALIDATION, EventCallback, Example, TrainingTask, features_of, read_training

RANGE_FRAMES = 100_000
"""Training frames that the features' ranges are taken from, evenly spread."""


def train_bundle(
    recipe_file: Path,
    out: Path,
    *,
    root: Path | None = None,
    overrides: tuple[str, ...] = (),
    runs: Path | None = None,
    overwrite: bool = False,
    report: EventCallback = lambda event: None,
    progress: Callable[[str], None] = lambda _: None,
) -> Bundle:
    """Train what a recipe file describes and write the bundle `out`.

    root: replaces the dataset's own folder. runs: where checkpoints go, so that a killed run resumes; None = no
    checkpoints. Only the splits of `train.splits` and `validation` are ever read; where `validation` is among the
    former nothing is held out, so that the bundle has no scores. progress: called with what is being done, and
    with warnings about the recordings. Raises, before anything is trained, RtsegError where `out` holds a bundle that
    this very training did not leave there, unless `overwrite`; and SettingError for what `rtseg check` calls an error.
    """
    recipe = config.load_settings(recipe_file, Recipe, overrides)
    for sentence in recipe.without_effect(overrides):
        progress(f"warning: {sentence}")
    if not recipe.model.becomes_bundle:
        raise SettingError(f"{recipe_file}: {config.NO_BUNDLE}")
    dataset = load_dataset(recipe_file.parent / recipe.dataset, root)
    for head in recipe.abstain:
        dataset.head(head)  # an unknown head must be an error before training, which takes long
    if not overwrite:
        _check_replaced(out, recipe)
    training, validation = read_training(dataset, progress, recipe.train.splits)
    task = TrainingTask(recipe, dataset.skeleton, dataset.fps, dataset.heads, training, validation)
    _hashes(training)  # an error about names must come before training, which takes long
    if not overwrite:
        _check_replaced(out, recipe, task)
    trained = _train(task, runs, report)
    bundle = Bundle(
        name=recipe.name,
        skeleton=dataset.skeleton,
        fps=dataset.fps,
        arena=recipe.arena,
        features=FeatureSpec.from_settings(recipe.features),
        architecture=trained.spec,
        weights=rounded_to_float16(trained.tensors),
        lookahead_frames=recipe.model.lookahead_frames,
        warmup_frames=trained.warmup_frames,
        simulated=dataset.simulated,
        decoding=recipe.decoding,
        gaps=recipe.gaps,
        abstain_below=recipe.abstain,
        ranges=_feature_ranges(task),
        body_size=task.body_size,
        px_per_mm=dataset.px_per_mm,
        provenance=_provenance(task, dataset, trained),
    )
    if not overwrite:
        # Once more: another training may have finished there meanwhile.
        _check_replaced(out, recipe, task)
    save_bundle(bundle, out)
    if validation:
        progress("scoring through Session")
        # Scored from the folder, as any user loads it, and written once more with these scores.
        scores = evaluate(Classifier(load_bundle(out)), dataset, VALIDATION)
        save_bundle(replace(bundle, scores={VALIDATION: manifest_scores(scores)}), out)
    if isinstance(trained.spec, NetworkSpec):
        add_step(out)
    write_card(out)
    return load_bundle(out)


@dataclass(frozen=True)
class _Trained:
    """What a bundle takes over from a training. warmup_frames: what an answer needs to see as much as in training."""

    spec: Architecture
    tensors: Mapping[str, NDArray[Any]]
    warmup_frames: int
    seconds: float
    epoch: int
    history: Sequence[Mapping[str, Any]]


def _train(task: TrainingTask, runs: Path | None, report: EventCallback) -> _Trained:
    """Train what the recipe names. Raises BundleError before that, which takes hours, for what no daemon loads."""
    _check_servable(task)
    if task.recipe.model.is_trees:
        trees = train_trees(task, report)
        spec, tensors = trees.bundle_parts(task.in_pieces().training[0])
        check_architecture(spec)  # before anything is written
        # Every window has then all its frames; training had shorter ones only where recordings begin.
        return _Trained(spec, tensors, spec.receptive_field, trees.seconds, trees.epoch, trees.history)
    net = train_network(task, runs, report)
    return _Trained(net.spec, net.tensors, task.recipe.train.warmup_frames, net.seconds, net.epoch, net.history)


def _check_servable(task: TrainingTask) -> None:
    recipe, extractor = task.recipe, task.feature_extractor()
    if recipe.model.is_trees:
        architecture: Architecture = WindowTable(task).spec([Trees(0, 0, 0)] * len(task.heads))
    else:
        views = extractor.spec.views(task.skeleton) if recipe.model.forget_order else ()
        architecture = network_spec(recipe.model, extractor.n_features, task.heads, views)
    lookahead = recipe.model.lookahead_frames
    check_servable(architecture, recipe.features, task.skeleton, task.fps, lookahead, recipe.decoding, recipe.gaps)


def _check_replaced(out: Path, recipe: Recipe, task: TrainingTask | None = None) -> None:
    """Raise RtsegError where `out` holds a bundle that is more than, or other than, what this training leaves there.

    task: None before the recordings are read, when only the recipe can be compared.
    """
    if not (out / MANIFEST).exists():
        return
    advice = "name another folder with --out, or add --overwrite"
    try:
        there = load_bundle(out)
    except RtsegError as error:
        raise RtsegError(f"{out} holds something that is no whole bundle ({error}); {advice}") from error
    if "calibration" in there.provenance:
        raise RtsegError(f"{out} holds a calibrated bundle, which training would replace by one that is not; {advice}")
    if there.stored is not None and PRECISIONS in there.stored.files:
        raise RtsegError(f"{out} holds a bundle with measured precisions, which training would lose; {advice}")
    same = there.provenance.get("recipe") == without_nan(config.to_plain(recipe))
    if task is not None:
        same &= there.provenance.get("training") == _hashes(task.training)
        same &= there.provenance.get("validation") == _hashes(task.validation)
    # A run that was killed while it wrote its bundle goes on, and writes the same once more.
    if not same:
        raise RtsegError(f"{out} holds a bundle of another recipe or other recordings; {advice}")


def rounded_to_float16(tensors: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """The weights of every matrix rounded to float16, kept as float32: an engine may then store half the bytes.

    Before scores, ranges and calibration, so that all of them describe the weights that are served.
    """
    return {n: t.astype(np.float16).astype(np.float32) if n.endswith(".weight") else t for n, t in tensors.items()}


def _feature_ranges(task: TrainingTask) -> FeatureRanges:
    """What the features of the training recordings reach, so that live ones that do not look like them are noticed."""
    task = task.in_pieces()
    # Of the recordings as they are, without augmentation: live ones are not augmented either.
    extractor = task.feature_extractor()
    step = max(1, sum(map(len, task.training)) // RANGE_FRAMES)
    # Copied, because a slice would keep every frame's features in memory.
    features = [features_of(e, extractor, task.recipe)[::step].copy() for e in task.training]
    return fit_ranges(features, extractor.features, task.recipe.ranges)


def _provenance(task: TrainingTask, dataset: Dataset, trained: _Trained) -> dict[str, Any]:
    plain: dict[str, Any] = without_nan(
        {
            "rtseg": rtseg.__version__,
            **_learner(task.recipe),
            "simulated": dataset.simulated,
            "dataset": dataset.name,
            "description": task.recipe.description,
            "recipe": config.to_plain(task.recipe),
            "training": _hashes(task.training),
            # By poses alone as well, so that a recording is known again under other names and labels.
            "training_poses": [poses_hash(e.keypoints) for e in task.training],
            # And by some of their frames: a part of one, or a file that was cut.
            "training_anchors": [poses_anchors(e.keypoints) for e in task.training],
            "validation": _hashes(task.validation),
            "training_seconds": round(trained.seconds, 1),
            "best_epoch": trained.epoch,
            "multiply_adds": trained.spec.multiply_adds,
            "receptive_field_frames": trained.spec.receptive_field,
            "history": trained.history,
        }
    )
    return plain


def _learner(recipe: Recipe) -> dict[str, str]:
    """The library that has learnt, with its version."""
    name = "xgboost" if recipe.model.is_trees else "torch"
    return {name: str(importlib.import_module(name).__version__)}


def _hashes(examples: Sequence[Example]) -> dict[str, str]:
    """The content hash of every recording, by its name. Raises SettingError for two of one name."""
    found = {e.name: content_hash(e.keypoints, e.labels) for e in examples}
    if len(found) < len(examples):
        names = [e.name for e in examples]
        twice = ", ".join(sorted({name for name in names if names.count(name) > 1}))
        raise SettingError(f"two recordings are called {twice}, of which the bundle could name one: rename the other")
    return found
