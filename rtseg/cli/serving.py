"""The commands that use a model: live and on recordings.

Each loads, builds, calls one function and prints; heavy imports happen inside.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rtseg.cli.app import (
    AnimalNames,
    BundlePath,
    EngineName,
    Fps,
    HeadNames,
    KeyFile,
    KeypointNames,
    NamesFile,
    Out,
    PxPerMm,
    Quiet,
    Settings,
    above_zero,
    app,
    make_folder_of,
    name_map,
    print_progress,
    print_warnings,
)
from rtseg.errors import RtsegError, ServeError

if TYPE_CHECKING:
    from rtseg.config import ServeSettings
    from rtseg.inference.annotate import Reading
    from rtseg.inference.classifier import Classifier
    from rtseg.playback.replay import Replayed
    from rtseg.recordings.naming import NameMap
    from rtseg.recordings.recording import Recording


@app.command()
def annotate(
    bundle: BundlePath,
    recordings: Annotated[list[Path], typer.Argument(help="Pose files.", show_default=False)],
    out: Out,
    fps: Fps = None,
    engine: EngineName = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
    skip_existing: Annotated[bool, typer.Option("--skip-existing", help="Leave out what is done already.")] = False,
    keep_going: Annotated[bool, typer.Option("--keep-going", help="Go on behind a file with an error.")] = False,
    workers: Annotated[int, typer.Option(help="Processes that share the files.", min=1)] = 1,
    resample: Annotated[bool, typer.Option("--resample", help="Resample recordings of other frame rates.")] = False,
    identity: Annotated[str, typer.Option(help="Where the tracker mixed up animals: flag, swap or reset.")] = "flag",
    px_per_mm: PxPerMm = None,
    head: HeadNames = None,
    keypoint: KeypointNames = None,
    animal: AnimalNames = None,
    names: NamesFile = None,
) -> None:
    """Write a model's answers for recordings: one row per frame, and one row per bout."""
    from rtseg.inference.annotate import Reading
    from rtseg.inference.classifier import load

    opened = partial(load, bundle, engine, identity=identity, heads=tuple(head or ()))
    reading = Reading(fps, resample, name_map(names, keypoint, animal), px_per_mm)
    _annotate(opened, recordings, out, reading, _existing(overwrite, skip_existing), workers, keep_going)


@app.command()
def serve(
    bundle: BundlePath,
    config_file: Annotated[Path | None, typer.Option("--config", help="Settings of the daemon (TOML).")] = None,
    set_: Settings = None,
    engine: Annotated[str | None, typer.Option("--engine", help="auto, numba, cuda, tensorrt, onnx or torch.")] = None,
    frames: Annotated[str | None, typer.Option(help="Address for frames.")] = None,
    predictions: Annotated[str | None, typer.Option(help="Address for predictions.")] = None,
    keys: Annotated[str | None, typer.Option(help="Folder of keys: every connection needs one (`rtseg keys`).")] = None,
    record: Annotated[str | None, typer.Option(help="Folder for recordings (MCAP), one file per run.")] = None,
    triggers: Annotated[str | None, typer.Option(help="File of triggers (TOML); it starts disarmed.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that share the streams.")] = None,
    head: HeadNames = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue streams where a killed daemon left off.")] = False,
) -> None:
    """Serve a bundle: frames in over one ZeroMQ socket, predictions out over another, until SIGINT or SIGTERM."""
    given: dict[str, object] = {"engine": engine, "frames": frames, "predictions": predictions, "keys": keys}
    given |= {"record": record, "resume": resume, "workers": workers, "heads": head, "triggers": triggers}
    try:
        is_whole = _serve(bundle, _serve_settings(config_file, set_ or [], given))
    except RtsegError as error:
        # Whatever kept it from serving: exit code 3, which supervisors tell from a crash.
        raise ServeError(str(error)) from error
    if not is_whole:
        raise typer.Exit(1)


@app.command()
def replay(
    recording: Annotated[Path, typer.Argument(help="Pose file.", show_default=False)],
    to: Annotated[str, typer.Option("--to", help="Frames address of a running daemon.")] = "tcp://127.0.0.1:5757",
    speed: Annotated[str, typer.Option(help="Multiple of the recording's frame rate, or 'max'.")] = "1",
    loop: Annotated[bool, typer.Option("--loop", help="Begin again at its end, as a new trial, until Ctrl-C.")] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Write the answers to this CSV file.")] = None,
    name: Annotated[str | None, typer.Option(help="Sequence of a CalMS21 file.")] = None,
    stream: Annotated[str | None, typer.Option(help="Stream name; default: the recording's.")] = None,
    fps: Fps = None,
    keypoint: KeypointNames = None,
    animal: AnimalNames = None,
    names: NamesFile = None,
    px_per_mm: PxPerMm = None,
    quiet: Quiet = False,
    key: KeyFile = None,
    verify: Annotated[bool, typer.Option("--verify", help="Compute an .mcap's answers again, and compare.")] = False,
    bundle: Annotated[Path | None, typer.Option(help="For --verify: the model's folder.")] = None,
) -> None:
    """Play a recording to a daemon as a camera would, and show its answers as they come."""
    if verify:
        return _verify(recording, bundle)
    times, source = _speed(speed), _source(recording, fps, name, name_map(names, keypoint, animal))
    make_folder_of(out)
    while loop:
        _play(source, to, times, stream, key, px_per_mm, quiet=quiet)
    _show_answers(_play(source, to, times, stream, key, px_per_mm, quiet=quiet), source, out)


@app.command()
def listen(
    streams: Annotated[list[str] | None, typer.Argument(help="Stream names; none = all.")] = None,
    address: Annotated[str, typer.Option("--from", help="Predictions address.")] = "tcp://127.0.0.1:5758",
    bouts: Annotated[bool, typer.Option("--bouts", help="Only where a bout begins.")] = False,
    timeout: Annotated[
        float | None, typer.Option(help="Stop after so many seconds of silence.", callback=above_zero)
    ] = None,
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
    bundle: BundlePath,
    only: Annotated[str | None, typer.Option(help="Parts, e.g. engine,wire; 'load' runs only if named.")] = None,
    seconds: Annotated[float, typer.Option(help="For each part but 'load'.", callback=above_zero)] = 10.0,
    load_seconds: Annotated[float, typer.Option(help="For 'load', run twice.", callback=above_zero)] = 60.0,
    load_streams: Annotated[int, typer.Option(help="Streams of 'load'.")] = 100,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the result to this file.")] = None,
) -> None:
    """Time features, engine, session and messages over the wire, each next to its lower bound in the same run."""
    from rtseg.bench import DEFAULT_PARTS, print_result
    from rtseg.bench import bench as run

    parts = only.split(",") if only else DEFAULT_PARTS
    make_folder_of(json_file)
    result = run(
        bundle, only=parts, seconds=seconds, load_seconds=load_seconds, load_streams=load_streams, json_file=json_file,
        progress=print_progress,
    )  # fmt: skip
    print_result(result)


def _existing(overwrite: bool, skip: bool) -> str:
    if overwrite and skip:
        raise typer.BadParameter("expected --overwrite or --skip-existing, got both")
    return "overwrite" if overwrite else "skip" if skip else "refuse"


def _annotate(
    open_classifier: Callable[[], Classifier],
    recordings: list[Path],
    out: Path,
    reading: Reading,
    existing: str,
    workers: int,
    keep_going: bool,
) -> None:
    """Annotate and show what becomes of each file; exit status 1 where one failed."""
    from rtseg.annotation.many import annotate_files
    from rtseg.inference.annotate import plan_sources
    from rtseg.terminal.annotations import show_outcomes

    out.mkdir(parents=True, exist_ok=True)
    sources = plan_sources(recordings, out)
    outcomes = annotate_files(open_classifier, sources, reading, existing, workers=workers, keep_going=keep_going)
    if not show_outcomes(outcomes, len(sources)):
        raise typer.Exit(1)


def _serve_settings(file: Path | None, changes: list[str], given: dict[str, object]) -> ServeSettings:
    """The daemon's settings: the file's, if there is one, and what the command line changes of them.

    changes: of --set. given: other options by their settings' names; None or empty = not given, as the file says.
    """
    from rtseg import config

    # After --set: an option of its own name wins. As JSON, which is TOML for texts, numbers and lists.
    overrides = [*changes, *(f"{key}={json.dumps(value)}" for key, value in given.items() if value)]
    if file:
        return config.load_settings(file, config.ServeSettings, overrides)
    return config.from_plain({}, config.ServeSettings, overrides)


def _serve(bundle: Path, settings: ServeSettings) -> bool:
    """Serve until a signal: in this process, or in several. False where streams or a recording's end were lost."""
    from rtseg.engine.select import log_unused_library
    from rtseg.inference.classifier import load
    from rtseg.serve.daemon import ended_in_order
    from rtseg.serve.daemon import serve as run
    from rtseg.serve.front import serve_with_workers
    from rtseg.system.log_setup import background

    with background(settings.log_format):
        # Within the log's set-up, and once: the workers do not repeat it.
        log_unused_library(settings.engine)
        if settings.workers > 1:
            # The workers load the bundle themselves.
            return serve_with_workers(bundle, settings)
        classifier = load(bundle, settings.engine, settings.slots, settings.identity, settings.heads)
        return ended_in_order(run(classifier, settings))


def _verify(recording: Path, bundle: Path | None) -> None:
    """`rtseg replay --verify`: exit status 1 where an answer differs, a message is damaged, or nothing is compared."""
    from rtseg.playback.verify import verify_recording

    found = verify_recording(recording, bundle)
    compared = f"{found.predictions} predictions and {found.snapshots} snapshots of {found.frames} frames compared"
    compared += f", and {found.decisions} decisions of triggers" if found.decisions else ""
    if found.problem:
        print_progress(f"{recording}: {found.problem}; {found.unanswered} frames at its end are without an answer")
    if found.uncompared:
        print_progress(
            f"{found.uncompared} predictions cannot be compared: frames before them are missing, or another model gave "
            "them"
        )
    if found.damaged:
        print_progress(f"{recording}: {found.damaged} messages are damaged. The first: {found.damage}")
    if found.differences:
        typer.echo(f"{compared}: {found.differences} differ. The first: {found.first}")
    elif not found.predictions:
        typer.echo(f"{compared}: nothing could be compared, so nothing is known of its answers")
    else:
        typer.echo(f"{compared}: all the same, bit for bit{_UNCOMPARED}")
    if found.differences or found.damaged or not found.predictions:
        raise typer.Exit(1)


_UNCOMPARED = " (not compared: the flag 'late', which depends on the clock, and answers missing at the file's end)"


def _source(file: Path, fps: float | None, name: str | None, names: NameMap) -> Recording:
    """The recording to play, its animals and keypoints called as the model calls them."""
    from rtseg.recordings.open import read_recording

    return names.rename(read_recording(file, fps=fps, name=name))


def _play(
    source: Recording,
    to: str,
    speed: float | None,
    stream: str | None,
    key: Path | None,
    px_per_mm: float | None,
    *,
    quiet: bool,
) -> Replayed:
    """Play the recording, its answers on the screen as they come."""
    from rtseg.playback.replay import replay as play
    from rtseg.terminal.tables import watch

    with watch(quiet) as show:
        return play(source, to, speed=speed, stream=stream, on_prediction=show, key=key, px_per_mm=px_per_mm)


def _show_answers(done: Replayed, source: Recording, file: Path | None) -> None:
    """Print how long the answers took and what the reader warned of, and write the answers to the file, if any."""
    from rtseg.inference.predictions import write_predictions
    from rtseg.terminal.tables import print_latency

    # With the result, not before: what a daemon refuses is told in one line.
    print_warnings(source.warnings)
    if file:
        write_predictions(done.predictions, file, source.fps)
    print_latency(done)


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
