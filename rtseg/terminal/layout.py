"""What every command's output has in common: names stand as they are, and no number is cut."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table


def plain_console(*, stderr: bool = False) -> Console:
    """A console that shows text as it is: rich would take the end of a behaviour `rear [wall]` for a style."""
    return Console(stderr=stderr, markup=False, highlight=False)


def result_table(columns: Sequence[str], title: str = "", n_names: int = 1) -> Table:
    """A table of results. The first `n_names` columns hold names, and a long one goes on in a second line; the others
    hold numbers, which are never broken. Print it with a `plain_console`.
    """
    table = Table(title=title or None, box=SIMPLE, title_justify="left", padding=(0, 1, 0, 0))
    for place, column in enumerate(columns):
        is_name = place < n_names
        table.add_column(column, justify="left" if is_name else "right", no_wrap=not is_name, overflow="fold")
    return table
