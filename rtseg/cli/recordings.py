"""The commands about files: your own, for a new project, and those that `rtseg serve --record` writes.

Heavy imports happen inside.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from rtseg.cli.app import Fps, Out, app

Mcap = Annotated[Path, typer.Argument(help="Recording of `rtseg serve --record`.", show_default=False)]


Paths = Annotated[
    list[Path] | None, typer.Argument(help="A folder, or one pose file and one label file.", show_default=".")
]
Name = Annotated[str | None, typer.Option("--name", help="Of the project and its two files; default: the folder's.")]
Rate = Annotated[float | None, typer.Option("--fps", help="Frames per second of the videos.")]
TracksToLearn = Annotated[
    list[str] | None, typer.Option("--track", help="Learn this label track; may come again. Default: all that can be.")
]
FramesWithoutLabel = Annotated[
    str | None, typer.Option("--unlabelled", help="Frames without a label: negatives, or masked.")
]
FirstFrame = Annotated[int | None, typer.Option("--first-frame", min=0, max=1, help="Where label tables count from.")]
LastIncluded = Annotated[
    bool | None, typer.Option("--last-included/--last-excluded", help="Whether a bout's stop is its last frame.")
]
Axis = Annotated[str | None, typer.Option("--axis", help="Two keypoints that give the heading.", metavar="REAR,FRONT")]
HeldOut = Annotated[float | None, typer.Option("--held-out", help="Share of the recordings that is held out.")]
Yes = Annotated[bool, typer.Option("--yes", help="Ask nothing: take what is proposed.")]


@app.command()
def inspect(
    files: Annotated[list[Path], typer.Argument(help="Files of poses and of labels.", show_default=False)],
    fps: Fps = None,
    picture: Annotated[Path | None, typer.Option("--picture", help="Folder for a picture of each file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Everything as JSON.")] = False,
) -> None:
    """Say what files of poses or labels hold and what looks odd; name both, and labels are laid over their poses."""
    from rtseg.inspection.files import inspect_files
    from rtseg.inspection.picture import draw_reports
    from rtseg.terminal.file_report import print_file_report

    reports = inspect_files(files, fps)
    if as_json:
        typer.echo(json.dumps([report.to_dict() for report in reports], indent=1))
    else:
        for report in reports:
            print_file_report(report)
    for path in draw_reports(reports, picture) if picture is not None else ():
        typer.echo(f"picture: {path}", err=as_json)
    if any(report.problem for report in reports):
        raise typer.Exit(1)


@app.command(name="init")
def init_project(
    paths: Paths = None,
    out: Annotated[Path, typer.Option("--out", help="Folder of the two files.")] = Path(),
    name: Name = None,
    fps: Rate = None,
    track: TracksToLearn = None,
    unlabelled: FramesWithoutLabel = None,
    first_frame: FirstFrame = None,
    last_included: LastIncluded = None,
    axis: Axis = None,
    held_out: HeldOut = None,
    yes: Yes = False,
) -> None:
    """Write a dataset file and a recipe for your recordings: finds pairs, animals, behaviours and a split, and asks."""
    from rtseg.project.initialize import initialize_project, wishes_of
    from rtseg.terminal.project_table import print_project
    from rtseg.terminal.questions import asking

    wishes = wishes_of(name, fps, track, unlabelled, first_frame, last_included, axis, held_out)
    with asking("reading", ask=not yes) as (ask, progress):
        done = initialize_project(paths or [Path()], out, wishes, ask, progress)
    print_project(*done)


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
        if done.trigger_files:
            typer.echo(f"{done.name}: triggers -> {', '.join(file.name for file in done.trigger_files)}")
