"""The commands. Each loads, builds, calls one function and prints; heavy imports happen inside.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 could not start: no such bundle, engine, daemon or address, keypoints
that do not match, and whatever keeps `serve` from starting. Logging is set up here and nowhere else.
"""

from __future__ import annotations

import json
import logging
import math
import sys
from pathlib import Path
from typing import Annotated

import typer

from rtseg.errors import BundleError, EngineError, RtsegError, ServeError, SkeletonError, needs_extra

NOT_STARTED = (ServeError, BundleError, EngineError, SkeletonError)
"""Serving that could not start is told apart from work that failed."""

app = typer.Typer(
    name="rtseg",
    help="Tells live, from tracked keypoints, what animals are doing.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Bundle = Annotated[Path, typer.Argument(help="Folder of a bundle, e.g. engines/rats58.", show_default=False)]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change a setting: section.key=value (repeatable).", metavar="KEY=VALUE"),
]
EngineName = Annotated[str, typer.Option("--engine", help="auto, numba, onnx or torch.")]
Root = Annotated[
    Path | None, typer.Option("--root", help="Folder of the recordings, instead of the dataset file's own.")
]
Fps = Annotated[float | None, typer.Option("--fps", help="Frames per second, for files that carry none (default 30).")]
Out = Annotated[Path, typer.Option("--out", help="Folder to write to.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing but the result.")]


@app.command()
def simulate(
    out: Out,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 0,
    sequences: Annotated[str, typer.Option(help="Training sequences of Tasks 1, 2 and 3.")] = "20,10,7",
    minutes: Annotated[float, typer.Option(help="Length of each sequence.")] = 3.0,
) -> None:
    """Write simulated mice in CalMS21's official layout, with a dataset file for training."""
    from rtseg.progress import counting
    from rtseg.simulate.files import simulate_dataset

    counts = _three(sequences)
    with counting("simulating") as progress:
        path = simulate_dataset(out, seed=seed, sequences=counts, minutes=minutes, progress=progress)
    typer.echo(f"simulated recordings, described by {path}")


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(help="Recipe (TOML).", show_default=False)],
    out: Annotated[Path, typer.Option("--out", help="Folder of the bundle to write.")],
    root: Root = None,
    set_: Settings = None,
    runs: Annotated[Path | None, typer.Option(help="Folder for checkpoints; default: OUT.run")] = None,
) -> None:
    """Train a model from a recipe; a killed run goes on where its last checkpoint was."""
    from rtseg.progress import training

    try:
        from rtseg.training.export import train_bundle
    except ModuleNotFoundError as error:
        raise needs_extra(str(error.name), "train", "training") from None

    with training() as (report, say):
        folder = runs or out.with_name(out.name + ".run")
        bundle = train_bundle(
            recipe, out, root=root, overrides=tuple(set_ or ()), runs=folder, report=report, progress=say
        )
    from rtseg.report import print_scores

    print_scores(bundle.scores["validation"], f"{bundle.name}, validation recordings", bundle.simulated)
    typer.echo(f"bundle written to {out}")


@app.command()
def evaluate(
    bundle: Bundle,
    dataset: Annotated[Path, typer.Argument(help="Dataset file (TOML).", show_default=False)],
    root: Root = None,
    split: Annotated[str, typer.Option(help="Which recordings of the dataset.")] = "validation",
    engine: EngineName = "auto",
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all scores to this file.")] = None,
) -> None:
    """Score a bundle on labelled recordings, through the Session that serves."""
    from rtseg.classifier import load
    from rtseg.evaluate import evaluate as score
    from rtseg.recordings.dataset import load_dataset
    from rtseg.report import print_scores

    if json_file:
        json_file.parent.mkdir(parents=True, exist_ok=True)
    scores = score(load(bundle, engine), load_dataset(dataset, root), split, lambda name: typer.echo(name, err=True))
    if json_file:
        json_file.write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")
    print_scores(scores, f"{scores['bundle']} on {scores['dataset']}, {split}", scores["simulated"])


@app.command()
def annotate(
    bundle: Bundle,
    recordings: Annotated[list[Path], typer.Argument(help="Pose files.", show_default=False)],
    out: Out,
    fps: Fps = None,
    engine: EngineName = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
) -> None:
    """Write the model's answers about recordings: a row a frame, and a row a bout."""
    from rtseg.annotate import annotate as run
    from rtseg.classifier import load

    for done in run(load(bundle, engine), recordings, out, fps=fps, overwrite=overwrite):
        for warning in done.warnings:
            typer.echo(f"{done.name}: warning: {warning}", err=True)
        typer.echo(f"{done.name}: {len(done.predictions)} frames -> {done.frames_file}, {done.bouts_file.name}")


@app.command()
def serve(
    bundle: Bundle,
    config_file: Annotated[Path | None, typer.Option("--config", help="Settings of the daemon (TOML).")] = None,
    set_: Settings = None,
    frames: Annotated[str | None, typer.Option(help="Address for frames.")] = None,
    predictions: Annotated[str | None, typer.Option(help="Address for predictions.")] = None,
) -> None:
    """Serve a bundle: frames in over one ZeroMQ socket, predictions out over another, until SIGINT or SIGTERM."""
    from rtseg import config
    from rtseg.classifier import load
    from rtseg.config import ServeSettings
    from rtseg.serve.daemon import serve as run

    chosen = [f"{k}={json.dumps(v)}" for k, v in (("frames", frames), ("predictions", predictions)) if v]
    overrides = [*(set_ or ()), *chosen]
    try:
        if config_file:
            settings = config.load(config_file, ServeSettings, overrides)
        else:
            settings = config.from_plain({}, ServeSettings, overrides)
        run(load(bundle, settings.engine, settings.capacity), settings)
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
) -> None:
    """Play a recording to a daemon as a camera would, and show its answers as they come."""
    from rtseg.predictions import write_predictions
    from rtseg.recordings.open import read_recording
    from rtseg.replay import replay as play
    from rtseg.report import print_latency, watch

    times = _speed(speed)
    source = read_recording(recording, fps=fps, name=name)
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
    with watch(quiet) as show:
        done = play(source, to, speed=times, stream=stream, on_prediction=show)
    if out:
        write_predictions(done.predictions, out)
    print_latency(done)


@app.command()
def listen(
    streams: Annotated[list[str] | None, typer.Argument(help="Stream names; none = all.")] = None,
    address: Annotated[str, typer.Option("--from", help="Predictions address.")] = "tcp://127.0.0.1:5758",
    bouts: Annotated[bool, typer.Option("--bouts", help="Only where a bout begins.")] = False,
    timeout: Annotated[float | None, typer.Option(help="Stop after so many seconds of silence.")] = None,
) -> None:
    """Print predictions as they are published, one JSON line each."""
    from rtseg.client import Subscriber
    from rtseg.report import prediction_line

    with Subscriber(address, streams or (), timeout_s=timeout) as subscriber:
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


def main() -> None:
    """Run a command; a known error becomes one line and an exit code."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("rtseg").setLevel(logging.INFO)
    try:
        app()
    except RtsegError as error:
        typer.echo(f"rtseg: {error}", err=True)
        sys.exit(3 if isinstance(error, NOT_STARTED) else 1)
    except OSError as error:
        typer.echo(f"rtseg: {error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _three(text: str) -> tuple[int, int, int]:
    try:
        one, two, three = (int(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"expected three numbers like 20,10,7, got {text!r}") from None
    return one, two, three


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
