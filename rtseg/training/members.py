"""Cells that are trained apart and put side by side: an ensemble within one network, which a step computes as one.

Each is a network of its own with its own seed, in its own process; the logits of the whole are the mean of theirs.
Apart they err apart: trained together, cells of one network learn to err alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rtseg import config
from rtseg.bundle.network import NetworkSpec
from rtseg.config import Recipe
from rtseg.errors import SettingError
from rtseg.features.extractor import FeatureExtractor
from rtseg.features.spec import FeatureSpec
from rtseg.frames.skeleton import Skeleton
from rtseg.model.tcn import MultitaskTCN
from rtseg.recordings.heads import Head
from rtseg.training.crops import Example
from rtseg.training.loop import Report, Trained, overall, predict, score, train


@dataclass(frozen=True)
class _Job:
    """One member's training, as it travels to its process."""

    recipe: Recipe
    skeleton: Skeleton
    fps: float
    heads: tuple[Head, ...]
    training: Sequence[Example]
    validation: Sequence[Example]
    folder: Path | None


@dataclass(frozen=True)
class _Done:
    spec: NetworkSpec
    tensors: dict[str, NDArray[np.float32]]
    epoch: int
    seconds: float
    history: list[dict[str, Any]]


def train_network(
    recipe: Recipe,
    skeleton: Skeleton,
    fps: float,
    heads: Sequence[Head],
    training: Sequence[Example],
    validation: Sequence[Example],
    folder: Path | None = None,
    report: Report = lambda event: None,
) -> Trained:
    """`train`, or where the recipe says `train.apart` every cell apart, `train.threads` of them at once.

    Member i has the seed train.seed + i and a checkpoint of its own, so a killed run resumes. report is told of every
    evaluation, with the member's number.
    """
    if not recipe.train.apart:
        return train(recipe, skeleton, fps, heads, training, validation, folder, report)
    if not training or not validation:
        raise SettingError("training needs at least one training and one validation recording")
    jobs = []
    for number, cell in enumerate(recipe.model.cells):
        settings = replace(recipe.train, seed=recipe.train.seed + number, threads=1, apart=False)
        member = replace(recipe, model=replace(recipe.model, cells=(cell,)), train=settings)
        own = folder / f"member-{number}" if folder else None
        jobs.append(_Job(member, skeleton, fps, tuple(heads), training, validation, own))
    at_once = min(len(jobs), recipe.train.threads)
    if at_once == 1:
        done = [_train_member(job) for job in jobs]
    else:
        # Fresh processes: torch's threads do not survive a fork.
        with ProcessPoolExecutor(at_once, mp_context=get_context("spawn")) as pool:
            done = list(pool.map(_train_member, jobs))
    model = merge([_loaded(member) for member in done])
    history = [{**entry, "member": number} for number, member in enumerate(done) for entry in member.history]
    for entry in history:
        report(entry)
    extractor = FeatureExtractor(skeleton, FeatureSpec(**config.to_plain(recipe.features)), fps)
    answers = [
        predict(model, extractor.run(e.keypoints, e.confidence, recipe.arena), recipe.model.lookahead_frames)
        for e in validation
    ]
    groups = score(heads, validation, answers, fps)
    mean = overall(groups, recipe.train.select, recipe.train.select_group)
    epoch, seconds = max(member.epoch for member in done), sum(member.seconds for member in done)
    whole = {"epoch": epoch, "loss": history[-1]["loss"], "score": mean, "groups": groups, "seconds": round(seconds, 1)}
    report(whole)
    return Trained(model, mean, epoch, seconds, [*history, whole])


def merge(models: Sequence[MultitaskTCN]) -> MultitaskTCN:
    """One network of the cells of all, its logits the mean of theirs.

    All have the same features and heads, cells alone (no convolutions), and refine nothing.
    """
    first = models[0].spec
    for model in models:
        assert (model.spec.channels, model.spec.head_channels) == (0, 0), "only cells can stand side by side"
        assert replace(model.spec, cells=()) == replace(first, cells=()), "members of one network answer the same heads"
    spec = replace(first, cells=tuple(cell for model in models for cell in model.spec.cells))
    parts = [model.tensors() for model in models]
    # A head's weights stand in the order of the cells.
    tensors = {name: parts[0][name] for name in spec.shapes() if name.startswith("scaler")}
    number = 0
    for model, part in zip(models, parts, strict=True):
        for own in range(len(model.spec.cells)):
            mine = {n: t for n, t in part.items() if n.startswith(f"cell.{own}.")}
            tensors |= {n.replace(f"cell.{own}.", f"cell.{number}."): t for n, t in mine.items()}
            number += 1
    for head in spec.heads:
        name = f"head.{head.name}"
        weights = [part[f"{name}.first.weight"] / np.float32(len(parts)) for part in parts]
        tensors[f"{name}.first.weight"] = np.concatenate(weights)
        tensors[f"{name}.first.bias"] = np.mean([part[f"{name}.first.bias"] for part in parts], 0, np.float32)
        for kind in ("scale", "shift"):
            tensors[f"{name}.calibration.{kind}"] = parts[0][f"{name}.calibration.{kind}"]
    whole = MultitaskTCN(spec)
    whole.load(tensors)
    return whole.eval()


def _train_member(job: _Job) -> _Done:
    torch.set_num_threads(1)
    trained = train(job.recipe, job.skeleton, job.fps, job.heads, job.training, job.validation, job.folder)
    return _Done(trained.spec, trained.tensors, trained.epoch, trained.seconds, trained.history)


def _loaded(member: _Done) -> MultitaskTCN:
    model = MultitaskTCN(member.spec)
    model.load(member.tensors)
    return model
