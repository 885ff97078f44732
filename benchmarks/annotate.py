"""How fast recordings are annotated, from reading files to writing answers, in this process and by the command.

`python benchmarks/annotate.py POSES... [--bundle engines/rats58] [--rounds 3] [--json FILE]`. Every round annotates all
files in this process, on one thread, and once through `rtseg annotate` as a process of its own, start included.
Processor time (all threads) is given as well as elapsed time: on a busy machine only the former says what work costs.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before any library counts the cores

from result_file import print_result

from rtseg.inference.classifier import Classifier, load
from rtseg.inference.predictions import write_bouts, write_predictions
from rtseg.recordings.open import read_recordings
from rtseg.system import machine

STAGES = ("read", "answer", "write")


def annotate_once(classifier: Classifier, paths: Sequence[Path], out: Path, spent: dict[str, list[float]]) -> int:
    """Annotate all files as `rtseg annotate` does; the number of frames.

    spent: stage -> elapsed and processor seconds, which are added to.
    """
    frames = 0

    def stage(name: str, work: Callable[[], Any]) -> Any:
        started, used = time.perf_counter(), time.process_time()
        done = work()
        spent[name][0] += time.perf_counter() - started
        spent[name][1] += time.process_time() - used
        return done

    for path in paths:
        for recording in stage("read", lambda path=path: list(read_recordings(path))):
            predictions = stage("answer", lambda recording=recording: classifier.run(recording))
            frames += len(predictions)

            def write(recording: Any = recording, predictions: Any = predictions) -> None:
                stem = recording.name.replace("/", "_")
                write_predictions(predictions, out / f"{stem}.predictions.csv", recording.fps)
                write_bouts(predictions, out / f"{stem}.bouts.csv", recording.fps)

            stage("write", write)
    return frames


def run_command(bundle: Path, paths: Sequence[Path], out: Path) -> dict[str, float]:
    """Elapsed and processor seconds of the command, start and imports included."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-m", "rtseg", "annotate", str(bundle), *map(str, paths), "--out", str(out)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    took, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"s": took, "cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}


def run(bundle: Path, paths: Sequence[Path], rounds: int) -> dict[str, Any]:
    """Frames per second and per processor second; for each stage microseconds of processor time per frame."""
    classifier = load(bundle, engine="numba", capacity=1)
    taken, commands, frames = [], [], 0
    for number in range(rounds + 1):  # the first round warms up
        spent = {name: [0.0, 0.0] for name in STAGES}
        with tempfile.TemporaryDirectory() as folder:
            frames = annotate_once(classifier, paths, Path(folder), spent)
            command = run_command(bundle, paths, Path(folder) / "command")
        if number:
            taken.append(spent)
            commands.append(command)
    best = min(taken, key=lambda spent: sum(used for _, used in spent.values()))
    whole = [sum(spent[stage][i] for stage in STAGES) for i in (0, 1) for spent in [best]]
    return {
        "frames": frames,
        "files": len(paths),
        "rounds": rounds,
        "frames_per_s": round(frames / whole[0]),
        "frames_per_cpu_s": round(frames / whole[1]),
        "cpu_us_a_frame": {name: round(1e6 * best[name][1] / frames, 2) for name in STAGES},
        "answered_per_cpu_s": round(frames / best["answer"][1]),
        "command": {
            "frames_per_s": round(frames / min(command["s"] for command in commands)),
            "frames_per_cpu_s": round(frames / min(command["cpu_s"] for command in commands)),
        },
    }


def main() -> None:
    """Parse the options, run, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("poses", type=Path, nargs="+")
    parser.add_argument("--bundle", type=Path, default=Path("engines/rats58"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    head = {**machine.describe_run(("numba", "numpy", "pandas")), "bundle": str(chosen.bundle)}
    result = {**head, **run(chosen.bundle, chosen.poses, chosen.rounds)}
    result["machine"]["load_average_after"] = machine.load_average()
    print_result(result, chosen.json)


if __name__ == "__main__":
    main()
