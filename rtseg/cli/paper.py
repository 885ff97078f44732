"""The command that trains and compares every system of the paper."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from rtseg.cli.app import Out, Root, Settings, app, training_packages
from rtseg.errors import RtsegError

DATA = "Folder of CalMS21's official files, one that `rtseg simulate` wrote, or a dataset file (TOML)."


@app.command()
def paper(
    data: Annotated[Path, typer.Option("--data", help=DATA)],
    out: Out,
    seeds: Annotated[int, typer.Option(help="Training runs of each system, with seeds of their own.")] = 5,
    root: Root = None,
    recipe: Annotated[Path | None, typer.Option(help="Of rtseg's own systems, as in engines/.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="A table or row, e.g. II or II/tcn (repeatable).")] = None,
    hours: Annotated[float | None, typer.Option(help="Begin no training after so many; go on another day.")] = None,
    epochs: Annotated[int | None, typer.Option(help="At most so many epochs.", min=1)] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Small networks and short trainings: a trial.")] = False,
    allow_other_counts: Annotated[
        bool, typer.Option("--allow-other-counts", help="Accept altered CalMS21 files.")
    ] = False,
    set_: Settings = None,
) -> None:
    """Train every system of the paper and print Tables I to V next to its numbers; an interrupted run resumes."""
    from rtseg.paper.tables import print_report
    from rtseg.terminal.progress import comparing

    with training_packages():
        from rtseg.paper.plan import Options
        from rtseg.paper.run import Given, run_paper
    options = Options(only=tuple(only or ()), epochs=epochs, quick=quick, overrides=tuple(set_ or ()))
    given = Given(data, root, recipe, allow_other_counts)
    with comparing() as (event, say):
        report = run_paper(given, out, options, seeds=seeds, hours=hours, say=say, event=event)
    print_report(report)
    _require_all(report)  # after the report: what was trained is shown all the same


def _require_all(report: Mapping[str, Any]) -> None:
    """Raise RtsegError, for the exit code 1, where trainings failed."""
    if report["failed"]:
        n = len(report["failed"])
        which = "1 training" if n == 1 else f"{n} trainings"
        raise RtsegError(f"{which} failed, see above; the same command tries again what might come out otherwise")
