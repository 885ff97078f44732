"""Triggers on the screen: what they would have done, which thresholds were chosen, how their sinks did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from rich.box import SIMPLE
from rich.table import Table

from rtseg.experiment.check import Checked
from rtseg.experiment.check_page import lateness, off_rows, way_rows
from rtseg.terminal.layout import plain_console
from rtseg.triggers.trial import Trial, TrialScore
from rtseg.tuning.choose import Tuned

COLUMNS = ("trigger", "fired", "on, s", "duty", "withheld")
SCORED = ("hits", "misses", "false\nstarts/min", "onset delay, s\nmedian, p95")
_SHOWN = 12
"""Rows of the curve; the file has all."""


def print_trials(trials: Sequence[Trial], scores: Mapping[str, TrialScore]) -> None:
    """All recordings together. scores: by trigger; {} where there are no labels."""
    console = plain_console()
    total_s = sum(len(trial.seq) / trial.answer_fps for trial in trials)
    number = "1 recording" if len(trials) == 1 else f"{len(trials)} recordings"
    title = f"{number}, {total_s / 60:.1f} min, armed all through"
    table = Table(title=title, box=SIMPLE, title_justify="left", padding=(0, 1, 0, 0))
    for column in (*COLUMNS, *(SCORED if scores else ())):
        table.add_column(column, justify="left" if column in ("trigger", "withheld") else "right", overflow="fold")
    for r, name in enumerate(trials[0].triggers):
        events = [event for trial in trials for event in trial.events if event.trigger == name]
        on_s = sum(float(np.count_nonzero(trial.line[:, r])) / trial.answer_fps for trial in trials)
        fired = Counter(event.arm for event in events if event.fired)
        withheld = Counter(event.decision for event in events if not event.fired)
        row = [
            name,
            _counts(fired) or "0",
            f"{on_s:.1f}",
            f"{on_s / total_s:.1%}" if total_s else "-",
            _counts(withheld),
        ]
        table.add_row(*row, *(_scored(scores[name]) if scores else ()))
    console.print(table)


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n} {name}" for name, n in counts.items())


def _scored(score: TrialScore) -> list[str]:
    delays = "-"
    if score.delays_s:
        median, late = np.percentile(score.delays_s, (50, 95))
        delays = f"{median:.2f}, {late:.2f}"
    rate = score.false_starts_per_min
    return [str(score.hits), str(score.bouts - score.hits), "-" if np.isnan(rate) else f"{rate:.2f}", delays]


def print_tuned(tuned: Tuned) -> None:
    """One trigger."""
    console = plain_console()
    candidate = tuned.tried[tuned.chosen]
    console.print(f"{tuned.name}: {tuned.goal}; chosen of {len(tuned.tried)} settings on {len(tuned.videos)} videos")
    table = _table("", "on", "off", "min, s", "hits", "misses", "false\nstarts/min", "onset delay, s\nmedian, p95")
    for what, one, score in (
        ("file", tuned.tried[-1], tuned.totals[-1]),
        ("chosen", candidate, tuned.totals[tuned.chosen]),
    ):
        table.add_row(what, f"{one.on:g}", f"{one.off:g}", f"{one.min_duration_s:g}", *_scored(score))
    table.add_row("left out", *_folds(tuned), *_scored(tuned.held_out), style="bold")
    console.print(table)
    rates, hits, delay = (tuned.intervals[part] for part in ("false_starts_per_min", "hits", "delay_s"))
    console.print(
        "Left out: each video scored with what the others choose, which is what new recordings may expect; 95 % over "
        f"videos: {rates['low']:.2f} to {rates['high']:.2f} false starts/min, "
        f"{hits['low']:.0%} to {hits['high']:.0%} hits, delay {delay['low']:.2f} to {delay['high']:.2f} s"
    )
    for note in tuned.notes:
        console.print(note)
    console.print(f"At a minimum duration of {candidate.min_duration_s:g} s:")
    console.print(_curve(tuned))


def _curve(tuned: Tuned) -> Table:
    """Some thresholds at the chosen minimum duration, evenly spread."""
    seconds = tuned.tried[tuned.chosen].min_duration_s
    rows = [c for c, one in enumerate(tuned.tried[:-1]) if one.min_duration_s == seconds]
    shown = {rows[i] for i in np.linspace(0, len(rows) - 1, min(_SHOWN, len(rows))).round().astype(int)} | {
        tuned.chosen
    }
    table = _table("on", "hits", "misses", "false\nstarts/min", "onset delay, s\nmedian, p95")
    for c in sorted(shown, key=lambda c: tuned.tried[c].on):
        mark = " *" if c == tuned.chosen else ""
        table.add_row(f"{tuned.tried[c].on:.2f}{mark}", *_scored(tuned.totals[c]))
    return table


def _table(*columns: str) -> Table:
    """Without a title, which would be broken where the table is narrower."""
    table = Table(box=SIMPLE, padding=(0, 1, 0, 0))
    for column in columns:
        table.add_column(column, justify="right" if column else "left", overflow="fold")
    return table


def _folds(tuned: Tuned) -> list[str]:
    """The range of each number over the folds."""
    taken = [tuned.tried[c] for c in tuned.folds]
    columns = ([one.on for one in taken], [one.off for one in taken], [one.min_duration_s for one in taken])
    return [f"{min(c):g}" if min(c) == max(c) else f"{min(c):.3g} to {max(c):.3g}" for c in columns]


def print_check(checked: Checked) -> None:
    """Times, fail-off and what should not be."""
    console = plain_console()
    console.print("From a frame to a line, ms:")
    ways = Table(box=SIMPLE, padding=(0, 1, 0, 0))
    for column in ("sink", "lines", "way", "events", "median", "99 %", "longest"):
        ways.add_column(column, justify="left" if column in ("sink", "lines", "way") else "right", overflow="fold")
    for row in way_rows(checked):
        ways.add_row(*row)
    console.print(ways)
    console.print("Off by itself, after the last renewal:")
    off = Table(box=SIMPLE, padding=(0, 1, 0, 0))
    for column in ("sink", "what was done", "off after, ms", "lease, ms", "in time"):
        off.add_column(column, overflow="fold")
    for row in off_rows(checked):
        off.add_row(*row)
    console.print(off)
    console.print(lateness(checked))
    for note in checked.notes:
        console.print(note)
    for problem in checked.problems:
        console.print(problem, style="bold red")
    if not checked.problems:
        console.print(checked.verdict)
