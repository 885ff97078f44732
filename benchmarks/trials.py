"""Every trial of a better model in one log.

`python benchmarks/trials.py TRIALS.toml --root DATA --runs FOLDER [--out FOLDER] [--only NAME ...]`

TRIALS.toml names a recipe, what all trials change of it (`base`), `remarks` for the page, each `[[trial]]` (name, set,
note) and averages of trials (`[[ensemble]]`: name, of, note), which cost nothing, as the answers are kept. A trial
is trained on the training split; its checkpoint is chosen, and it is scored, on the validation split: the best of many
trials looks better than it is, and what is ahead here has to be cross-validated before it is believed. The files
OUT/trials-DATASET.json and .md are written anew after every trial; a killed run continues.
"""

from __future__ import annotations

import argparse
import tomllib
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.recordings.dataset import Dataset
from rtseg.study import compare, results
from rtseg.study.trials import ProbabilitiesByName, Trial, read_recipe, run_trial
from rtseg.system.files import write_atomically, write_json_atomically
from rtseg.training.task import Example, TrainingTask, read_training

RESAMPLES = 500


@dataclass(frozen=True)
class Row:
    """A trial or an ensemble as the log shows it."""

    name: str
    changes: tuple[str, ...]
    note: str
    probabilities: ProbabilitiesByName
    multiply_adds: int
    seconds: float


def averaged(members: list[ProbabilitiesByName], offsets: tuple[int, ...]) -> ProbabilitiesByName:
    """The mean of the members' logits, head by head, as one network of all their cells would give it."""
    found = {}
    for name in members[0]:
        # A logarithm of probabilities is the logits but for one number a frame, which the normalisation takes away.
        logits = np.mean([np.log(np.maximum(member[name], 1e-12)) for member in members], axis=0)
        parts = [_softmax(logits[:, lo:hi]) for lo, hi in pairwise(offsets)]
        found[name] = np.concatenate(parts, axis=1).astype(np.float32)
    return found


def _softmax(logits: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    total: NDArray[np.floating[Any]] = powers / powers.sum(axis=1, keepdims=True)
    return total


def rows_of(plan: dict[str, Any], done: dict[str, Trial], offsets: tuple[int, ...]) -> list[Row]:
    """What is known so far, in the order of the plan."""
    rows = []
    for trial in plan["trial"]:
        if trial["name"] in done:
            found = done[trial["name"]]
            facts = found.facts
            rows.append(
                Row(
                    trial["name"],
                    tuple(trial.get("set", ())),
                    trial.get("note", ""),
                    found.probabilities,
                    facts["multiply_adds"],
                    facts["seconds"],
                )
            )
    by_name = {row.name: row for row in rows}
    for ensemble in plan.get("ensemble", ()):
        members = [by_name[name] for name in ensemble["of"] if name in by_name]
        if len(members) == len(ensemble["of"]):
            rows.append(
                Row(
                    ensemble["name"],
                    ("mean of " + ", ".join(ensemble["of"]),),
                    ensemble.get("note", ""),
                    averaged([member.probabilities for member in members], offsets),
                    sum(member.multiply_adds for member in members),
                    sum(member.seconds for member in members),
                )
            )
    return rows


def scored(rows: list[Row], dataset: Dataset, validation: list[Example], kept: dict[str, Any]) -> list[dict[str, Any]]:
    """The log's entries; those whose numbers are known are taken from `kept`, since a bootstrap takes a while."""
    entries = []
    for row in rows:
        key = f"{row.name}: {row.changes}"
        if key not in kept:
            found = compare.score_system(dataset.heads, validation, [row.probabilities], dataset.fps, RESAMPLES)
            ahead = compare.paired_differences(
                dataset.heads, validation, [row.probabilities], [rows[0].probabilities], RESAMPLES
            )
            kept[key] = {"heads": found["heads"], "ahead": ahead}
        facts = {"multiply_adds": row.multiply_adds, "seconds": row.seconds}
        entries.append({"name": row.name, "changes": list(row.changes), "note": row.note, **facts, **kept[key]})
    return entries


def page_of(result: dict[str, Any]) -> str:
    """The log as Markdown."""
    columns = ["trial", "S1 F1", "S1 mAP", "S2 F1", "S2 mAP", "S1 F1 ahead", "S1 mAP ahead", "S2 mAP ahead"]
    rows = []
    for entry in result["entries"]:
        scores = [results.number(entry["heads"][h][m]["mean"]) for h in ("S1", "S2") for m in ("f1", "map")]
        ahead = [
            results.interval(entry["ahead"][head][metric], "difference") if rows else ""
            for head, metric in (("S1", "f1"), ("S1", "map"), ("S2", "map"))
        ]
        cost = [f"{entry['multiply_adds'] / 1000:.0f} k", f"{entry['seconds']:.0f}"]
        rows.append([entry["name"], *scores, *ahead, *cost])
    changes = [
        f"- {entry['name']}: {'; '.join(f'`{c}`' for c in entry['changes']) or 'nothing changed'}"
        + (f". {entry['note']}" if entry["note"] else "")
        for entry in result["entries"]
    ]
    base = ", ".join(f"`{c}`" for c in result["base"])
    head = (
        f"# Trials: {result['dataset']}\n\n```\n{result['command']}\n```\n\n"
        f"{result['date']}, commit {result['commit']}. Trained on the training split, chosen and scored on the "
        "validation split, argmax: the noise of such a choice is about .01, and the best of many trials looks better "
        "than it is. Differences are from the first row, paired over videos, with 95 % intervals; they do not know the "
        f"noise of a training. Seconds are of training, on a machine with other work. All trials change {base}."
    )
    remarks = [f"- {remark}" for remark in result["remarks"]]
    return (
        "\n\n".join(
            [head, results.table([*columns, "multiply-adds", "seconds"], rows), "\n".join(changes), "\n".join(remarks)]
        ).strip()
        + "\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trials", type=Path)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--only", nargs="*", help="train these alone; the log shows all that are done")
    given = parser.parse_args()
    plan = tomllib.loads(given.trials.read_text(encoding="utf-8"))
    recipe_file = given.trials.parent / plan["recipe"]
    _, dataset = read_recipe(recipe_file, given.root)
    training, validation = read_training(dataset)
    offsets = tuple(np.cumsum([0, *(len(head.classes) for head in dataset.heads)]).tolist())
    done: dict[str, Trial] = {}
    kept: dict[str, Any] = {}
    for trial in plan["trial"]:
        folder = given.runs / trial["name"]
        if given.only is not None and trial["name"] not in given.only and not (folder / "trial.json").is_file():
            continue
        recipe, _ = read_recipe(recipe_file, given.root, [*plan["base"], *trial.get("set", ())])
        task = TrainingTask(recipe, dataset.skeleton, dataset.fps, dataset.heads, training, validation)
        done[trial["name"]] = run_trial(folder, task, validation)
        command = "python benchmarks/trials.py benchmarks/" + given.trials.name + " --root FOLDER --runs FOLDER"
        result = results.preamble("trials", command, f"{dataset.name}, validation", dataset.simulated, len(validation))
        entries = scored(rows_of(plan, done, offsets), dataset, validation, kept)
        result |= {"base": plan["base"], "remarks": plan.get("remarks", []), "entries": entries}
        write_json_atomically(given.out / f"trials-{dataset.name}.json", result)
        write_atomically(given.out / f"trials-{dataset.name}.md", page_of(result))
        print(f"{trial['name']}: done", flush=True)


if __name__ == "__main__":
    main()
