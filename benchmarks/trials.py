"""Every trial of a better model in one log.

`python benchmarks/trials.py TRIALS.toml --root DATA --runs FOLDER [--out FOLDER] [--only NAME ...]`

TRIALS.toml names a recipe, what all trials change of it (`base`), `remarks` for the page, each `[[trial]]` (name, set,
note) and averages of trials (`[[ensemble]]`: name, of, note), which cost nothing, as the answers are kept. A trial
is trained on the training split; its checkpoint is chosen, and it is scored, on the validation split: the best of many
trials looks better than it is, and what is ahead here has to be cross-validated before it is believed. The files
OUT/trials-DATASET.json and .md are written anew after every trial; a killed run continues.

`like`: a trial changes something of another one. With `seeds` both are trained with each of these, and the page
compares the two, paired over videos and seeds. `code`: what else was changed, in words, where the code was not kept:
such a trial is trained by that code alone (`--with-code`). A row of OUT/trials-DATASET.json whose answers are not in
the folder of runs stays as it is.
"""

from __future__ import annotations

import argparse
import json
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.recordings.dataset import Dataset
from rtseg.study import compare, results
from rtseg.study.trials import DONE, ProbabilitiesByName, Trial, read_recipe, run_trial
from rtseg.system.files import write_atomically, write_json_atomically
from rtseg.training.task import Example, TrainingTask, read_training

RESAMPLES = 500
NUMBERS = ("multiply_adds", "seconds", "heads", "ahead")
"""Of an entry: what was measured. The other fields are the plan's."""


def all_changes(plan: dict[str, Any], trial: dict[str, Any]) -> tuple[str, ...]:
    """What a trial changes of the base: all that the one it is like changes, then its own."""
    inherited = all_changes(plan, _trial(plan, trial["like"])) if "like" in trial else ()
    return (*inherited, *trial.get("set", ()))


def _trial(plan: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(trial for trial in plan["trial"] if trial["name"] == name)
    return found


def trainings_of(trial: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    """The name of each training of a trial, one or one for each of its seeds -> what this one changes as well."""
    if "seeds" not in trial:
        return {trial["name"]: ()}
    return {f"{trial['name']}, seed {seed}": (f"train.seed={seed}",) for seed in trial["seeds"]}


@dataclass(frozen=True)
class Row:
    """A trial or an ensemble as the log shows it.

    like: the name of the row that it is compared with. probabilities: of each seed.
    """

    name: str
    changes: tuple[str, ...]
    like: str
    probabilities: tuple[ProbabilitiesByName, ...]
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
    """Trials whose answers are there, of all seeds, and the ensembles of such trials."""
    rows = []
    for trial in plan["trial"]:
        found = [done[name] for name in trainings_of(trial) if name in done]
        if len(found) == len(trainings_of(trial)):
            rows.append(
                Row(
                    trial["name"],
                    tuple(trial.get("set", ())),
                    _like(plan, trial),
                    tuple(one.probabilities for one in found),
                    found[0].facts["multiply_adds"],
                    float(np.mean([one.facts["seconds"] for one in found])),
                )
            )
    by_name = {row.name: row for row in rows}
    for ensemble in plan.get("ensemble", ()):
        members = [by_name[name] for name in ensemble["of"] if name in by_name]
        if len(members) == len(ensemble["of"]):
            rows.append(
                Row(
                    ensemble["name"],
                    _averaged_of(ensemble),
                    _like(plan, ensemble),
                    (averaged([member.probabilities[0] for member in members], offsets),),
                    sum(member.multiply_adds for member in members),
                    sum(member.seconds for member in members),
                )
            )
    return rows


def _averaged_of(ensemble: dict[str, Any]) -> tuple[str, ...]:
    return ("mean of " + ", ".join(ensemble["of"]),)


def _like(plan: dict[str, Any], planned: dict[str, Any]) -> str:
    """What a trial or an ensemble is compared with: with the trial of as many seeds that it is like, or the first."""
    name = planned.get("like", "")
    if "seeds" in planned:
        return name if "seeds" in _trial(plan, name) else ""
    return "" if planned is plan["trial"][0] else plan["trial"][0]["name"]


def scored(
    plan: dict[str, Any], rows: list[Row], dataset: Dataset, validation: list[Example], kept: dict[str, Any]
) -> list[dict[str, Any]]:
    """The log's entries, in the order of the plan.

    kept: by `key_of` the numbers that are known; new ones are added to it. A bootstrap takes a while, so those of the
    same training, compared with the same one, are not computed again.
    """
    by_name, anew = {row.name: row for row in rows}, set()
    for row in rows:
        known = kept.get(key_of(row.name, row.changes))
        same = known is not None and (known["multiply_adds"], known["seconds"]) == (row.multiply_adds, row.seconds)
        if not same or row.like in anew:
            kept[key_of(row.name, row.changes)] = _numbers(row, by_name.get(row.like), dataset, validation)
            anew.add(row.name)
    entries = []
    for planned in (*plan["trial"], *plan.get("ensemble", ())):
        changes = _averaged_of(planned) if "of" in planned else tuple(planned.get("set", ()))
        if (numbers := kept.get(key_of(planned["name"], changes))) is not None:
            words = {key: planned.get(key, "") for key in ("code", "note")}
            about = {"name": planned["name"], "changes": list(changes), "like": _like(plan, planned), **words}
            entries.append({**about, "seeds": planned.get("seeds", []), **numbers})
    return entries


def _numbers(row: Row, other: Row | None, dataset: Dataset, validation: list[Example]) -> dict[str, Any]:
    """A row's scores, and by how much they are ahead of the other row's."""
    found = compare.score_system(dataset.heads, validation, row.probabilities, dataset.fps, RESAMPLES)
    numbers = {"multiply_adds": row.multiply_adds, "seconds": row.seconds, "heads": found["heads"]}
    if other is not None:
        pair = (row.probabilities, other.probabilities)
        numbers["ahead"] = compare.paired_differences(dataset.heads, validation, *pair, RESAMPLES)
    return numbers


def key_of(name: str, changes: Sequence[str]) -> str:
    """What tells entries apart: other settings under the same name are another trial."""
    return f"{name}: {tuple(changes)}"


def known_numbers(log: Path) -> dict[str, Any]:
    """By `key_of` the numbers of an earlier log, whose answers may be gone."""
    if not log.is_file():
        return {}
    return {
        key_of(entry["name"], entry["changes"]): {key: entry[key] for key in NUMBERS if key in entry}
        for entry in json.loads(log.read_text(encoding="utf-8"))["entries"]
    }


def page_of(result: dict[str, Any]) -> str:
    """The log as Markdown."""
    base = ", ".join(f"`{c}`" for c in result["base"])
    head = (
        f"# Trials: {result['dataset']}\n\n```\n{result['command']}\n```\n\n"
        f"{result['date']}, commit {result['commit']}. Trained on the training split, chosen and scored on the "
        "validation split, argmax: the noise of such a choice is about .01, and the best of many trials looks better "
        "than it is. Differences are from the first row, paired over videos, with 95 % intervals; they do not know the "
        f"noise of a training. Rows stay from one log to the next; date and commit are of the last. Seconds are of "
        f"training, on a machine with other work. All trials change {base}."
    )
    single = [entry for entry in result["entries"] if not entry["seeds"]]
    several = [entry for entry in result["entries"] if entry["seeds"]]
    parts = [head, _table(single), "\n".join(map(_words, single))]
    if several:
        parts.append(
            "## Several seeds of each\n\nScores are means over the seeds; differences are from the trial that is "
            "named below, paired over videos and seeds, with 95 % intervals over videos. *Code* says in words what "
            "was changed by code that is not part of the project."
        )
        parts += [_table(several), "\n".join(map(_words, several))]
    parts.append("\n".join(f"- {remark}" for remark in result["remarks"]))
    return "\n\n".join(parts).strip() + "\n"


def _table(entries: Sequence[dict[str, Any]]) -> str:
    differences = (("S1", "f1", "S1 F1"), ("S1", "map", "S1 mAP"), ("S2", "f1", "S2 F1"), ("S2", "map", "S2 mAP"))
    columns = ["trial", *(name for *_, name in differences), *(f"{name} ahead" for *_, name in differences)]
    rows = []
    for entry in entries:
        scores = [results.number(entry["heads"][head][metric]["mean"]) for head, metric, _ in differences]
        found = entry.get("ahead") if entry["like"] else None
        ahead = [
            results.interval(found[head][metric], "difference") if found else "" for head, metric, _ in differences
        ]
        cost = [f"{entry['multiply_adds'] / 1000:.0f} k", f"{entry['seconds']:.0f}"]
        rows.append([entry["name"], *scores, *ahead, *cost])
    return results.table([*columns, "multiply-adds", "seconds"], rows)


def _words(entry: dict[str, Any]) -> str:
    """What a trial changes, and what is to be said about it."""
    changes = "; ".join(f"`{change}`" for change in entry["changes"]) or "nothing changed"
    seeds = f"seeds {', '.join(map(str, entry['seeds']))}" if entry["seeds"] else ""
    like = f"like {entry['like']}" if entry["seeds"] and entry["like"] else ""
    code = f"*code*: {entry['code']}" if entry["code"] else ""
    said = "; ".join(part for part in (like, seeds, code) if part)
    return (
        f"- {entry['name']}: {changes}"
        + (f" ({said})" if said else "")
        + (f". {entry['note']}" if entry["note"] else "")
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trials", type=Path)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--only", nargs="*", help="train these alone; the log shows all that are done")
    parser.add_argument("--with-code", action="store_true", help="this copy of the project has the code of all trials")
    given = parser.parse_args()
    plan = tomllib.loads(given.trials.read_text(encoding="utf-8"))
    recipe_file = given.trials.parent / plan["recipe"]
    _, dataset = read_recipe(recipe_file, given.root)
    training, validation = read_training(dataset)
    offsets = tuple(np.cumsum([0, *(len(head.classes) for head in dataset.heads)]).tolist())
    log = given.out / f"trials-{dataset.name}.json"
    command = f"python benchmarks/trials.py benchmarks/{given.trials.name} --root FOLDER --runs FOLDER"
    done: dict[str, Trial] = {}
    kept = known_numbers(log)
    for trial in plan["trial"]:
        for name, seed in trainings_of(trial).items():
            folder = given.runs / name
            wanted = given.only is None or trial["name"] in given.only or (folder / DONE).is_file()
            if not wanted or ("code" in trial and not given.with_code):
                continue
            recipe, _ = read_recipe(recipe_file, given.root, [*plan["base"], *all_changes(plan, trial), *seed])
            task = TrainingTask(recipe, dataset.skeleton, dataset.fps, dataset.heads, training, validation)
            done[name] = run_trial(folder, task, validation)
            print(f"{name}: done", flush=True)
        result = results.preamble("trials", command, f"{dataset.name}, validation", dataset.simulated, len(validation))
        entries = scored(plan, rows_of(plan, done, offsets), dataset, validation, kept)
        result |= {"base": plan["base"], "remarks": plan.get("remarks", []), "entries": entries}
        write_json_atomically(log, result)
        write_atomically(log.with_suffix(".md"), page_of(result))


if __name__ == "__main__":
    main()
