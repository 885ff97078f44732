"""The figures of every row, from the runs of all seeds: plain values, ready for JSON and for the tables.

Reads results that are on disk; trains and prints nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg import config
from rtseg.config import Recipe
from rtseg.evaluation.bootstrap import interval
from rtseg.evaluation.metrics import constant_scores
from rtseg.paper.data import PaperData
from rtseg.paper.plan import TableRow, Training
from rtseg.paper.runs import TO_COME, Run
from rtseg.paper.sight import future_frames
from rtseg.paper.systems import TABLES

SCORES = {"f1": "F1", "map": "mAP"}
"""The scores of a row, and how they are called."""
COSTS = (
    *("training_seconds", "training_cpu_seconds", "training_memory_mb", "process_memory_mb", "parameters"),
    *("multiply_adds", "epoch", "batches", "batches_trained"),
)
METHOD = {
    "score": "macro-F1 and mAP over scored classes, frames of all test recordings pooled, argmax; means over the heads "
    "of a task (annotators, behaviours)",
    "spread": "standard deviation over seeds (n - 1)",
    "interval": "95 %, test recordings drawn with replacement, the same draws for every seed: of the mean over seeds; "
    "none where an annotator or a behaviour has a single test recording",
    "difference": "of two rows: mean over the seeds that both have, test recordings drawn in pairs",
    "training": "a network's batches, those of the weights that were kept and all, means over seeds: it ends when the "
    "held-out score has not risen for `patience` evaluations, trees when their held-out loss has not fallen for 15 "
    "rounds, or (named below a table) at the cap on epochs or rounds",
    "training_cpu_seconds": "processor seconds of training, one thread where train.threads = 1; what other programs "
    "take from it does not count, unlike in training_seconds and the hours; where the trainings of two rows are "
    "compared in time and memory, over the seeds that one kind of processor trained of both",
    "constant": "the class that scores best where it is answered at every frame of the test recordings, and what "
    "ranking by chance comes to",
    "training_memory_mb": "how far the resident memory of the training's own process rose while it trained, MiB",
    "process_memory_mb": "the most that this process ever held (ru_maxrss), recordings and libraries included, MiB",
    "offline_us": "keypoints of a whole recording to probabilities, one thread, per frame; all networks in turns in "
    "one process, median; gradient boosting by itself on one core after its training",
    "step_us": "one frame of a live stream, features and network, where an engine steps the system; median",
}


def rows_with_figures(
    rows: Sequence[TableRow], runs: Sequence[Run], data: PaperData, timing: Mapping[str, Mapping[str, float]]
) -> list[dict[str, Any]]:
    """The figures of every row. timing: training key -> what `time_systems` measured."""
    by_key: dict[str, list[Run]] = {}
    for run in runs:
        by_key.setdefault(run.training.key, []).append(run)
    lines = [_line(row, by_key.get(row.training or "", []), data, timing) for row in rows]
    for line in (line for line in lines if "f1" in line):
        line["beside"] = _beside(line, lines, runs)
        if line["beside"] is not None and _is_the_same(line["training"], line["beside"]["training"], by_key):
            line["problems"].append(
                f"no change here: with these data the recipe of {line['beside']['label']} is the same"
            )
    for table in dict.fromkeys(line["table"] for line in lines if line["training"]):
        tasks = dict.fromkeys(line["task"] for line in lines if line["table"] == table and line["group"])
        lines += [constant_answer(table, task, data) for task in tasks]
    return lines


def constant_answer(table: str, task: int, data: PaperData) -> dict[str, Any]:
    """The row of a task's best constant answer: what a system that learnt nothing could still score."""
    group = data.tasks[task]
    scores: dict[str, list[float]] = {score: [] for score in SCORES}
    for column, head in enumerate(data.heads):
        if head.group == group:
            of_head = constant_scores(head, np.concatenate([e.labels[:, column] for e in data.test]))
            for score, value in zip(SCORES, of_head, strict=True):
                scores[score].append(value)
    line = {"table": table, "label": _label("Best constant answer", table, task), "form": "constant", "task": task}
    line |= {"group": group, "training": None, "paper": None, "absent": "", "future_frames": 0}
    unknown = {"spread": float("nan"), "low": float("nan"), "high": float("nan")}
    return line | {score: {"mean": _mean(values), **unknown} for score, values in scores.items()}


def below_constant(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """The rows whose F1 or mAP is below that of the best constant answer, by table, label and form."""
    constant = {(c["table"], c["task"], s): c[s]["mean"] for c in lines if c["form"] == "constant" for s in SCORES}
    found = []
    for line in (line for line in lines if line["training"] and "f1" in line):
        bars = {score: constant.get((line["table"], line["task"], score)) for score in SCORES}
        means = {score: line[score]["mean"] for score in SCORES}
        low = [s for s, bar in bars.items() if bar is not None and means[s] is not None and means[s] < bar]
        if low:
            found.append(f"{line['training']} Task {line['task']}: {', '.join(SCORES[score] for score in low)}")
    return found


def hours_of(runs: Sequence[Run]) -> dict[str, float]:
    """Hours that the trainings of each table took, scoring included; of the search under `search`."""
    hours: dict[str, float] = {}
    for run in (run for run in runs if run.result is not None):
        table = run.training.key.split("/")[0]
        hours[table] = hours.get(table, 0.0) + _number((run.result or {}).get("wall_seconds")) / 3600
    return hours


def compare_claims(lines: Sequence[Mapping[str, Any]], runs: Sequence[Run], data: PaperData) -> list[dict[str, Any]]:
    """The paper's claims in section VI beside what was measured; a claim whose rows are absent is left out."""
    claims = []
    for table in ("II", "III", "IV"):
        tcn, transformer = (_find(lines, table, f"{table}/{name}") for name in ("tcn", "transformer"))
        if tcn is None or transformer is None:
            continue
        trained = _pairs(runs, transformer["training"], tcn["training"], one_processor=True)
        # Section VI names factors without a table of numbers: these are its words.
        for what, ratio, claimed in (
            ("training time", _cost_ratio(trained, "training_cpu_seconds"), 10.0),
            ("training time a batch", _cost_ratio(trained, "training_cpu_seconds", "batches_trained"), 10.0),
            ("memory in training", _cost_ratio(trained, "training_memory_mb"), 8.0),
            ("inference time", _ratio(transformer.get("offline_us"), tcn.get("offline_us")), 20.0),
        ):
            title = f"Transformer to TCN, {what} (Table {table})"
            claims.append({"claim": title, "paper": claimed, "measured": ratio, "unit": "x"})
    for task, table in ((1, "II"), (2, "III"), (3, "IV")):
        alone = _find(lines, table, f"{table}/tcn")
        multitask = _find(lines, "V", "V/multitask", task)
        if alone is None or multitask is None or task not in data.tasks:
            continue
        for score, name in SCORES.items():
            difference = _difference(runs, "V/multitask", f"{table}/tcn", data.tasks[task], score)
            claimed = multitask["paper"][score] - alone["paper"][score]
            title = f"multitask TCN ahead of the TCN alone, Task {task}, {name}"
            claims.append({"claim": title, "paper": claimed, "unit": "", **difference})
    return claims


def _line(
    row: TableRow, runs: Sequence[Run], data: PaperData, timing: Mapping[str, Mapping[str, float]]
) -> dict[str, Any]:
    line: dict[str, Any] = {
        "table": row.table,
        "label": _label(row.label, row.table, row.task),
        "form": row.form,
        "task": row.task,
        "group": data.tasks.get(row.task),
        "training": row.training,
        "paper": None if row.paper is None else vars(row.paper),
        "absent": row.absent,
    }
    if not runs:
        return line
    # Of the recipe, which all seeds share.
    line["future_frames"] = future_frames(runs[0].training.recipe, data.fps)
    failed = [f"{run.name}: {run.why}" for run in runs if run.result is None and not run.to_come]
    done = [run for run in runs if run.result is not None]
    waiting = [run.seed for run in runs if run.to_come]
    if waiting and done:
        failed.append(f"seed{'s' if len(waiting) > 1 else ''} {', '.join(map(str, waiting))} {TO_COME}")
    failed += [_lower_rate(run) for run in done if run.given_up]
    line |= {"seeds": [run.seed for run in done], "problems": failed}
    if not done:
        return line | {"absent": failed[0] if failed else TO_COME}
    recipe = done[0].training.recipe
    line["capped"] = any(_is_capped(run.result or {}, recipe) for run in done)
    if line["capped"]:
        cap = f"{recipe.boosting.trees} rounds" if recipe.model.is_trees else f"{recipe.train.epochs} epochs"
        line["problems"].append(f"stopped by the cap of {cap}, not by a plateau")
    group = data.tasks[row.task]
    results = [run.result for run in done if run.result is not None]
    for score in SCORES:
        line[score] = _over_seeds([_number(r["groups"].get(group, {}).get(score)) for r in results])
        line[score] |= _interval([run.resampled(group, score) for run in done])
    for cost in COSTS:
        line[cost] = _mean([_number(r.get(cost)) for r in results])
    if any("offline_us" in r for r in results):
        line["offline_us"] = _mean([_number(r.get("offline_us")) for r in results])
    return line | dict(timing.get(runs[0].training.key, {}))


def _lower_rate(run: Run) -> str:
    rates = " and ".join(f"{rate:g}" for rate in run.given_up)
    lower = run.training.recipe.train.learning_rate
    return f"seed {run.seed} diverged or learnt nothing at a learning rate of {rates}: trained at {lower:g}"


def _is_capped(result: Mapping[str, Any], recipe: Recipe) -> bool:
    """Whether a training came to its cap before anything told that it was at its plateau."""
    if not recipe.model.is_trees:
        return bool(result.get("capped", False))
    from rtseg.training.boosting.trees import EARLY_STOPPING_ROUNDS

    return any(entry["rounds"] + EARLY_STOPPING_ROUNDS > recipe.boosting.trees for entry in result["history"])


def _beside(line: Mapping[str, Any], lines: Sequence[Mapping[str, Any]], runs: Sequence[Run]) -> dict[str, Any] | None:
    """The row that a row is a change of, with the difference to it; None where it is none, or the other is not there.

    A change's key is that of the other, a dash and what is changed.
    """
    key, group = line["training"], line["group"]
    for other in (other for other in lines if other["task"] == line["task"] and "f1" in other):
        if key.startswith(f"{other['training']}-"):
            differences = {s: _difference(runs, key, other["training"], group, s) for s in SCORES}
            return {"training": other["training"], "label": other["label"], **differences}
    return None


def _is_the_same(one: str, other: str, runs: Mapping[str, Sequence[Run]]) -> bool:
    """Whether two rows' trainings have one recipe but for its name."""
    own, others = (runs[key][0].training.recipe for key in (one, other))
    return replace(own, name="") == replace(others, name="")


def _label(label: str, table: str, task: int) -> str:
    return f"{label}, Task {task}" if len(TABLES[table].scored) > 1 else label


def _over_seeds(values: Sequence[float]) -> dict[str, Any]:
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
    return {"mean": float(np.mean(values)), "spread": spread, "values": list(values)}


def _interval(seeds: Sequence[NDArray[np.float64]]) -> dict[str, float]:
    """Of the mean over seeds; resamples in which nothing could be scored are left out."""
    # First over seeds, then percentiles: the interval is that of the mean that the table prints.
    means: NDArray[np.float64] = np.mean(seeds, axis=0)
    return interval(means)


def _difference(runs: Sequence[Run], ours: str, theirs: str, group: str, score: str) -> dict[str, Any]:
    """The difference of two trainings' means over the seeds that both have, with its paired interval."""
    pairs = _pairs(runs, ours, theirs)
    if not pairs:
        return {"measured": None}
    differences, resampled = [], []
    for pair in pairs:
        one, other = (_number((run.result or {})["groups"][group][score]) for run in pair)
        differences.append(one - other)
        resampled.append(pair[0].resampled(group, score) - pair[1].resampled(group, score))
    return {"measured": float(np.mean(differences)), **_interval(resampled)}


def _pairs(runs: Sequence[Run], ours: str, theirs: str, *, one_processor: bool = False) -> list[tuple[Run, Run]]:
    """Both trainings of every seed that both have; one_processor: and were trained on the same kind of processor."""
    done = {(run.training.key, run.seed): run for run in runs if run.result is not None}
    # A seed that failed on one side would otherwise compare a mean of five with a mean of four.
    seeds = sorted({seed for key, seed in done if key == ours} & {seed for key, seed in done if key == theirs})
    pairs = [(done[ours, seed], done[theirs, seed]) for seed in seeds]
    return [p for p in pairs if not one_processor or len({(run.result or {}).get("cpu") for run in p}) == 1]


def _cost_ratio(pairs: Sequence[tuple[Run, Run]], cost: str, per: str | None = None) -> float | None:
    """The first ones' mean cost to the second ones'; per: the cost of one of these."""

    def mean(place: int) -> float:
        results = [pair[place].result or {} for pair in pairs]
        return _mean([_number(r.get(cost)) / (_number(r.get(per)) if per else 1.0) for r in results])

    return _ratio(mean(0), mean(1))


def _find(
    lines: Sequence[Mapping[str, Any]], table: str, training: str, task: int | None = None
) -> Mapping[str, Any] | None:
    """The line of a training, if it was trained."""
    for line in lines:
        if line["table"] == table and line["training"] == training and task in (None, line["task"]) and "f1" in line:
            return line
    return None


def training_summary(training: Training) -> dict[str, Any]:
    """Plain values of what was trained, for the report."""
    return {"label": training.label, "tasks": list(training.tasks), "recipe": config.to_plain(training.recipe)}


def _ratio(a: Any, b: Any) -> float | None:
    return a / b if a and b and not np.isnan(a) and not np.isnan(b) else None


def _mean(values: Sequence[float]) -> float:
    known = [v for v in values if not np.isnan(v)]
    return float(np.mean(known)) if known else float("nan")


def _number(value: Any) -> float:
    """A figure of a result file, where None stands for NaN."""
    return float("nan") if value is None else float(value)
