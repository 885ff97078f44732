"""One trial: a system trained on some recordings that answers about others. Kept on disk, so that a study resumes.

A trial's folder holds trial.json (written last: then it is done), answers/ (one .npz for every recording) and, while it
trains, checkpoint/. A trial of another recipe or other recordings is never taken for this one.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg import config
from rtseg.config import Recipe
from rtseg.errors import SettingError
from rtseg.evaluation.evaluate import without_nan
from rtseg.recordings.dataset import Dataset, load_dataset
from rtseg.system.files import write_json_atomically
from rtseg.training.answers import Answers, columns_of, file_name, load_answers, save_answers
from rtseg.training.crops import Example
from rtseg.training.export import read_examples
from rtseg.training.fit import fit
from rtseg.training.loop import Report, fingerprint

DONE = "trial.json"
Said = dict[str, NDArray[np.float32]]
"""Recording -> probabilities (T, P)."""


@dataclass(frozen=True, eq=False)
class Trial:
    """facts: what training took and gave. said: about every recording that was asked for."""

    facts: dict[str, Any]
    said: Said


def read_recipe(recipe_file: Path, root: Path | None = None, overrides: Sequence[str] = ()) -> tuple[Recipe, Dataset]:
    """A recipe and the dataset that it names. Raises SettingError for one that wants a teacher: studies have none."""
    recipe = config.load(recipe_file, Recipe, overrides)
    if recipe.train.distill_weight > 0:
        raise SettingError(f"{recipe_file}: a study trains without a teacher; add --set train.distill_weight=0")
    return recipe, load_dataset(recipe_file.parent / recipe.dataset, root)


def read_splits(
    dataset: Dataset, splits: Sequence[str], progress: Callable[[str], None] = lambda _: None
) -> list[Example]:
    """All recordings of some splits. Raises SettingError for two of the same name."""
    examples = [example for split in dict.fromkeys(splits) for example in read_examples(dataset, split, progress)]
    names = [file_name(example.name) for example in examples]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SettingError(f"recordings of the same name cannot be told apart: {', '.join(twice)}")
    return examples


def seeded(recipe: Recipe, number: int) -> Recipe:
    """The recipe with the seed of its repetition `number`."""
    return replace(recipe, train=replace(recipe.train, seed=recipe.train.seed + number))


def run_trial(
    folder: Path,
    recipe: Recipe,
    dataset: Dataset,
    training: Sequence[Example],
    selection: Sequence[Example],
    asked: Sequence[Example],
    report: Report = lambda event: None,
) -> Trial:
    """Train on `training`, choose the checkpoint on `selection`, and answer about `asked`.

    A finished trial in `folder` is read, a killed one goes on. Raises SettingError where the folder holds a trial of
    another recipe or other recordings.
    """
    mark = fingerprint(recipe, training, selection, dataset.skeleton, dataset.fps, dataset.heads)
    done = folder / DONE
    if done.is_file():
        facts: dict[str, Any] = json.loads(done.read_text(encoding="utf-8"))
        if facts["fingerprint"] != mark or facts["asked"] != [example.name for example in asked]:
            raise SettingError(
                f"{folder} holds a trial of another recipe or other recordings: name another folder, or remove it"
            )
        return Trial(facts, {e.name: load_answers(folder / "answers" / file_name(e.name)).probs for e in asked})
    checkpoints = folder / "checkpoint"
    fitted = fit(recipe, dataset.skeleton, dataset.fps, dataset.heads, training, selection, checkpoints, report)
    seen = tuple(dict.fromkeys(example.name for example in (*training, *selection)))
    said = {}
    for example in asked:
        said[example.name] = fitted.predict(example)
        save_answers(Answers(example.name, columns_of(dataset.heads), said[example.name], seen), folder / "answers")
    facts = {
        "fingerprint": mark,
        "asked": list(said),
        "training": [example.name for example in training],
        "selection": [example.name for example in selection],
        "seed": recipe.train.seed,
        "epoch": fitted.epoch,
        "selection_score": fitted.score,
        "seconds": round(fitted.seconds, 1),
        "peak_memory_mb": fitted.peak_memory_mb,
        "parameters": fitted.parameters,
        "multiply_adds": fitted.multiply_adds,
    }
    facts = without_nan(facts)
    write_json_atomically(done, facts)
    shutil.rmtree(checkpoints, ignore_errors=True)
    return Trial(facts, said)
