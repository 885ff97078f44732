"""The commands for what `rtseg serve --record` writes (docs/recording.md). Heavy imports happen inside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rtseg.cli.app import Out, app

Mcap = Annotated[Path, typer.Argument(help="Recording of `rtseg serve --record`.", show_default=False)]


@app.command()
def recover(
    recording: Mcap,
    out: Annotated[Path | None, typer.Option("--out", help="The copy; default: NAME.recovered.mcap.")] = None,
) -> None:
    """Repair a recording that was cut off or damaged, in a copy; the original is not touched."""
    from rtseg.recorder.recover import recover_recording

    done = recover_recording(recording, out)
    if done.copy is None:
        typer.echo(f"{recording} is whole: {done.messages} messages, nothing to recover")
        return
    typer.echo(f"{recording}: {done.problem or 'its last bytes were not written'}")
    memory = f", {done.from_memory} bytes of it from memory" if done.from_memory else ""
    typer.echo(f"{done.messages} messages -> {done.copy}{memory}; {done.lost} bytes were no records")


@app.command()
def export(
    recording: Mcap,
    out: Out,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
) -> None:
    """Write the predictions in a recording as CSV, as they were published: one row per frame, and one per bout."""
    from rtseg.playback.export import export_recording

    for number, done in enumerate(export_recording(recording, out, overwrite=overwrite)):
        if done.damaged and not number:
            typer.echo(f"{recording}: warning: {done.damaged} damaged messages are left out", err=True)
        if done.other:
            typer.echo(f"{done.name}: warning: {done.other} answers of another model are left out", err=True)
        typer.echo(f"{done.name}: {len(done.predictions)} frames -> {done.frames_file}, {done.bouts_file.name}")
