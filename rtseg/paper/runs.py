"""Trainings one after the other, each in its own process, each skipped where its result is there already.

A result belongs to a fingerprint of its recipe, its tasks, the data and the version; anything else is trained again.
A network that diverges or learns nothing at the learning rate that the search chose is trained at a third of it, and
at a ninth at last.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import rtseg
from rtseg import config
from rtseg.config import PaperSettings, Recipe
from rtseg.paper.plan import Training
from rtseg.paper.run_one import CHECKPOINTS, JOB, RESAMPLED, RESULT, read_given_up
from rtseg.system.child_process import module_command, module_environment
from rtseg.system.files import write_json_atomically

SCHEMA = 2
LOG = "log.txt"
TO_COME = "still to come"
LOWER_RATE, MAX_FALLBACKS = 1 / 3, 2
"""By what the learning rate of one that came to nothing is multiplied for the next try, and how often at most."""
TrainingCallback = Callable[[str, dict[str, Any]], None]
"""Called with a run's name and one event of it: its beginning, what the training reports, its end."""


@dataclass(frozen=True, eq=False)
class Run:
    """A training with one seed. result: None = it failed, for the reason in why, or it is still to come.

    fallback: what is trained where it diverges or learns nothing; None = nothing. given_up: the learning rates that it
    is the fallback of. is_over: whether it diverged or learnt nothing, as it would again.
    """

    training: Training
    seed: int
    folder: Path
    fingerprint: str
    result: dict[str, Any] | None = None
    why: str = field(default=TO_COME)
    fallback: Run | None = None
    given_up: tuple[float, ...] = ()
    is_over: bool = False

    @property
    def name(self) -> str:
        """As it is printed."""
        return f"{self.training.key} seed {self.seed}"

    @property
    def to_come(self) -> bool:
        """Whether it was not tried yet."""
        return self.result is None and self.why == TO_COME

    def resampled(self, group: str, score: str) -> NDArray[np.float64]:
        """The group's score (`f1` or `map`) in every resample of the test recordings, (n,)."""
        with np.load(self.folder / RESAMPLED) as arrays:
            values: NDArray[np.float64] = arrays[f"{group}.{score}"]
        return values


def recipe_of(training: Training, seed: int) -> Recipe:
    """The training's recipe with the seed of one run."""
    return replace(training.recipe, train=replace(training.recipe.train, seed=seed))


def find_runs(
    trainings: Sequence[Training], seeds: Sequence[int], out: Path, data: str, settings: PaperSettings
) -> list[Run]:
    """Every run, the first seed of all trainings first, with the results that are there. data: its fingerprint."""
    runs = []
    # Seeds outside: a run that is stopped early has every system once, not some of them five times.
    for seed in seeds:
        for training in trainings:
            if settings.baseline_seeds and training.key.startswith("I/") and seed >= settings.baseline_seeds:
                continue
            folder = out / "runs" / training.key.replace("/", "-") / f"seed{seed}"
            runs.append(_settled(_with_fallbacks(training, seed, folder, data, settings)))
    return runs


def _with_fallbacks(
    training: Training, seed: int, folder: Path, data: str, settings: PaperSettings, given_up: tuple[float, ...] = ()
) -> Run:
    """A training's run, with that at a lower learning rate behind it."""
    recipe = recipe_of(training, seed)
    # With the version: another one may train or score in another way.
    what = [SCHEMA, rtseg.__version__, data, settings.resamples, training.tasks, training.scored]
    # Only what differs from the defaults: a setting that is new and off must not make days of work void.
    what.append(_differing(config.to_plain(recipe), _DEFAULTS))
    fingerprint = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
    fallback = None
    # The search is to find out which rates are too high; trees have another rate.
    if training.scored and not recipe.model.is_trees and len(given_up) < MAX_FALLBACKS:
        rate = training.recipe.train.learning_rate
        lower = replace(training.recipe, train=replace(training.recipe.train, learning_rate=rate * LOWER_RATE))
        slower = replace(training, recipe=lower)
        fallback = _with_fallbacks(slower, seed, folder, data, settings, (*given_up, rate))
    return Run(training, seed, folder, fingerprint, fallback=fallback, given_up=given_up)


def _settled(run: Run) -> Run:
    """The run or its first fallback that is not given up, else the last one; with its result where that is there."""
    known = read_given_up(run.folder)
    while run.fingerprint in known and run.fallback is not None:
        run = run.fallback
    if run.fingerprint in known:  # the last: what it came to counts, if it came to anything
        run = replace(run, why=f"failed ({known[run.fingerprint]})", is_over=True)
    return _with_result(run)


def train_all(
    runs: Sequence[Run],
    data_folder: Path,
    settings: PaperSettings,
    event: TrainingCallback,
    deadline: float | None = None,
) -> list[Run]:
    """Train what has no result yet, one process at a time; a run that fails says why and the others go on.

    event: called at every beginning ({"started": ...}), with what the training reports, and at every end. deadline: of
    the monotonic clock; no training begins after it, and what is left is still to come.
    """
    done = []
    for number, run in enumerate(runs, 1):
        place = {"number": number, "of": len(runs)}
        if run.result is not None or run.is_over:
            event(run.name, {"kept": True, **place})
        elif deadline is not None and time.monotonic() >= deadline:
            event(run.name, {"waits": True, **place})
        else:
            event(run.name, {"started": True, **place})
            run = _train(run, data_folder, settings, event)
            while run.to_come:  # it came to nothing: this is its fallback
                run = _train(run, data_folder, settings, event)
            event(run.name, {"ended": run.why, "seconds": (run.result or {}).get("training_seconds"), **place})
        done.append(run)
    return done


_DEFAULTS = config.to_plain(Recipe("", "", (0.0, 0.0, 1.0, 1.0)))


def _differing(plain: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """What of nested plain values differs from the defaults."""
    found: dict[str, Any] = {}
    for name, value in plain.items():
        default = defaults.get(name)
        if isinstance(value, Mapping) and isinstance(default, Mapping):
            value, default = _differing(value, default), {}
        if value != default:
            found[name] = value
    return found


def _with_result(run: Run) -> Run:
    path = run.folder / RESULT
    if not path.is_file():
        return run
    result = json.loads(path.read_text(encoding="utf-8"))
    return replace(run, result=result, why="") if result["fingerprint"] == run.fingerprint else run


def _train(run: Run, data_folder: Path, settings: PaperSettings, event: TrainingCallback) -> Run:
    run.folder.mkdir(parents=True, exist_ok=True)
    job_file = run.folder / JOB
    known = json.loads(job_file.read_text(encoding="utf-8")) if job_file.is_file() else {}
    if known.get("fingerprint") != run.fingerprint:
        shutil.rmtree(run.folder / CHECKPOINTS, ignore_errors=True)  # of another recipe
        for name in (RESULT, RESAMPLED):
            (run.folder / name).unlink(missing_ok=True)
    job = {
        "fingerprint": run.fingerprint,
        "data": str(data_folder.absolute()),
        "resamples": settings.resamples,
        "timing_frames": settings.timing_frames,
        "tasks": list(run.training.tasks),
        "scored": run.training.scored,
        "recipe": config.to_plain(recipe_of(run.training, run.seed)),
    }
    write_json_atomically(job_file, job)
    # Errors go to a file, not to a pipe that nobody would read until it is full.
    log = run.folder / LOG
    command = module_command("rtseg.paper.run_one", str(run.folder))
    with log.open("w", encoding="utf-8") as errors:
        child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=module_environment(),
        )
        try:
            assert child.stdout is not None
            for line in child.stdout:
                event(run.name, json.loads(line))
            code = child.wait()
        finally:  # Ctrl-C must not leave a training behind
            child.kill()
            child.communicate()
    if run.fingerprint in read_given_up(run.folder):
        return _settled(run)
    after = _with_result(run)
    if code == 0 and after.result is not None:
        return after
    lines = log.read_text(encoding="utf-8").strip().splitlines()
    return replace(run, why=f"failed ({lines[-1] if lines else f'exit code {code}'}); see {log}")
