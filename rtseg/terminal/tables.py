"""The commands' results on the screen: scores, comparisons, latencies, live answers. Only words and layout."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from rtseg.inference.predictions import quality_words
from rtseg.terminal.layout import plain_console, result_table

if TYPE_CHECKING:
    from rtseg.playback.replay import Replayed
    from rtseg.wire.messages import PredictionMessage

HEADS_SHOWN = 14
"""Rows of the live table, so that it fits a screen of 24 lines."""


def print_scores(scores: dict[str, Any], title: str, simulated: bool) -> None:
    """Per head and class the scores of the decoded labels, then those of argmax. Fits 80 columns."""
    console = plain_console()
    console.print(title + (" (simulated)" if simulated else ""))
    console.print(_decoded_table(scores))
    console.print(_argmax_table(scores))
    console.print(_trust_table(scores))
    for group, means in scores["groups"].items():
        line = f"{group}, argmax: F1 {_number(means['f1'])}, mAP {_number(means['map'])}"
        console.print(line)
    for note in scores.get("notes", ()):
        console.print(note)
    if simulated:
        console.print("These recordings or labels are simulated: the scores say nothing about real animals.")


def _decoded_table(scores: dict[str, Any]) -> Table:
    """What a subscriber gets: F1, segmental scores, onset delay and false starts of the decoded labels."""
    table = _score_table(
        "decoded labels: what a subscriber gets",
        ("F1", "seg F1\n@10/25/50", "edit", "onset\ndelay, s", "false\nstarts/min", "frames"),
    )
    for name, head in scores["decoded"].items():
        frames = scores["heads"][name]
        row = [_number(head["macro_f1"]), _segments(head), _number(head["edit"], 0), "", "", str(frames["frames"])]
        table.add_row(name, *row, style="bold")
        for label, score in frames["classes"].items():
            delay, starts = head["onset_delay_s"][label], head["false_starts_per_minute"][label]
            row = [_number(head["f1"][label]), "", "", _delay(delay), _number(starts, 2), str(score["frames"])]
            table.add_row("  " + label, *row)
    return table


def _argmax_table(scores: dict[str, Any]) -> Table:
    """What papers report: the highest probability of each frame, and average precision."""
    table = _score_table(
        "argmax of the probabilities, nothing tuned: what papers report",
        ("F1", "AP", "seg F1\n@10/25/50", "edit", "onset\ndelay, s", "false\nstarts/min"),
    )
    for name, head in scores["heads"].items():
        row = [_number(head["macro_f1"]), _number(head["mean_average_precision"]), _segments(head)]
        table.add_row(name, *row, _number(head["edit"], 0), "", "", style="bold")
        for label, score in head["classes"].items():
            row = [_number(score["f1"]), _number(score["average_precision"]), "", "", _delay(score["onset_delay_s"])]
            table.add_row("  " + label, *row, _number(score["false_starts_per_minute"], 2))
    return table


def _score_table(title: str, columns: Sequence[str]) -> Table:
    table = result_table(("head, class", *columns), title)
    table.min_width = len(title)
    return table


def _segments(head: dict[str, Any]) -> str:
    return "/".join(f"{head['segmental_f1'][k]:.0f}" for k in ("10", "25", "50"))


def _delay(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:+.2f}"


def print_calibration(report: dict[str, Any]) -> None:
    """Calibration errors per head, before and after, out of fold. Fits 80 columns."""
    console = plain_console()
    title = f"{report['bundle']} on {report['dataset']}, {report['split']}: {report['method']}, out of fold"
    title += " (simulated)" * report["simulated"]
    table = result_table(("head", "ECE", "ECE by class", "log loss", "F1"), title)
    table.min_width = min(80, len(title))
    for name, head in report["heads"].items():
        pairs = [(head["before"][k], head["after"][k]) for k in ("ece", "ece_classwise", "nll", "f1")]
        table.add_row(name, *(f"{_number(before)} {_number(after)}" for before, after in pairs))
    console.print(table)
    console.print("Of each pair: before, after. Lower is better, but for F1.")
    for name in report.get("not_applied", {}):
        console.print(f"{name}: not applied, since its ECE would grow; it stays uncalibrated")
    for name in report.get("left_as_they_are", ()):
        console.print(f"{name}: left as it is, since fewer than two recordings here have labels of it")


def print_precisions(report: dict[str, Any]) -> None:
    """What float16 and int8 cost, per head, beside float32. Fits 80 columns."""
    from rtseg.precision.report import COLUMNS, head_rows

    console = plain_console()
    for name, entry in report["precisions"].items():
        verdict = "accepted" if entry["accepted"] else "not accepted"
        title = f"{report['bundle']} in {name}, {report['dataset']}, {report['split']}: {verdict}"
        title += " (simulated)" * report["simulated"]
        table = result_table([column.replace(" ", "\n") for column in COLUMNS], title)
        for row in head_rows(entry):
            table.add_row(*row)
        console.print(table)
    console.print("F1 and mAP: float32, then the other; differences: of probabilities, from float32's.")


def print_comparison(report: dict[str, Any]) -> None:
    """Differences of two bundles' scores, per head, with 95 % intervals. Fits 80 columns."""
    console = plain_console()
    names = [report[side]["bundle"] for side in ("ours", "theirs")]
    if names[0] == names[1]:
        # Two trainings of one recipe: the beginning of their hashes tells them apart.
        names = [f"{report[side]['bundle']} {report[side]['model'][:8]}" for side in ("ours", "theirs")]
    title = f"{names[0]} ahead of {names[1]} on {report['dataset']}, {report['split']}"
    title += " (simulated)" * report["simulated"]
    table = result_table(("head", "F1", "mAP", "videos"), title)
    for name, apart in report["heads"].items():
        figures = [_interval(apart[part], "difference", "+.3f") for part in ("f1", "map")]
        table.add_row(name, *figures, str(len(report["videos"][name])))
    console.print(table)
    console.print("95 % intervals over videos: one that holds 0 tells the two not apart.")
    for note in report["notes"]:
        console.print(note)


def _trust_table(scores: dict[str, Any]) -> Table:
    """Per head: intervals over videos, calibration error, share of errors near boundaries, and coverage."""
    table = result_table(("head", "F1 [95 %]", "mAP [95 %]", "ECE", "errors at\nbout edges", "kept\nif sure"))
    table.show_edge = table.pad_edge = False
    for name, interval in scores["intervals"].items():
        near, kept = scores["boundaries"][name], scores["abstention"][name]
        shares = [near["errors"], None if kept["below"] is None else kept["coverage"]]
        row = [_interval(interval[part], "value", ".2f") for part in ("f1", "map")]
        row += [_number(scores["calibration"][name]["ece"]), *("-" if s is None else f"{s:.0%}" for s in shares)]
        table.add_row(name, *row)
    return table


def print_latency(done: Replayed) -> None:
    """How long the answers of a replay took, end to end and inside the daemon."""
    table = Table(title=f"{len(done.predictions)} frames answered by model {done.model[:12]}")
    table.add_column("latency, µs")
    for column in ("p50", "p99", "p99.9", "max"):
        table.add_column(column, justify="right")
    for name, values in (("frame sent -> answer held", done.latency_ns), ("inside the daemon", done.daemon_ns)):
        known = values[values > 0] / 1e3
        points = [*np.percentile(known, (50, 99, 99.9)), known.max()] if len(known) else [float("nan")] * 4
        table.add_row(name, *(f"{p:,.0f}" for p in points))
    console = plain_console()
    console.print(table)
    counters = ", ".join(f"{name} {count}" for name, count in done.counters.items())
    console.print(f"stream: {counters}", soft_wrap=True)


def prediction_line(prediction: PredictionMessage) -> str:
    """One prediction as a JSON line; probabilities by class, or by place as long as nobody has said the classes."""
    probs: dict[str, dict[str, float] | list[float]] = {}
    for head, values in prediction.probs.items():
        rounded = [round(float(p), 4) for p in values]
        probs[head] = dict(zip(values.classes, rounded, strict=True)) if values.classes else rounded
    plain = {"stream": prediction.stream, "seq": prediction.seq, "label": prediction.label, "probs": probs}
    quality = int(prediction.quality)
    more = {"event": prediction.event, "unsure": prediction.unsure, "quality": quality}
    more |= {"quality_words": quality_words(quality), "t_source_ns": prediction.t_source_ns}
    return json.dumps(plain | more)


@contextmanager
def watch(quiet: bool) -> Iterator[Callable[[PredictionMessage], None] | None]:
    """A function to be called with every answer; the newest is shown on stderr, ten times a second.

    Where stderr is no terminal: a line where a bout of the first head begins. None where nothing is to be shown.
    """
    console = plain_console(stderr=True)
    if quiet:
        yield None
    elif not console.is_terminal:
        yield _print_bout
    else:
        from rich.live import Live

        newest: list[PredictionMessage] = []
        # Drawn when the screen is due, and by another thread: showing an answer must not delay the next.
        with Live(get_renderable=lambda: _shown(newest), console=console, refresh_per_second=10, transient=True):
            # In place, since the drawing thread looks at this very list.
            yield lambda prediction: newest.__setitem__(slice(None), [prediction])


def _shown(newest: list[PredictionMessage]) -> RenderableType:
    """A row a head: its decoded label, and the highest of its probabilities as a bar."""
    if not newest:
        return "waiting for the first answer"
    prediction = newest[0]
    table = Table(
        title=f"{prediction.stream}, frame {prediction.seq}", box=None, title_justify="left", padding=(0, 2, 0, 0)
    )
    for _ in range(4):
        table.add_column(no_wrap=True)
    heads = list(prediction.probs)
    for head in heads[:HEADS_SHOWN]:
        label = prediction.label[head]
        p = float(prediction.probs[head].max())
        table.add_row(Text(head, "dim"), Text(label, "bold"), ProgressBar(1.0, p, width=20), f"{p:.2f}")
    if len(heads) > HEADS_SHOWN:
        table.add_row(Text(f"and {len(heads) - HEADS_SHOWN} more", "dim"))
    return table


def _print_bout(prediction: PredictionMessage) -> None:
    """A line where a bout of the first head begins: a log would otherwise get a line for every frame."""
    head = next(iter(prediction.probs))
    if head in prediction.event:
        line = f"{prediction.stream}, frame {prediction.seq}: {head} {prediction.label[head]}"
        print(f"{line}  (p {prediction.probs[head].max():.2f})", file=sys.stderr, flush=True)


def _interval(part: dict[str, float | None], key: str, how: str) -> str:
    value, low, high = part[key], part["low"], part["high"]
    return "-" if value is None or low is None or high is None else f"{value:{how}} [{low:{how}}, {high:{how}}]"


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
