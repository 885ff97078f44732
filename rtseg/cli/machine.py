"""The command that looks at the machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rtseg.cli.app import app


@app.command()
def doctor(
    bundle: Annotated[Path | None, typer.Argument(help="Also try the engines on this bundle.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="All findings as JSON.")] = False,
) -> None:
    """What this machine has for serving, which engine `auto` takes here and why, and what would make it better."""
    from rtseg.doctor import examine, print_report

    report = examine(bundle)
    if as_json:
        typer.echo(report.to_json())
    else:
        print_report(report)
