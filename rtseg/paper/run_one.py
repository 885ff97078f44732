"""One training in a process of its own, whose time and memory are measured: python -m rtseg.paper.run_one FOLDER.

FOLDER/job.json says what to train; FOLDER/result.json is there when it is done, and beside it the scores of every
resample of the test recordings. FOLDER/given-up.json says which jobs of this folder diverged or learnt nothing.
It ends when its parent does.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg import config
from rtseg.config import Recipe
from rtseg.errors import DivergenceError, RtsegError
from rtseg.evaluation.bootstrap import resampled_scores
from rtseg.evaluation.evaluate import without_nan
from rtseg.evaluation.metrics import Video, group_scores, score_head
from rtseg.paper.data import PaperData, beginning, load_data
from rtseg.recordings.heads import Head, output_offsets
from rtseg.recordings.recording import IGNORE
from rtseg.system import machine
from rtseg.system.files import replace_atomically, write_json_atomically
from rtseg.training.task import Example, TrainingTask

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

JOB, RESULT, RESAMPLED, CHECKPOINTS = "job.json", "result.json", "resampled.npz", "checkpoints"
GIVEN_UP = "given-up.json"

ONE_CORE_RUNS = 5


def main(folder: Path) -> None:
    """Do the job of a folder; events go to stdout, a JSON line each."""
    from rtseg.training.fit import fit

    started = time.monotonic()
    job = json.loads((folder / JOB).read_text(encoding="utf-8"))
    recipe = config.from_plain(job["recipe"], Recipe, where=str(folder / JOB))
    data = load_data(Path(job["data"]))
    heads = data.heads_of(job["tasks"])
    training, validation = (labelled(examples, data.heads, heads) for examples in (data.training, data.validation))
    task = TrainingTask(recipe, data.skeleton, data.fps, heads, training, validation)
    try:
        fitted = fit(task, folder / CHECKPOINTS, _print_event)
    except DivergenceError as error:
        _give_up(folder, job, str(error))
        raise
    if not _has_learnt(fitted.history, task):
        _give_up(folder, job, "never better than the best constant answer to the validation recordings")
    last = fitted.history[-1]["epoch"] if not recipe.model.is_trees else 0
    result = {
        "fingerprint": job["fingerprint"],
        "cpu": machine.cpu_name(),
        "training_seconds": fitted.seconds,
        "training_cpu_seconds": fitted.cpu_seconds,
        "training_memory_mb": fitted.peak_memory_mb,
        "process_memory_mb": process_memory_mb(),
        "parameters": fitted.parameters,
        "multiply_adds": fitted.multiply_adds,
        "epoch": fitted.epoch,
        "validation_score": fitted.score,
        "batches": _batches_until(fitted.history, fitted.epoch),
        "batches_trained": _batches_until(fitted.history, last),
        # Not the plateau ended it but the cap; a schedule that is meant to end there is another matter.
        "capped": recipe.train.schedule == "constant" and last >= recipe.train.epochs,
        "history": fitted.history,
    }
    if job["scored"]:
        result |= _score_test(folder, job, recipe, fitted.predict, data, heads)
    result["wall_seconds"] = max(time.monotonic() - started, fitted.seconds)
    # Last: a folder with this file is done.
    write_json_atomically(folder / RESULT, without_nan(result))


def read_given_up(folder: Path) -> dict[str, str]:
    """Fingerprints of the folder's jobs that diverged or learnt nothing, with why."""
    path = folder / GIVEN_UP
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _give_up(folder: Path, job: Mapping[str, Any], why: str) -> None:
    # By the job's fingerprint: what is trained in its place is another job.
    write_json_atomically(folder / GIVEN_UP, {**read_given_up(folder), job["fingerprint"]: why})


def _has_learnt(history: Sequence[dict[str, Any]], task: TrainingTask) -> bool:
    """Whether any evaluation was above the best constant answer, where a training's end is told by that."""
    from rtseg.training.selection import constant_f1, is_above

    if task.recipe.train.patience_from != "constant" or task.recipe.model.is_trees:
        return True
    constant = constant_f1(task.heads, task.validation)
    return any(is_above(entry["groups"], constant, task.recipe.train) for entry in history)


def _score_test(
    folder: Path,
    job: dict[str, Any],
    recipe: Recipe,
    predict: Callable[[Example], F32],
    data: PaperData,
    heads: Sequence[Head],
) -> dict[str, Any]:
    """The scores of the test recordings; those of every resample go into a file beside the result."""
    test = labelled(data.test, data.heads, heads)
    _print_event({"scoring": len(test)})
    probs = [predict(example) for example in test]
    result = _scores(data, heads, test, probs)
    if recipe.model.is_trees:  # trees are not timed in `timing`, which makes untrained networks
        result["offline_us"] = _one_core_us(predict, test, job["timing_frames"])
    resampled = _resampled(heads, test, probs, job["resamples"])
    arrays: dict[str, Any] = {name: values.astype(np.float32) for name, values in resampled.items()}
    with replace_atomically(folder / RESAMPLED) as part, part.open("wb") as file:
        # Small enough to be committed: results are gathered over days, and intervals are made of all of them.
        np.savez_compressed(file, **arrays)
    return result


def _batches_until(history: Sequence[dict[str, Any]], epoch: int) -> int | None:
    """Batches that were trained until an epoch's evaluation; None where the history does not say (trees, ensembles)."""
    if "batches" not in history[-1]:
        return None
    batches: int = next(entry["batches"] for entry in history if entry["epoch"] == epoch)
    return batches


def labelled(examples: Sequence[Example], known: Sequence[Head], heads: Sequence[Head]) -> list[Example]:
    """The recordings that label one of these heads, with their columns alone. known: the heads of all columns."""
    columns = [known.index(head) for head in heads]
    narrow = [replace(e, labels=np.ascontiguousarray(e.labels[:, columns])) for e in examples]
    return [e for e in narrow if (e.labels != IGNORE).any()]


def videos_of(head: int, heads: Sequence[Head], examples: Sequence[Example], probs: Sequence[F32]) -> list[Video]:
    """The head's probabilities and labels of every recording that it is labelled in."""
    columns = slice(*output_offsets(heads)[head : head + 2])
    pairs = [(p[:, columns], e.labels[:, head]) for p, e in zip(probs, examples, strict=True)]
    return [(p, y) for p, y in pairs if (y != IGNORE).any()]


def process_memory_mb() -> float:
    """The largest memory of this process so far, MB; NaN where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return float("nan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def _scores(data: PaperData, heads: Sequence[Head], test: Sequence[Example], probs: Sequence[F32]) -> dict[str, Any]:
    scores = {h.name: score_head(h, videos_of(i, heads, test, probs), data.fps) for i, h in enumerate(heads)}
    per_video: dict[str, dict[str, float]] = {}
    for i, head in enumerate(heads):
        for example, p in zip(test, probs, strict=True):
            if (example.labels[:, i] != IGNORE).any():
                one = score_head(head, videos_of(i, heads, [example], [p]), data.fps)
                per_video.setdefault(example.name, {})[head.name] = one.macro_f1
    return {
        "groups": group_scores(heads, scores),
        "heads": {name: asdict(score) for name, score in scores.items()},
        "macro_f1_of_videos": per_video,
    }


def _resampled(heads: Sequence[Head], test: Sequence[Example], probs: Sequence[F32], n: int) -> dict[str, F64]:
    """GROUP.f1 and GROUP.map, (n,): the mean over the group's heads in each resample of the test recordings.

    The draws depend on the number of recordings and the head's place alone: those of two systems are pairs. NaN where a
    head has a single recording: drawing from that alone would give an interval of no width.
    """
    members: dict[str, list[tuple[F64, F64]]] = {}
    for i, head in enumerate(heads):
        place = len(members.get(head.group, ()))
        videos = videos_of(i, heads, test, probs)
        unknown = np.full(n, np.nan)
        scores = resampled_scores(videos, head, n, place) if len(videos) > 1 else (unknown, unknown)
        members.setdefault(head.group, []).append(scores)
    arrays = {}
    for group, scored in members.items():
        for which, name in enumerate(("f1", "map")):
            table = np.stack([scores[which] for scores in scored])
            alone = bool(np.isnan(table).all(axis=1).any())
            arrays[f"{group}.{name}"] = np.full(n, np.nan) if alone else _mean(table)
    return arrays


def _one_core_us(predict: Callable[[Example], F32], test: Sequence[Example], n_frames: int) -> float:
    """µs per frame on one core, median of some runs over the longest recording; NaN where no core can be chosen."""
    if not hasattr(os, "sched_setaffinity"):
        return float("nan")
    example = beginning(test, n_frames)
    # One core for trees as well, as networks have one thread when they are timed.
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        seconds = []
        for _ in range(ONE_CORE_RUNS):
            started = time.perf_counter()
            predict(example)
            seconds.append(time.perf_counter() - started)
    finally:
        os.sched_setaffinity(0, cores)
    return float(np.median(seconds)) / len(example) * 1e6


def _mean(table: F64) -> F64:
    """Over rows, of those that have a score; NaN where none has."""
    known = ~np.isnan(table)
    total = np.where(known, table, 0.0).sum(axis=0)
    means: F64 = np.divide(total, known.sum(axis=0), out=np.full(total.shape, np.nan), where=known.any(axis=0))
    return means


def _print_event(event: dict[str, Any]) -> None:
    print(json.dumps(without_nan(event)), flush=True)


def _end_with_parent() -> None:
    """End this process when its parent ends, however that happens: the parent holds the other end of stdin."""

    def wait() -> None:
        os.read(sys.stdin.fileno(), 1)  # not sys.stdin.read: its lock would be held when this process ends
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    _end_with_parent()
    try:
        main(Path(sys.argv[1]))
    except RtsegError as error:
        sys.exit(f"rtseg: {error}")
