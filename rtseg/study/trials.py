"""One trial: a system trained on some recordings that predicts others. Kept on disk, so that a study resumes.

A trial's folder holds trial.json (written last: then it is done), answers/ (probabilities, one .npz for every recording
that was predicted) and, while it trains, checkpoint/. A trial of another recipe or other recordings is never taken for
this one.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg import config
from rtseg.config import Recipe
from rtseg.errors import RtsegError, SettingError
from rtseg.evaluation.evaluate import without_nan
from rtseg.recordings.dataset import Dataset, load_dataset
from rtseg.recordings.heads import Head
from rtseg.system.files import replace_atomically, write_json_atomically
from rtseg.training.fit import fit
from rtseg.training.task import EventCallback, Example, TrainingTask, read_pooled

DONE = "trial.json"
ProbabilitiesByName = dict[str, NDArray[np.float32]]
"""Recording -> probabilities (T, P)."""


@dataclass(frozen=True, eq=False)
class Trial:
    """facts: what training took and gave. probabilities: of every recording that was predicted."""

    facts: dict[str, Any]
    probabilities: ProbabilitiesByName


@dataclass(frozen=True, eq=False)
class SavedProbabilities:
    """What a trained system predicts for one recording, as its file holds it.

    recording: its name. columns: head.class of every column of probs (T, P) float32, NaN = never answered. seen: the
    names of all recordings that the system was trained on, or its checkpoint chosen by.
    """

    recording: str
    columns: tuple[str, ...]
    probs: NDArray[np.float32]
    seen: tuple[str, ...]


def read_recipe(recipe_file: Path, root: Path | None = None, overrides: Sequence[str] = ()) -> tuple[Recipe, Dataset]:
    """A recipe and the dataset that it names."""
    recipe = config.load_settings(recipe_file, Recipe, overrides)
    return recipe, load_dataset(recipe_file.parent / recipe.dataset, root)


def read_splits(
    dataset: Dataset, splits: Sequence[str], progress: Callable[[str], None] = lambda _: None
) -> list[Example]:
    """All recordings of some splits, checked. Raises SettingError for two of the same name, and as `read_pooled`."""
    examples = read_pooled(dataset, splits, progress)
    require_different_names(examples)
    return examples


def require_different_names(examples: Sequence[Example]) -> None:
    """Raise SettingError for recordings whose predictions would be one file."""
    names = [probabilities_file_name(example.name) for example in examples]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SettingError(f"recordings of the same name cannot be told apart: {', '.join(twice)}")


def with_repetition_seed(recipe: Recipe, repetition: int) -> Recipe:
    """The recipe with the seed of its repetition, counted from 0."""
    return replace(recipe, train=replace(recipe.train, seed=recipe.train.seed + repetition))


def run_trial(
    folder: Path, task: TrainingTask, predicted: Sequence[Example], report: EventCallback = lambda event: None
) -> Trial:
    """Train what the task says, and predict the recordings in `predicted`.

    A finished trial in `folder` is read, a killed one continues. Raises SettingError where the folder holds a trial of
    another recipe or other recordings, or one that has predicted other poses of these.
    """
    # The fingerprint is of the data too: a recording that was relabelled since must not be taken for the old one.
    fingerprint, done = task.fingerprint(), folder / DONE
    if done.is_file():
        return _read_trial(folder, fingerprint, predicted)
    checkpoints = folder / "checkpoint"
    fitted = fit(task, checkpoints, report)
    seen = tuple(dict.fromkeys(example.name for example in (*task.training, *task.validation)))
    probabilities = {}
    for example in predicted:
        # Each file is written as soon as it can be; trial.json, written last, says that all are there.
        probs = probabilities[example.name] = fitted.predict(example)
        save_probabilities(
            SavedProbabilities(example.name, output_columns(task.heads), probs, seen), folder / "answers"
        )
    facts: dict[str, Any] = without_nan(
        {
            "fingerprint": fingerprint,
            "asked": list(probabilities),
            # The fingerprint is of what was learnt from, and knows nothing of what was predicted.
            "asked_poses": [_predicted_hash(example) for example in predicted],
            "training": [example.name for example in task.training],
            "selection": [example.name for example in task.validation],
            "seed": task.recipe.train.seed,
            "epoch": fitted.epoch,
            "selection_score": fitted.score,
            "seconds": round(fitted.seconds, 1),
            "cpu_seconds": round(fitted.cpu_seconds, 1),
            "peak_memory_mb": fitted.peak_memory_mb,
            "parameters": fitted.parameters,
            "multiply_adds": fitted.multiply_adds,
        }
    )
    # Last of all: a folder with this file has every other one.
    write_json_atomically(done, facts)
    shutil.rmtree(checkpoints, ignore_errors=True)
    return Trial(facts, probabilities)


def _read_trial(folder: Path, fingerprint: str, predicted: Sequence[Example]) -> Trial:
    facts: dict[str, Any] = json.loads((folder / DONE).read_text(encoding="utf-8"))
    if facts["fingerprint"] != fingerprint or facts["asked"] != [example.name for example in predicted]:
        raise SettingError(
            f"{folder} holds a trial of another recipe or other recordings: name another folder, or remove it"
        )
    files = {e.name: folder / "answers" / probabilities_file_name(e.name) for e in predicted}
    probabilities = {name: load_probabilities(file).probs for name, file in files.items()}
    # Trials of older versions hold no hashes: of those the number of frames alone is compared.
    hashes = facts.get("asked_poses", [None] * len(predicted))
    changed = [
        example.name
        for example, known in zip(predicted, hashes, strict=True)
        if known not in (None, _predicted_hash(example)) or len(probabilities[example.name]) != len(example)
    ]
    if changed:
        raise SettingError(
            f"{folder} holds a trial that predicted other poses of {', '.join(changed)} than the recordings have now: "
            "name another folder, or remove it"
        )
    return Trial(facts, probabilities)


def _predicted_hash(example: Example) -> str:
    """Of all that a prediction depends on: labels may change, and it stays the same."""
    digest = hashlib.sha256()
    for array in (example.keypoints, example.confidence, example.absent):
        digest.update(b"" if array is None else np.ascontiguousarray(array).data)
    return digest.hexdigest()


def output_columns(heads: Sequence[Head]) -> tuple[str, ...]:
    """The names of all outputs, heads side by side."""
    return tuple(f"{head.name}.{name}" for head in heads for name in head.classes)


def probabilities_file_name(recording: str) -> str:
    """The file of a recording, whose name may hold slashes."""
    return recording.replace("/", "_") + ".npz"


def save_probabilities(saved: SavedProbabilities, folder: Path) -> Path:
    """Write one recording's file into `folder`, made if need be, by a rename; no pickle."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / probabilities_file_name(saved.recording)
    with replace_atomically(path) as part, part.open("wb") as file:
        np.savez_compressed(
            file,
            recording=np.array(saved.recording),
            columns=np.array(saved.columns),
            probs=saved.probs,
            seen=np.array(saved.seen),
        )
    return path


def load_probabilities(path: Path) -> SavedProbabilities:
    """What `save_probabilities` wrote. Raises RtsegError for any other file."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            columns, seen = (tuple(map(str, file[key].tolist())) for key in ("columns", "seen"))
            probs = np.ascontiguousarray(file["probs"], np.float32)
            recording = str(file["recording"])
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise RtsegError(
            f"{path}: not the probabilities of a trained system, as 'rtseg crossvalidate' writes them: {error}"
        ) from None
    if probs.ndim != 2 or probs.shape[1] != len(columns):
        raise RtsegError(f"{path}: {len(columns)} columns are named, the probabilities are {probs.shape}")
    return SavedProbabilities(recording, columns, probs, seen)
