"""What triggers would have done, on the screen: a row a trigger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from rtseg.triggers.trial import Trial, TrialScore

COLUMNS = ("trigger", "fired", "on, s", "duty", "withheld")
SCORED = ("hits", "misses", "false\nstarts/min", "onset delay, s\nmedian, p95")


def print_trials(trials: Sequence[Trial], scores: Mapping[str, TrialScore]) -> None:
    """All recordings together. scores: by trigger; {} where there are no labels."""
    console = Console()
    total_s = sum(len(trial.seq) / trial.answer_fps for trial in trials)
    title = f"{len(trials)} recordings, {total_s / 60:.1f} min, armed all through"
    table = Table(title=title, box=SIMPLE, title_justify="left", padding=(0, 1, 0, 0))
    for column in (*COLUMNS, *(SCORED if scores else ())):
        table.add_column(column, justify="left" if column in ("trigger", "withheld") else "right")
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
