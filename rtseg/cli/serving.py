"""The commands that use a model: live and on recordings.

Each loads, builds, calls one function and prints; heavy imports happen inside.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated

import typer

from rtseg.cli.app import Bundle, EngineName, Fps, HeadNames, KeyFile, Out, Quiet, Settings, app
from rtseg.errors import RtsegError, ServeError


@app.command()
def annotate(
    bundle: Bundle,
    recordings: Annotated[list[Path], typer.Argument(help="Pose files.", show_default=False)],
    out: Out,
    fps: Fps = None,
    engine: EngineName = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
    resample: Annotated[bool, typer.Option("--resample", help="Take recordings of other frame rates.")] = False,
    identity: Annotated[str, typer.Option(help="Where animals were mixed up: flag, swap or reset.")] = "flag",
    head: HeadNames = None,
) -> None:
    """Write the model's answers about recordings: a row a frame, and a row a bout."""
    from rtseg.inference.annotate import annotate as run
    from rtseg.inference.classifier import load

    classifier = load(bundle, engine, identity=identity, heads=head or ())
    for done in run(classifier, recordings, out, fps=fps, overwrite=overwrite, resample=resample):
        for warning in done.warnings:
            typer.echo(f"{done.name}: warning: {warning}", err=True)
        typer.echo(f"{done.name}: {len(done.predictions)} frames -> {done.frames_file}, {done.bouts_file.name}")


@app.command()
def serve(
    bundle: Bundle,
    config_file: Annotated[Path | None, typer.Option("--config", help="Settings of the daemon (TOML).")] = None,
    set_: Settings = None,
    engine: Annotated[str | None, typer.Option("--engine", help="auto, numba, cuda, tensorrt, onnx or torch.")] = None,
    frames: Annotated[str | None, typer.Option(help="Address for frames.")] = None,
    predictions: Annotated[str | None, typer.Option(help="Address for predictions.")] = None,
    keys: Annotated[str | None, typer.Option(help="Folder of keys: every connection needs one (`rtseg keys`).")] = None,
    record: Annotated[str | None, typer.Option(help="Folder for recordings (MCAP), one file a run.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that share the streams.")] = None,
    head: HeadNames = None,
    resume: Annotated[bool, typer.Option("--resume", help="Streams go on where a killed daemon left them.")] = False,
) -> None:
    """Serve a bundle: frames in over one ZeroMQ socket, predictions out over another, until SIGINT or SIGTERM."""
    from rtseg import config
    from rtseg.config import ServeSettings
    from rtseg.engine.select import log_unused_library
    from rtseg.inference.classifier import load
    from rtseg.serve.daemon import serve as run
    from rtseg.serve.front import serve_with_workers
    from rtseg.system.log_setup import background

    given: dict[str, object] = {"engine": engine, "frames": frames, "predictions": predictions, "keys": keys}
    given |= {"record": record, "resume": resume, "workers": workers, "heads": head}
    chosen = [f"{key}={json.dumps(value)}" for key, value in given.items() if value]
    overrides = [*(set_ or ()), *chosen]
    try:
        if config_file:
            settings = config.load(config_file, ServeSettings, overrides)
        else:
            settings = config.from_plain({}, ServeSettings, overrides)
        with background(settings.log_format):
            log_unused_library(settings.engine)
            if settings.workers > 1:
                return serve_with_workers(bundle, settings)
            run(load(bundle, settings.engine, settings.slots, settings.identity, settings.heads), settings)
    except RtsegError as error:
        raise ServeError(str(error)) from error


@app.command()
def replay(
    recording: Annotated[Path, typer.Argument(help="Pose file.", show_default=False)],
    to: Annotated[str, typer.Option("--to", help="Frames address of a running daemon.")] = "tcp://127.0.0.1:5757",
    speed: Annotated[str, typer.Option(help="Times the recording's frame rate, or 'max'.")] = "1",
    out: Annotated[Path | None, typer.Option("--out", help="Write the answers to this CSV file.")] = None,
    name: Annotated[str | None, typer.Option(help="Sequence of a CalMS21 file.")] = None,
    stream: Annotated[str | None, typer.Option(help="Stream name; default: the recording's.")] = None,
    fps: Fps = None,
    quiet: Quiet = False,
    key: KeyFile = None,
    verify: Annotated[bool, typer.Option("--verify", help="Of an .mcap: step it again and compare every bit.")] = False,
    bundle: Annotated[Path | None, typer.Option(help="For --verify: the model's folder.")] = None,
) -> None:
    """Play a recording to a daemon as a camera would, and show its answers as they come."""
    if verify:
        from rtseg.cli.recordings import verify as compare

        return compare(recording, bundle)
    from rtseg.inference.predictions import write_predictions
    from rtseg.playback.replay import replay as play
    from rtseg.recordings.open import read_recording
    from rtseg.terminal.tables import print_latency, watch

    times = _speed(speed)
    source = read_recording(recording, fps=fps, name=name)
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
    with watch(quiet) as show:
        done = play(source, to, speed=times, stream=stream, on_prediction=show, key=key)
    if out:
        write_predictions(done.predictions, out)
    print_latency(done)


@app.command()
def listen(
    streams: Annotated[list[str] | None, typer.Argument(help="Stream names; none = all.")] = None,
    address: Annotated[str, typer.Option("--from", help="Predictions address.")] = "tcp://127.0.0.1:5758",
    bouts: Annotated[bool, typer.Option("--bouts", help="Only where a bout begins.")] = False,
    timeout: Annotated[float | None, typer.Option(help="Stop after so many seconds of silence.")] = None,
    key: KeyFile = None,
) -> None:
    """Print predictions as they are published, one JSON line each."""
    from rtseg.client import Subscriber
    from rtseg.terminal.tables import prediction_line

    with Subscriber(address, streams or (), timeout_s=timeout, key=key) as subscriber:
        for prediction in subscriber:
            if prediction.event or not bouts:
                typer.echo(prediction_line(prediction))


@app.command()
def bench(
    bundle: Bundle,
    only: Annotated[str | None, typer.Option(help="Parts, e.g. engine,wire; 'load' runs only if named.")] = None,
    seconds: Annotated[float, typer.Option(help="For each part but 'load'.")] = 10.0,
    load_seconds: Annotated[float, typer.Option(help="For 'load', run twice.")] = 60.0,
    load_streams: Annotated[int, typer.Option(help="Streams of 'load'.")] = 100,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the result to this file.")] = None,
) -> None:
    """Time features, engine, session and the way over the wire, each beside its floor in the same run."""
    from rtseg.bench import DEFAULT_PARTS, print_result
    from rtseg.bench import bench as run

    parts = only.split(",") if only else DEFAULT_PARTS
    if json_file:
        json_file.parent.mkdir(parents=True, exist_ok=True)
    result = run(
        bundle,
        only=parts,
        seconds=seconds,
        load_seconds=load_seconds,
        load_streams=load_streams,
        json_file=json_file,
        progress=lambda name: typer.echo(name, err=True),
    )
    print_result(result)


def _speed(text: str) -> float | None:
    if text == "max":
        return None
    try:
        times = float(text)
    except ValueError:
        times = math.nan
    if not 0 < times < math.inf:
        raise typer.BadParameter(f"expected a number above 0 or 'max', got {text!r}")
    return times
