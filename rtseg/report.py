"""What the commands show: score tables, latency tables, live answers. Only words and layout; nothing is computed twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from rtseg.replay import Replayed
    from rtseg.serve.messages import PredictionMessage


def print_scores(scores: dict[str, Any], title: str, simulated: bool) -> None:
    """Per head and class: F1, average precision, segmental scores, onset delay, false starts."""
    console = Console()
    if simulated:
        console.print("[bold]These recordings or labels are simulated.[/bold]")
    table = Table(title=title)
    for column in ("head", "class", "F1", "AP", "seg F1@10/25/50", "edit", "onset delay", "false starts/min", "frames"):
        table.add_column(column, justify="left" if column in ("head", "class") else "right")
    for name, head in scores["heads"].items():
        segments = " / ".join(f"{head['segmental_f1'][k]:.0f}" for k in ("10", "25", "50"))
        mean = [_number(head["macro_f1"]), _number(head["mean_average_precision"]), segments, f"{head['edit']:.0f}"]
        table.add_row(name, "[bold]mean", *mean, "", "", str(head["frames"]))
        for label, score in head["classes"].items():
            delay = "-" if score["onset_delay_s"] is None else f"{score['onset_delay_s']:+.2f} s"
            row = [_number(score["f1"]), _number(score["average_precision"]), "", "", delay]
            table.add_row("", label, *row, _number(score["false_starts_per_minute"], 2), str(score["frames"]))
    console.print(table)
    for group, means in scores["groups"].items():
        console.print(f"{group}: F1 {_number(means['f1'])}, mAP {_number(means['map'])}")


def print_latency(done: Replayed) -> None:
    """How long the answers of a replay took, end to end and inside the daemon."""
    table = Table(title=f"{len(done.predictions)} frames answered by model {done.model[:12]}")
    table.add_column("latency, µs")
    for column in ("p50", "p99", "p99.9", "max"):
        table.add_column(column, justify="right")
    for name, values in (("frame sent -> answer held", done.latency_ns), ("inside the daemon", done.daemon_ns)):
        kept = values[values >= 0] / 1e3
        points = [*np.percentile(kept, (50, 99, 99.9)), kept.max()] if len(kept) else [float("nan")] * 4
        table.add_row(name, *(f"{p:,.0f}" for p in points))
    console = Console()
    console.print(table)
    console.print("stream: " + ", ".join(f"{name} {count}" for name, count in done.counters.items()))


def prediction_line(prediction: PredictionMessage) -> str:
    """One prediction as a JSON line."""
    probs = {head: [round(float(p), 4) for p in values] for head, values in prediction.probs.items()}
    plain = {"stream": prediction.stream, "seq": prediction.seq, "label": prediction.label, "probs": probs}
    return json.dumps(plain | {"event": prediction.event, "quality": int(prediction.quality)})


@contextmanager
def watch(quiet: bool) -> Iterator[Callable[[PredictionMessage], None] | None]:
    """A function that shows the newest answer on one line of the screen, ten times a second of stream time."""
    if quiet:
        yield None
        return
    from rich.live import Live
    from rich.text import Text

    with Live(console=Console(stderr=True), refresh_per_second=10, transient=True) as live:

        def show(prediction: PredictionMessage) -> None:
            if prediction.seq % 3 == 0:
                text = Text(f"frame {prediction.seq:>6}")
                for head, values in list(prediction.probs.items())[:4]:
                    label = prediction.label[head]
                    text.append(f"   {head}: ", "dim")
                    text.append(f"{label:<14}", "bold")
                    text.append("▁▂▃▄▅▆▇█"[min(int(values.max() * 8), 7)] + f" {values.max():.2f}")
                live.update(text)

        yield show


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
