"""Recurrent cells that are trained separately and combined: an ensemble within one network, computed in one step.

Each cell is a network of its own with its own seed, in its own process; the logits of the whole are the mean of theirs.
Trained separately they make different errors; trained together, the cells of one network learn to make the same ones.
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

from rtseg.bundle.network import NetworkSpec
from rtseg.model.tcn import MultitaskTCN
from rtseg.training.loop import TrainedNetwork, train
from rtseg.training.selection import predict_probabilities, score_held_out
from rtseg.training.task import EventCallback, TrainingTask, features_of


@dataclass(frozen=True)
class _CellJob:
    """The training of one cell, as it travels to its process."""

    task: TrainingTask
    folder: Path | None


@dataclass(frozen=True)
class _TrainedCell:
    spec: NetworkSpec
    tensors: dict[str, NDArray[np.float32]]
    epoch: int
    seconds: float
    cpu_seconds: float
    history: list[dict[str, Any]]


def train_network(
    task: TrainingTask, folder: Path | None = None, report: EventCallback = lambda event: None
) -> TrainedNetwork:
    """`train`, or where the recipe says `train.apart`, every cell separately, `train.threads` of them at once.

    Cell i has the seed train.seed + i and a checkpoint of its own, so a killed run resumes. report: called for every
    evaluation, with the cell's number as `member`.
    """
    if not task.recipe.train.apart:
        return train(task, folder, report)
    task = task.in_pieces()
    task.require_recordings()
    cells = _train_cells(_cell_jobs(task, folder), task.recipe.train.threads)
    model = combine_cells([_model_of(cell) for cell in cells])
    history = [{**entry, "member": number} for number, cell in enumerate(cells) for entry in cell.history]
    # Cells cannot report while they train in other processes; their histories are reported here.
    for entry in history:
        report(entry)
    recipe, extractor = task.recipe, task.feature_extractor()
    predictions = [
        predict_probabilities(model, features_of(e, extractor, recipe), recipe.model.lookahead_frames)
        for e in task.validation
    ]
    groups, score = score_held_out(task, predictions)
    # Each cell stopped at its own epoch: the ensemble reports the latest of these, and the time of all together.
    epoch, seconds = max(cell.epoch for cell in cells), sum(cell.seconds for cell in cells)
    cpu_seconds = sum(cell.cpu_seconds for cell in cells)
    loss = history[-1]["loss"]
    whole = {"epoch": epoch, "loss": loss, "score": score, "groups": groups, "seconds": round(seconds, 1)}
    report(whole)
    return TrainedNetwork(model, score, epoch, seconds, cpu_seconds, [*history, whole])


def _cell_jobs(task: TrainingTask, folder: Path | None) -> list[_CellJob]:
    jobs = []
    for number, cell in enumerate(task.recipe.model.cells):
        # One thread each: the bits must not depend on how many cells are trained at once.
        settings = replace(task.recipe.train, seed=task.recipe.train.seed + number, threads=1, apart=False)
        recipe = replace(task.recipe, model=replace(task.recipe.model, cells=(cell,)), train=settings)
        jobs.append(_CellJob(replace(task, recipe=recipe), folder / f"member-{number}" if folder else None))
    return jobs


def _train_cells(jobs: Sequence[_CellJob], threads: int) -> list[_TrainedCell]:
    at_once = min(len(jobs), threads)
    if at_once == 1:
        return [_train_cell(job) for job in jobs]
    # Fresh processes: torch's threads do not survive a fork.
    with ProcessPoolExecutor(at_once, mp_context=get_context("spawn")) as pool:
        return list(pool.map(_train_cell, jobs))


def _train_cell(job: _CellJob) -> _TrainedCell:
    torch.set_num_threads(1)
    trained = train(job.task, job.folder)
    return _TrainedCell(
        trained.spec, trained.tensors, trained.epoch, trained.seconds, trained.cpu_seconds, trained.history
    )


def _model_of(cell: _TrainedCell) -> MultitaskTCN:
    model = MultitaskTCN(cell.spec)
    model.load_weights(cell.tensors)
    return model


def combine_cells(models: Sequence[MultitaskTCN]) -> MultitaskTCN:
    """One network with the cells of all models, its logits the mean of theirs.

    All have the same features and heads, cells alone (no convolutions), and refine nothing.
    """
    first = models[0].spec
    for model in models:
        assert (model.spec.channels, model.spec.head_channels) == (0, 0), "only cells can be combined"
        assert replace(model.spec, cells=()) == replace(first, cells=()), (
            "combined networks have the same features and heads"
        )
    spec = replace(first, cells=tuple(cell for model in models for cell in model.spec.cells))
    parts = [model.tensors() for model in models]
    tensors = {name: parts[0][name] for name in spec.shapes() if name.startswith("scaler")}
    number = 0
    for model, part in zip(models, parts, strict=True):
        for own in range(len(model.spec.cells)):
            of_cell = {n: t for n, t in part.items() if n.startswith(f"cell.{own}.")}
            tensors |= {n.replace(f"cell.{own}.", f"cell.{number}."): t for n, t in of_cell.items()}
            number += 1
    for head in spec.heads:
        name = f"head.{head.name}"
        # The hidden layers lie side by side in the order of the cells, and so do a head's weights; divided by the
        # number of networks, their sum is the mean of the logits.
        weights = [part[f"{name}.first.weight"] / np.float32(len(parts)) for part in parts]
        tensors[f"{name}.first.weight"] = np.concatenate(weights)
        tensors[f"{name}.first.bias"] = np.mean([part[f"{name}.first.bias"] for part in parts], 0, np.float32)
        for kind in ("scale", "shift"):
            tensors[f"{name}.calibration.{kind}"] = parts[0][f"{name}.calibration.{kind}"]
    whole = MultitaskTCN(spec)
    whole.load_weights(tensors)
    # No dropout in what is scored and exported.
    return whole.eval()
