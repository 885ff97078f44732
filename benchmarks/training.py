"""What a step of training costs, and what it cost in an older checkout.

`python benchmarks/training.py RECIPE --root DATA [--beside OLDER] [--json FILE]`
`--beside OLDER` names the root of another checkout with its own `.venv`. Each checkout is a process of one thread that
holds the same recordings and draws the same crops. They take turns, one step or one evaluated video each, so both see
the same machine and the same other load; processor time is what is compared, as other work on the machine disturbs it
least. `--json FILE` writes every number; the medians are of all turns.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

RECORDINGS, VIDEOS = 8, 2
"""Recordings to train on, which the time of a step does not depend on, and videos that are evaluated."""
PACKAGES = ("rtseg", "numpy", "numba", "torch")
PARTS = {
    "draw": "draw a batch (features and labels of crops)",
    "step": "train on a batch: forwards, backwards, optimizer, averaged weights",
    "predict": f"answer {VIDEOS} videos, every frame",
    "score": f"score {VIDEOS} videos",
}


class Worker:
    """A checkout's process, which measures one part after the other when told."""

    def __init__(self, checkout: Path, arguments: list[str]) -> None:
        command = [str(checkout / ".venv/bin/python"), __file__, *arguments, "--worker"]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            command, cwd=checkout, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.about = self._answer()

    def measure(self, part: str) -> dict[str, float]:
        """Milliseconds of the processor and of the clock."""
        assert self._process.stdin is not None
        print(part, file=self._process.stdin, flush=True)
        return self._answer()

    def stop(self) -> None:
        """End the process."""
        self._process.communicate()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"a worker ended with {self._process.wait()}; its message stands above")
        answer: dict[str, Any] = json.loads(line)
        return answer


def serve_measurements(recipe_file: Path, root: Path | None, overrides: list[str]) -> None:
    """A worker: for each line of its input one part is run and timed."""
    from rtseg.study.trials import read_recipe
    from rtseg.system.machine import describe_run
    from rtseg.training import loop
    from rtseg.training.selection import predict_probabilities, score_groups
    from rtseg.training.task import TrainingTask, read_training

    recipe, dataset = read_recipe(recipe_file, root, overrides)
    training, validation = read_training(dataset)
    task = TrainingTask(
        recipe, dataset.skeleton, dataset.fps, dataset.heads, training[:RECORDINGS], validation[:VIDEOS]
    ).in_pieces()
    loop.make_torch_deterministic(recipe.train)
    run = loop._TrainingRun(task)
    run.initialize_weights()
    rng = np.random.default_rng(recipe.train.seed)
    drawn = [run.sampler._draw(rng)]
    predictions = []

    def draw() -> None:
        drawn[0] = run.sampler._draw(rng)

    def step() -> None:
        run.model.train()
        run.model.frame_stride = recipe.train.frame_stride
        run._train_batch(drawn[0], recipe.train)

    def predict() -> None:
        run.model.frame_stride = 1
        lookahead = recipe.model.lookahead_frames
        predictions[:] = [predict_probabilities(run.model, f, lookahead) for f in run.validation_features]

    def score() -> None:
        score_groups(task.heads, task.validation, predictions, task.fps)

    parts: dict[str, Callable[[], None]] = {"draw": draw, "step": step, "predict": predict, "score": score}
    print(json.dumps({**describe_run(PACKAGES), "batches_per_epoch_here": run.sampler.batches_per_epoch}), flush=True)
    for line in sys.stdin:
        processor_ns, clock_ns = time.process_time_ns(), time.perf_counter_ns()
        parts[line.strip()]()
        processor_ns, clock_ns = time.process_time_ns() - processor_ns, time.perf_counter_ns() - clock_ns
        print(json.dumps({"processor_ms": processor_ns / 1e6, "clock_ms": clock_ns / 1e6}), flush=True)


def measure(workers: dict[str, Worker], turns: int) -> dict[str, dict[str, list[dict[str, float]]]]:
    """Checkout -> part -> every turn but the first three, in which code is compiled and memory is first used."""
    found: dict[str, dict[str, list[dict[str, float]]]] = {name: {part: [] for part in PARTS} for name in workers}
    for turn in range(turns + 3):
        for part in PARTS:
            # Videos take long, and their time is as steady as a step's: every fourth turn.
            if part in ("predict", "score") and turn % 4:
                continue
            for name, worker in workers.items():
                taken = worker.measure(part)
                if turn >= 3:
                    found[name][part].append(taken)
    return found


def summarize(found: dict[str, dict[str, list[dict[str, float]]]]) -> dict[str, Any]:
    """Medians of each checkout, and by what the older one's are divided."""
    rows: dict[str, Any] = {}
    for part, meaning in PARTS.items():
        rows[part] = {"what": meaning}
        for name, parts in found.items():
            for clock in ("processor_ms", "clock_ms"):
                values = [turn[clock] for turn in parts[part]]
                rows[part].setdefault(name, {})[clock] = round(float(np.median(values)), 2)
            rows[part][name]["turns"] = len(parts[part])
        if len(found) == 2:
            newer, older = (rows[part][name]["processor_ms"] for name in found)
            rows[part]["times_faster"] = round(older / newer, 2)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE")
    parser.add_argument("--beside", type=Path, help="root of an older checkout")
    parser.add_argument("--turns", type=int, default=60)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        serve_measurements(given.recipe, given.root, given.overrides)
        return
    # Every worker reads the same recipe and recordings, wherever its own checkout lies.
    arguments = [str(given.recipe.resolve()), *(["--root", str(given.root.resolve())] if given.root else [])]
    for override in given.overrides:
        arguments += ["--set", override]
    here = Path(__file__).resolve().parent.parent
    workers = {"here": Worker(here, arguments)}
    if given.beside is not None:
        workers["older"] = Worker(given.beside.resolve(), arguments)
    rows = summarize(measure(workers, given.turns))
    for worker in workers.values():
        worker.stop()
    for part, row in rows.items():
        print(f"{part:8} {json.dumps({k: v for k, v in row.items() if k != 'what'})}")
    if given.json is not None:
        from rtseg.system.files import write_json_atomically

        command = "python benchmarks/training.py " + " ".join(
            ["RECIPE", *(f"--set '{override}'" for override in given.overrides)]
        )
        result = {"command": command, "recipe": given.recipe.name, "overrides": given.overrides, "parts": rows}
        write_json_atomically(given.json, result | {"checkouts": {n: w.about for n, w in workers.items()}})


if __name__ == "__main__":
    main()
