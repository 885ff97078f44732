"""From an empty folder with one lab's files to an own model that serves: how long it takes, and how good the model is.

README's way on real recordings, one video each: `init` at a terminal where return is pressed, `check`, `train`,
`evaluate`, `calibrate`, `serve`, and a replay of the video to that daemon, all real commands in processes of their own.
Then the same training with other seeds, and with other blocks of the video held out, so that no score is one lucky
split's. Chance is what the same answers score against labels that are shifted in time: it keeps both as they are, and
takes away what they have to do with each other.

    python benchmarks/own_recording.py --data ../shared/data --work FOLDER --json benchmarks/results/own-recording.json
"""

from __future__ import annotations

import argparse
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import rtseg
from rtseg.evaluation.bootstrap import bootstrap
from rtseg.evaluation.evaluate import predict_split, without_nan
from rtseg.evaluation.metrics import Video, answered, macro_f1, mean_average_precision
from rtseg.project.proposal import propose_project
from rtseg.project.questions import ProposalTaker, Wishes
from rtseg.project.split import MARGIN_S, Split
from rtseg.project.write import write_project
from rtseg.recordings.dataset import load_dataset
from rtseg.recordings.heads import Head
from rtseg.recordings.pairs import Part
from rtseg.study.results import interval, number, table
from rtseg.system import machine
from rtseg.system.files import write_atomically, write_json_atomically

POSES = {"mice7": "*DLC*.csv", "freezing": "*_tracking.csv", "zebrafish2": "*_tracked.csv"}
"""The recordings' folders, and the pose file in each."""
BLOCKS, OFFSETS = 9, 3
SHIFTS = 400
"""Of the labels, for chance."""
LIMIT_S = 600.0
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
"""A terminal's colours and movements of the cursor."""
NOTES = (
    "One video each, so the scores say nothing about another animal, camera or day: they are of blocks of the same "
    "video that training did not see.",
    "How many batches `rtseg init` proposes (`rtseg.project.network`) was chosen on these three recordings, by scores "
    "of blocks that were held out: expect somewhat less on others.",
    "freezing: boosted trees, whose settings were chosen on the first half of the video (travel.md).",
    "Chance: the mean and the 97.5th percentile of what the same answers score against the labels shifted in time.",
    "Intervals: 95 %, bootstrap over held-out blocks; of two or three of them they say little.",
)


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with the folders " + ", ".join(POSES))
    parser.add_argument("--work", type=Path, required=True, help="an empty folder for projects and models")
    parser.add_argument("--only", choices=tuple(POSES), action="append")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path, required=True, help="the result; its table goes beside it")
    options = parser.parse_args()
    result = machine.describe_run(("numpy", "numba", "torch", "scikit-learn"))
    words = f"--data FOLDER --work FOLDER --seeds {options.seeds} --json FILE"
    result |= {"kind": "own recording", "command": f"python benchmarks/own_recording.py {words}", "notes": NOTES}
    result["recordings"] = {}
    for name in options.only or POSES:
        folder = options.work / name
        folder.mkdir(parents=True)  # a second run in the same folder would measure something else
        for file in (options.data / name).glob("*.csv"):
            shutil.copy(file, folder)
        load_before = os.getloadavg()[0]
        found = walk(folder)
        found["load_average"] = [load_before, os.getloadavg()[0]]
        found["splits"] |= other_seeds(folder, options.seeds) | other_blocks(folder)
        found["all_blocks"] = pooled([one.pop("videos") for key, one in found["splits"].items() if "blocks" in key])
        for one in found["splits"].values():
            one.pop("videos", None)
        result["recordings"][name] = found
    result = without_nan(result)
    write_json_atomically(options.json, result)
    write_atomically(options.json.with_suffix(".md"), page(result))


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def rtseg_command(*words: object) -> list[str]:
    return [sys.executable, "-m", "rtseg", *map(str, words)]


def run(folder: Path, *words: object) -> str:
    """A command as a child process in `folder`; what it printed. Raises SystemExit with its words where it fails."""
    done = subprocess.run(rtseg_command(*words), cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"rtseg {' '.join(map(str, words))}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def walk(folder: Path) -> dict[str, Any]:
    """README's way in a folder that holds one video's files: seconds of each command, and the scores of its split."""
    name, seconds = folder.name, dict[str, float]()

    def timed(command: str, act: Callable[[], Any]) -> Any:
        start = time.monotonic()
        found = act()
        seconds[command] = time.monotonic() - start
        say(f"{name}: {command} {seconds[command]:.1f} s")
        return found

    questions = timed("init", lambda: press_return(folder))
    timed("check", lambda: run(folder, "check", f"{name}.toml"))
    timed("train", lambda: run(folder, "train", f"{name}.toml", "--out", f"{name}-model"))
    dataset = f"{name}.dataset.toml"
    timed("evaluate", lambda: run(folder, "evaluate", f"{name}-model", dataset, "--json", "scores.json"))
    scores = scores_of(folder / f"{name}-model", folder / dataset)
    timed("calibrate", lambda: run(folder, "calibrate", f"{name}-model", dataset))
    served = timed("serve", lambda: serve_and_replay(folder))
    told = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    for head, one in scores["heads"].items():  # the command's scores are those that chance is compared with
        assert abs(told["heads"][head]["macro_f1"] - one["f1"]["value"]) < 1e-5
        one["decoded_f1"] = told["decoded"][head]["macro_f1"]
    total = sum(seconds.values())
    assert total < LIMIT_S, f"{name}: {total:.0f} s"
    about = {"videos": 1, "questions": questions, "seconds": seconds, "total_s": total, "served": served}
    return about | {"splits": {"proposed": scores}}


def press_return(folder: Path) -> list[str]:
    """`rtseg init` at a pseudo-terminal where return is pressed at every question; the questions."""
    ours, theirs = pty.openpty()
    child = subprocess.Popen(rtseg_command("init"), cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    text, questions = "", list[str]()
    while True:
        if not select.select([ours], [], [], LIMIT_S)[0]:
            child.kill()
            raise SystemExit(f"rtseg init says nothing: {text}")
        try:
            part = os.read(ours, 4096)
        except OSError:  # how Linux says that the other side is closed
            break
        if not part:
            break
        text = _ESCAPES.sub("", text + part.decode(errors="replace"))
        if text.endswith("): "):  # a question ends with what return would take
            questions.append(" ".join(text.splitlines()[-1].split()))
            os.write(ours, b"\n")
            text += "\n"
    os.close(ours)
    if child.wait():
        raise SystemExit(f"rtseg init: exit {child.returncode}\n{text}")
    return questions


def serve_and_replay(folder: Path) -> dict[str, Any]:
    """Start the daemon, play the video to it as fast as it answers, and stop it; frames sent and answered."""
    name = folder.name
    file = next(folder.glob(POSES[name]))
    addresses = [f"--set={key}=tcp://127.0.0.1:*" for key in ("frames", "predictions")]
    start = time.monotonic()
    with subprocess.Popen(
        rtseg_command("serve", f"{name}-model", *addresses), cwd=folder, stdout=subprocess.PIPE, text=True
    ) as daemon:
        try:
            assert daemon.stdout is not None
            line = daemon.stdout.readline()
            ready_s = time.monotonic() - start
            about = json.loads(line.removeprefix("ready "))
            words = ("--speed", "max", "--quiet", "--out", "answers.csv")
            run(folder, "replay", file, "--to", about["frames"], *words)
        finally:
            daemon.send_signal(signal.SIGTERM)
            daemon.communicate()  # it says a last word
    if daemon.returncode:
        raise SystemExit(f"rtseg serve: exit {daemon.returncode}")
    with (folder / "answers.csv").open(encoding="utf-8") as rows:
        n_answers = sum(1 for _ in rows) - 1
    n_frames = sum(1 for _ in file.open(encoding="utf-8"))
    return {"ready_s": ready_s, "rows_of_the_pose_file": n_frames, "answers": n_answers}


def scores_of(bundle: Path, dataset: Path) -> dict[str, Any]:
    """Scores of what is held out, with intervals over its blocks, beside chance; `videos`: what they are about."""
    answers = predict_split(rtseg.load(bundle, "numba"), load_dataset(dataset), "validation")
    heads = {head.name: beside_chance(head, answers.videos[head.name]) for head in answers.heads}
    return {"heads": heads, "videos": {head.name: (head, answers.videos[head.name]) for head in answers.heads}}


def beside_chance(head: Head, videos: Sequence[Video]) -> dict[str, Any]:
    """F1 and mAP with intervals, and the same of labels shifted in time against the answers."""
    scores: dict[str, Any] = bootstrap(videos, head)
    probs, labels = (np.concatenate(parts) for parts in zip(*videos, strict=True))
    rng = np.random.default_rng(0)
    least = len(labels) // 10  # a smaller shift would leave bouts where they are
    shifts = rng.integers(least, len(labels) - least, SHIFTS).tolist()
    shifted = [[(probs, np.roll(labels, shift))] for shift in shifts]
    for key, score in (("f1", macro_f1), ("map", mean_average_precision)):
        by_chance = np.array([score(head, one) for one in shifted])
        scores[key]["chance"] = float(by_chance.mean())
        scores[key]["chance_97_5"] = float(np.quantile(by_chance, 0.975))
        # The share of shifts that are as good: what a test by permutation calls p.
        scores[key]["p"] = float((1 + (by_chance >= scores[key]["value"]).sum()) / (1 + SHIFTS))
    scores["frames"] = sum(len(y) for _, y in answered(videos))
    scores["blocks"] = len(answered(videos))
    return scores


def other_seeds(folder: Path, n_seeds: int) -> dict[str, Any]:
    """The proposed split, trained with other seeds."""
    name, found = folder.name, dict[str, Any]()
    for seed in range(1, n_seeds):
        say(f"{name}: seed {seed}")
        out = f"seed-{seed}"
        run(folder, "train", f"{name}.toml", "--out", out, "--set", f"train.seed={seed}")
        found[f"proposed, seed {seed}"] = scores_of(folder / out, folder / f"{name}.dataset.toml")
    return found


def other_blocks(folder: Path) -> dict[str, Any]:
    """The proposed recipe with every third of BLOCKS blocks held out, from each offset: all of the video in turn."""
    project = propose_project([folder], Wishes(name=folder.name), ProposalTaker(), lambda done, total: None)
    start = min(part.from_frame for part in project.split.parts)
    stop = max(part.to_frame or 0 for part in project.split.parts)
    video, found = project.split.parts[0].recording, dict[str, Any]()
    for offset in range(OFFSETS):
        say(f"{folder.name}: blocks from {offset}")
        name = f"blocks-{offset}"
        split = blocks_split(video, start, stop, offset, round(MARGIN_S * project.fps))
        write_project(replace(project, name=name, split=split), folder)
        run(folder, "train", f"{name}.toml", "--out", f"{name}-model")
        found[f"blocks {offset + 1}, {offset + 1 + OFFSETS}, ..."] = scores_of(
            folder / f"{name}-model", folder / f"{name}.dataset.toml"
        )
    return found


def blocks_split(video: str, start: int, stop: int, offset: int, margin: int) -> Split:
    """Every OFFSETS-th block of as many frames is held out, with a margin on each side; those between are joined."""
    cuts = np.linspace(start, stop, BLOCKS + 1).round().astype(int).tolist()
    held_out = range(offset, BLOCKS, OFFSETS)
    train, validation = list[Part](), list[Part]()
    begin = start
    for block in held_out:
        low, high = cuts[block], cuts[block + 1]
        if low - margin > begin:
            train.append(Part(f"{video}-train-{block}", video, begin, low - margin))
        validation.append(Part(f"{video}-held-out-{block}", video, low, high))
        begin = high + margin
    if stop > begin:
        train.append(Part(f"{video}-train-end", video, begin, stop))
    return Split(tuple(p.id for p in train), tuple(p.id for p in validation), tuple(train + validation))


def pooled(folds: Sequence[dict[str, tuple[Head, list[Video]]]]) -> dict[str, Any]:
    """The scores of all blocks, each answered by the model that did not see it."""
    heads = {name: head for name, (head, _) in folds[0].items()}
    return {name: beside_chance(head, [v for fold in folds for v in fold[name][1]]) for name, head in heads.items()}


def page(result: dict[str, Any]) -> str:
    """The result's tables in Markdown."""
    where, recordings = result["machine"], result["recordings"]
    seconds = list(next(iter(recordings.values()))["seconds"])
    parts = [
        "# From an empty folder to an own model that serves",
        f"```\n{result['command']}\n```",
        f"{result['date']}, commit {result['commit'] or '-'}, {where['cpu']}, {where['cores_usable']} cores, beside "
        "other work (load averages before and after stand in the JSON file).",
        *result["notes"],
        "## Seconds of each command",
        "`init` is asked at a pseudo-terminal where return is pressed; `serve` is the daemon's start, a replay of the "
        "whole video as fast as it answers, and its end.",
    ]
    rows = []
    for name, found in recordings.items():
        served = f"{found['served']['answers']}"
        row = [f"{found['seconds'][key]:.1f}" for key in seconds]
        rows.append([name, str(found["videos"]), *row, f"{found['total_s'] / 60:.1f}", served])
    parts.append(table(["recording", "videos", *seconds, "minutes in all", "frames answered"], rows))
    for name, found in recordings.items():
        rows = []
        for split, scores in {**found["splits"], "all blocks, each held out": {"heads": found["all_blocks"]}}.items():
            for head, one in scores["heads"].items():
                cells = [cell for key in ("f1", "map") for cell in (interval(one[key]), chance_cell(one[key]))]
                decoded = number(one.get("decoded_f1"))
                rows.append([split, head, str(one["blocks"]), *cells, f"{one['f1']['p']:.3f}", decoded])
        columns = ["held out", "head", "blocks", "macro-F1", "chance", "mAP", "chance", "p (F1)", "decoded F1"]
        parts += [f"## {name}", table(columns, rows)]
    return "\n\n".join(parts) + "\n"


def chance_cell(score: dict[str, float]) -> str:
    return f"{number(score['chance'])} (97.5 %: {number(score['chance_97_5'])})"


if __name__ == "__main__":
    main()
