"""What `rtseg trigger tune` found, on the screen: the chosen setting, what it is worth, and the curve."""

from __future__ import annotations

import numpy as np
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from rtseg.triggers.trial import TrialScore
from rtseg.tuning.choose import Tuned

_SHOWN = 12
"""Rows of the curve; the file has all."""


def print_tuned(tuned: Tuned) -> None:
    """One trigger."""
    console = Console()
    candidate = tuned.tried[tuned.chosen]
    title = f"{tuned.name}: {tuned.goal}; chosen of {len(tuned.tried)} settings on {len(tuned.videos)} videos"
    table = _table(
        title, "", "on", "off", "min, s", "hits", "misses", "false\nstarts/min", "onset delay, s\nmedian, p95"
    )
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
    console.print(_curve(tuned))


def _curve(tuned: Tuned) -> Table:
    """Some thresholds at the chosen minimum duration, evenly spread."""
    seconds = tuned.tried[tuned.chosen].min_duration_s
    rows = [c for c, one in enumerate(tuned.tried[:-1]) if one.min_duration_s == seconds]
    shown = {rows[i] for i in np.linspace(0, len(rows) - 1, min(_SHOWN, len(rows))).round().astype(int)} | {
        tuned.chosen
    }
    table = _table(
        f"at least {seconds:g} s", "on", "hits", "misses", "false\nstarts/min", "onset delay, s\nmedian, p95"
    )
    for c in sorted(shown, key=lambda c: tuned.tried[c].on):
        mark = " *" if c == tuned.chosen else ""
        table.add_row(f"{tuned.tried[c].on:.2f}{mark}", *_scored(tuned.totals[c]))
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, box=SIMPLE, title_justify="left", padding=(0, 1, 0, 0))
    for column in columns:
        table.add_column(column, justify="right" if column else "left")
    return table


def _folds(tuned: Tuned) -> list[str]:
    """The range of each number over the folds."""
    taken = [tuned.tried[c] for c in tuned.folds]
    columns = ([one.on for one in taken], [one.off for one in taken], [one.min_duration_s for one in taken])
    return [f"{min(c):g}" if min(c) == max(c) else f"{min(c):g}..{max(c):g}" for c in columns]


def _scored(score: TrialScore) -> list[str]:
    delays = "-"
    if score.delays_s:
        median, late = np.percentile(score.delays_s, (50, 95))
        delays = f"{median:.2f}, {late:.2f}"
    return [str(score.hits), str(score.bouts - score.hits), f"{score.false_starts_per_min:.2f}", delays]
