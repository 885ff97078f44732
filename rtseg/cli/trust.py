"""The commands about how far a bundle can be trusted.

Each loads, builds, calls one function and prints; heavy imports happen inside.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from rtseg.cli.app import Bundle, EngineName, Root, Settings, app

DatasetFile = Annotated[Path, typer.Argument(help="Dataset file (TOML).", show_default=False)]
Split = Annotated[str, typer.Option("--split", help="Which recordings of the dataset.")]


@app.command()
def calibrate(
    bundle: Bundle,
    dataset: DatasetFile,
    root: Root = None,
    split: Split = "validation",
    method: Annotated[str, typer.Option(help="temperature or vector.")] = "temperature",
    vector: Annotated[
        list[str] | None,
        typer.Option("--vector", help="This head gets `vector`, whatever the others get (repeatable).", metavar="HEAD"),
    ] = None,
    abstain: Annotated[
        list[str] | None,
        typer.Option("--abstain", help="Below this probability a head is unsure (repeatable).", metavar="HEAD=P"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the report; default: calibration/BUNDLE.")
    ] = None,
    engine: EngineName = "auto",
    int8: Annotated[bool, typer.Option("--int8", help="Instead, measure the bundle in int8.")] = False,
    fp16: Annotated[bool, typer.Option("--fp16", help="Instead, measure the bundle in float16.")] = False,
    ranges: Annotated[str, typer.Option("--ranges", help="Split that int8's ranges come from.")] = "train",
    set_: Settings = None,
) -> None:
    """Make a bundle's probabilities agree with frequencies, on recordings that training never saw.

    With --int8 or --fp16 the bundle is measured in those precisions beside float32, and noted as accepted or not; --set
    changes what it is held to.
    """
    if int8 or fp16:
        _judge(bundle, dataset, root, split, ranges, out, set_ or [], int8=int8, fp16=fp16)
        return
    if set_:
        raise typer.BadParameter("--set goes with --int8 or --fp16 (int8_largest=0.2): nothing else here has settings")
    from rtseg.bundle.model_card import write_card
    from rtseg.evaluation.calibrate import calibrate as run
    from rtseg.recordings.dataset import load_dataset
    from rtseg.terminal.tables import print_calibration

    thresholds = dict(_threshold(text) for text in abstain or ())
    command = (
        f"rtseg calibrate {bundle} {dataset}{' --root FOLDER' * (root is not None)} --split {split} --method {method}"
    )
    command += "".join(f" --vector {head}" for head in vector or ())
    command += "".join(f" --abstain {head}={p:g}" for head, p in thresholds.items())
    report = run(
        bundle,
        load_dataset(dataset, root),
        split,
        method,
        out=out or Path("calibration") / bundle.name,
        vector=vector or (),
        abstain=thresholds,
        command=command,
        engine=engine,
        progress=lambda name: typer.echo(name, err=True),
    )
    print_calibration(report)
    typer.echo(f"calibrated {bundle}; card: {write_card(bundle)}")


def _judge(
    bundle: Path,
    dataset: Path,
    root: Path | None,
    split: str,
    ranges: str,
    out: Path | None,
    changes: list[str],
    *,
    int8: bool,
    fp16: bool,
) -> None:
    from rtseg.config import PrecisionSettings, from_plain
    from rtseg.engine.onnx.onnx_nodes import PRECISIONS
    from rtseg.precision.judge import judge, require_accepted
    from rtseg.recordings.dataset import load_dataset
    from rtseg.terminal.tables import print_precisions

    command = f"rtseg calibrate {bundle} {dataset}{' --root FOLDER' * (root is not None)} --split {split}"
    command += " --fp16" * fp16 + f" --int8 --ranges {ranges}" * int8
    command += "".join(f" --set {change}" for change in changes)
    report = judge(
        bundle,
        load_dataset(dataset, root),
        [precision for precision in PRECISIONS if {"fp16": fp16, "int8": int8}.get(precision)],
        split=split,
        ranges=ranges,
        settings=from_plain({}, PrecisionSettings, changes),
        out=out or Path("calibration") / bundle.name,
        command=command,
        progress=lambda name: typer.echo(name, err=True),
    )
    print_precisions(report)
    require_accepted(report)


@app.command()
def compare(
    ours: Annotated[Path, typer.Argument(help="Folder of a bundle.", show_default=False)],
    theirs: Annotated[Path, typer.Argument(help="Folder of the one to compare it with.", show_default=False)],
    dataset: DatasetFile,
    root: Root = None,
    split: Split = "validation",
    engine: EngineName = "auto",
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the result to this file.")] = None,
) -> None:
    """Say how far one bundle is ahead of another on the same recordings, and whether chance would do as well."""
    from rtseg.evaluation.evaluate import compare_bundles
    from rtseg.inference.classifier import load
    from rtseg.recordings.dataset import load_dataset
    from rtseg.terminal.tables import print_comparison

    pair = load(ours, engine), load(theirs, engine)
    report = compare_bundles(*pair, load_dataset(dataset, root), split, lambda name: typer.echo(name, err=True))
    if json_file:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print_comparison(report)


@app.command()
def step(bundle: Bundle) -> None:
    """Write a bundle's step as ONNX into it, for engines other than numba and cuda; nothing else changes."""
    from rtseg.engine.onnx.step_file import write_step

    path = write_step(bundle)
    typer.echo(f"{path}: {path.stat().st_size:,} bytes")


@app.command()
def card(bundle: Bundle) -> None:
    """Write a bundle's model card: data, scores, limits, and what it must not be used for."""
    from rtseg.bundle.model_card import write_card

    typer.echo(str(write_card(bundle)))


def _threshold(text: str) -> tuple[str, float]:
    head, _, value = text.rpartition("=")
    try:
        threshold = float(value)
    except ValueError:
        head = ""
    if not head:
        raise typer.BadParameter(f"expected HEAD=PROBABILITY, got {text!r}")
    return head, threshold
