"""The whole of `rtseg paper`: data, plan, trainings, timing, report. A killed run continues where it was.

Under --out: data/ (the recordings as they were read), runs/ (a folder a training and seed), timing.json, and the report
as paper.json and paper.md.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rtseg import config
from rtseg.config import PaperSettings, Recipe
from rtseg.errors import SettingError
from rtseg.evaluation.evaluate import without_nan
from rtseg.paper.data import PaperData, open_data, save_data
from rtseg.paper.plan import Options, Training, plan, sections
from rtseg.paper.report import METHOD, below_constant, compare_claims, hours_of, rows_with_figures, training_summary
from rtseg.paper.runs import Run, TrainingCallback, find_runs, train_all
from rtseg.paper.search import SEED, candidates, choose, with_choice
from rtseg.paper.systems import QUICK_SETTINGS
from rtseg.paper.tables import markdown
from rtseg.paper.timing import time_systems
from rtseg.system import machine
from rtseg.system.files import write_atomically, write_json_atomically

SCHEMA = 2
PACKAGES = ("rtseg", "numpy", "numba", "torch", "scikit-learn", "xgboost-cpu")
SECTION = "paper."
"""Prefix of a --set that changes PaperSettings."""
REPORT_JSON, REPORT_MD, TIMING = "paper.json", "paper.md", "timing.json"


@dataclass(frozen=True)
class Given:
    """The files that a comparison starts from: see `open_data`. recipe: of rtseg's own systems, and the arena."""

    data: Path
    root: Path | None = None
    recipe: Path | None = None
    allow_other_counts: bool = False


def run_paper(
    given: Given,
    out: Path,
    options: Options,
    *,
    seeds: int = 5,
    hours: float | None = None,
    say: Callable[[str], None] = lambda _: None,
    event: TrainingCallback = lambda name, values: None,
) -> dict[str, Any]:
    """Read the data, train what is not trained yet, and return (and write) the report.

    hours: after so many no further training begins, and the report says what is still to come; None = until all is
    done. options.overrides: `paper.KEY=VALUE` changes PaperSettings, anything else every recipe. event: as in
    `train_all`. Raises SettingError for options that name nothing, or without a seed. Trainings that fail are named
    in the report.
    """
    if seeds < 1:
        raise SettingError(f"--seeds: expected 1 or more, got {seeds}")
    # One --set serves both: the comparison's own settings, and those of every recipe.
    own = [o.removeprefix(SECTION) for o in options.overrides if o.startswith(SECTION)]
    settings = config.from_plain(QUICK_SETTINGS if options.quick else {}, PaperSettings, own)
    deadline = None if hours is None else time.monotonic() + hours * 3600
    options = replace(options, overrides=tuple(o for o in options.overrides if not o.startswith(SECTION)))
    arena = None
    if given.recipe is not None:
        chosen = config.load_settings(given.recipe, Recipe)
        options, arena = replace(options, recipe=sections(chosen)), chosen.arena
    allow = given.allow_other_counts
    data = open_data(given.data, out, settings, root=given.root, arena=arena, allow_other_counts=allow, say=say)
    return compare_systems(data, out, options, seeds=seeds, settings=settings, deadline=deadline, say=say, event=event)


def compare_systems(
    data: PaperData,
    out: Path,
    options: Options,
    *,
    seeds: int,
    settings: PaperSettings,
    deadline: float | None = None,
    say: Callable[[str], None] = lambda _: None,
    event: TrainingCallback = lambda name, values: None,
) -> dict[str, Any]:
    """Train and compare every system on recordings in memory: `run_paper` after reading the data.

    deadline: as in `train_all`.
    """
    options = replace(options, frame_stride=settings.frame_stride)
    rows, trainings = plan(data, options)
    grid = candidates(data, options, settings)
    origin = machine.describe_run(PACKAGES)
    say("keeping the recordings for the training processes")
    save_data(data, out / "data")
    fingerprint = data.fingerprint()

    def find(some: Sequence[Training], numbers: Sequence[int]) -> list[Run]:
        return find_runs(some, numbers, out, fingerprint, settings)

    # First the search: what it chooses is part of every recipe after it.
    searched = train_all(find([c.training for c in grid], [SEED]), out / "data", settings, event, deadline)
    found = choose(grid, searched)
    chosen = [with_choice(t, found) for t in trainings]
    waiting = [t for t, choice in zip(trainings, chosen, strict=True) if choice is None]
    ready = [choice for choice in chosen if choice is not None]
    runs = train_all(find(ready, range(seeds)), out / "data", settings, event, deadline)
    # Last: trainings that run meanwhile would slow what is timed.
    timing = _timing([t for t in ready if _trained(t, runs)], data, settings, out / TIMING, fingerprint, say)
    runs += find(waiting, range(seeds))
    origin["machine"]["load_average_after"] = machine.load_average()
    lines = rows_with_figures(rows, runs, data, timing)
    every = [*searched, *runs]
    report: dict[str, Any] = without_nan(
        {
            "schema": SCHEMA,
            "kind": "rtseg paper",
            **origin,
            "settings": {**asdict(settings), "seeds": list(range(seeds)), **_plain(options)},
            "data": {**data.summary(), "fingerprint": fingerprint},
            "method": METHOD,
            "rows": lines,
            "below_constant": below_constant(lines),
            "search": found,
            "hours": hours_of(every),
            "cpus": sorted({run.result["cpu"] for run in every if run.result is not None and "cpu" in run.result}),
            "failed": {run.name: run.why for run in every if _has_failed(run)},
            "to_come": [run.name for run in every if run.to_come],
            "claims": compare_claims(lines, runs, data),
            "trainings": {t.key: training_summary(t) for t in ready},
        }
    )
    write_json_atomically(out / REPORT_JSON, report)
    write_atomically(out / REPORT_MD, markdown(report))
    return report


def _plain(options: Options) -> dict[str, Any]:
    """The options that stand in the report; the recipe stands in its trainings."""
    plain = {name: getattr(options, name) for name in ("only", "epochs", "quick", "overrides")}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}


def _has_failed(run: Run) -> bool:
    # That a place of the search diverges is what the search is to find out.
    is_found_out = run.is_over and not run.training.scored
    return run.result is None and not run.to_come and not is_found_out


def _trained(training: Training, runs: Sequence[Run]) -> bool:
    return any(run.training.key == training.key and run.result is not None for run in runs)


def _timing(
    trainings: Sequence[Training],
    data: PaperData,
    settings: PaperSettings,
    path: Path,
    fingerprint: str,
    say: Callable[[str], None],
) -> dict[str, dict[str, float]]:
    """Measured once for the same systems: numbers of different hours, and other load, cannot be compared."""
    if not trainings:
        return {}
    what = [fingerprint, asdict(settings), [[t.key, t.tasks, config.to_plain(t.recipe)] for t in trainings]]
    # Whatever changes a time is in it; a figure of other settings is measured again.
    key = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
    if path.is_file():
        known = json.loads(path.read_text(encoding="utf-8"))
        if known["fingerprint"] == key:
            timing: dict[str, dict[str, float]] = known["timing"]
            return timing
    measured = time_systems(trainings, data, settings, say)
    write_json_atomically(path, {"fingerprint": key, "timing": measured})
    return measured
