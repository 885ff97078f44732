"""What `rtseg check` found, on the screen: counts of every head in every split, warnings and errors."""

from __future__ import annotations

from rich.text import Text

from rtseg.checks.check import DatasetReport
from rtseg.terminal.layout import plain_console, result_table

STYLES = {"error": "bold red", "warning": "yellow"}


def print_report(report: DatasetReport) -> None:
    """Counts by class, masked frames and why, the readers' warnings, and what speaks against training."""
    console = plain_console()
    summary = report.summary
    splits = list(summary.splits)
    columns = ["head, class", *(column for split in splits for column in (f"{split}\nframes", "\nbouts"))]
    table = result_table(columns, f"dataset {summary.name}")
    for rule in summary.rules:
        counts = [summary.counts(rule, split) for split in splits]
        table.add_row(rule.head.name, *("" for _ in splits for _ in range(2)), style="bold")
        for c, name in enumerate(rule.head.classes):
            cells = [cell for one in counts for cell in (f"{one.frames[c]:,}", f"{one.bouts[c]:,}")]
            table.add_row(f"  {name}", *cells)
        for why in dict.fromkeys(why for one in counts for why in one.masked):
            cells = [cell for one in counts for cell in (f"{one.masked.get(why, 0):,}", "")]
            table.add_row(f"  masked, {why}", *cells, style="dim")
        videos = [cell for one in counts for cell in (f"{one.labelled} of {one.recordings}", "")]
        table.add_row("  recordings with labels", *videos, style="dim")
    console.print(table)
    for split, recordings in summary.splits.items():
        frames = sum(recording.n_frames for recording in recordings)
        minutes = frames / report.fps / 60
        number = "1 recording" if len(recordings) == 1 else f"{len(recordings)} recordings"
        console.print(f"{split}: {number}, {frames:,} frames, {minutes:.1f} min")
    lines = [("warning", text) for text in report.warnings]
    lines += [(finding.severity, finding.text) for finding in report.findings]
    # Errors last: that is where one looks when a command ends.
    for severity, text in sorted(lines, key=lambda line: line[0] == "error"):
        console.print(Text.assemble((f"{severity}: ", STYLES[severity]), text), soft_wrap=True)
    if report.is_trainable:
        console.print("nothing speaks against training on it" if not lines else "no error: it can be trained on")
