"""What `rtseg trigger check` measured, on the screen."""

from __future__ import annotations

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from rtseg.experiment.check import Checked
from rtseg.experiment.check_page import lateness, off_rows, way_rows


def print_check(checked: Checked) -> None:
    """Times, fail-off and what should not be."""
    console = Console()
    ways = Table(title="from a frame to a line, ms", box=SIMPLE, title_justify="left", padding=(0, 1, 0, 0))
    for column in ("sink", "lines", "way", "events", "median", "99 %", "longest"):
        ways.add_column(column, justify="left" if column in ("sink", "lines", "way") else "right")
    for row in way_rows(checked):
        ways.add_row(*row)
    console.print(ways)
    title = f"off by itself, after the last renewal; the lease is {checked.lease_ms:.1f} ms"
    off = Table(title=title, box=SIMPLE, title_justify="left", padding=(0, 1, 0, 0))
    for column in ("sink", "what was done", "off after, ms", "in time"):
        off.add_column(column)
    for row in off_rows(checked):
        off.add_row(*row)
    console.print(off)
    console.print(lateness(checked))
    for problem in checked.problems:
        console.print(f"[bold red]{problem}[/]")
    if not checked.problems:
        console.print("everything was as it should be")
