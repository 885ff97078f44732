"""The commands about how far a bundle can be trusted.

Each loads, builds, calls one function and prints; heavy imports happen inside.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rtseg.cli.app import (
    BundlePath,
    DatasetFile,
    EngineName,
    OutOfFold,
    Root,
    Settings,
    Split,
    SplitOrFolds,
    app,
    make_folder_of,
    print_progress,
    split_of,
    write_json,
)

if TYPE_CHECKING:
    from rtseg.recordings.dataset import Dataset

Method = Annotated[str, typer.Option(help="Scaling of logits: temperature or vector.")]
VectorHeads = Annotated[
    list[str] | None,
    typer.Option("--vector", help="This head gets `vector`, whatever the others get (repeatable).", metavar="HEAD"),
]
Thresholds = Annotated[
    list[str] | None,
    typer.Option("--abstain", help="Below this probability a head is unsure (repeatable).", metavar="HEAD=P"),
]
ReportFolder = Annotated[Path | None, typer.Option("--out", help="Folder of the report; default: calibration/BUNDLE.")]


@dataclass(frozen=True)
class _Subject:
    """A bundle, the recordings that it is measured on, and the folder of the report."""

    bundle: Path
    dataset_file: Path
    root: Path | None
    split: str
    out: Path
    out_of_fold: Path | None = None

    def dataset(self) -> Dataset:
        from rtseg.recordings.dataset import load_dataset

        return load_dataset(self.dataset_file, self.root)

    def command(self, *options: str) -> str:
        """The command as the report may carry it: without the folders of this machine."""
        root = ["--root FOLDER"] * (self.root is not None)
        which = f"--out-of-fold {self.out_of_fold.name}" if self.out_of_fold else f"--split {self.split}"
        return " ".join([f"rtseg calibrate {self.bundle} {self.dataset_file}", *root, which, *options])


@app.command()
def calibrate(
    bundle: BundlePath,
    dataset: DatasetFile,
    root: Root = None,
    split: SplitOrFolds = None,
    out_of_fold: OutOfFold = None,
    method: Method = "temperature",
    vector: VectorHeads = None,
    abstain: Thresholds = None,
    out: ReportFolder = None,
    engine: EngineName = "auto",
    int8: Annotated[bool, typer.Option("--int8", help="Instead, measure the bundle in int8.")] = False,
    fp16: Annotated[bool, typer.Option("--fp16", help="Instead, measure the bundle in float16.")] = False,
    ranges: Annotated[str, typer.Option("--ranges", help="Split that int8's ranges come from.")] = "train",
    set_: Settings = None,
) -> None:
    """Calibrate a bundle's probabilities on recordings that training never saw.

    With --int8 or --fp16 it is compared in those precisions with float32 and accepted or not; --set changes the limits.
    """
    folder = out or Path("calibration") / bundle.name
    subject = _Subject(bundle, dataset, root, split_of(split, out_of_fold), folder, out_of_fold)
    if int8 or fp16:
        if out_of_fold:
            raise typer.BadParameter("--int8 and --fp16 compare the bundle with itself: give no --out-of-fold")
        return _measure_precisions(subject, ranges, set_ or [], int8=int8, fp16=fp16)
    if set_:
        raise typer.BadParameter("--set goes with --int8 or --fp16 (int8_largest=0.2): nothing else here has settings")
    _calibrate(subject, method, vector or [], dict(map(_threshold, abstain or ())), engine)


def _calibrate(subject: _Subject, method: str, vector: list[str], abstain: dict[str, float], engine: str) -> None:
    from rtseg.bundle.model_card import write_card
    from rtseg.evaluation.calibrate import calibrate_bundle
    from rtseg.terminal.tables import print_calibration

    options = [f"--method {method}", *(f"--vector {head}" for head in vector)]
    options += [f"--abstain {head}={p:g}" for head, p in abstain.items()]
    report = calibrate_bundle(
        subject.bundle,
        subject.dataset(),
        subject.split,
        method,
        out=subject.out,
        vector=vector,
        abstain=abstain,
        command=subject.command(*options),
        engine=engine,
        out_of_fold=subject.out_of_fold,
        progress=print_progress,
    )
    print_calibration(report)
    is_calibrated = len(report.get("not_applied", ())) < len(report["heads"])
    what = f"calibrated {subject.bundle}" if is_calibrated else f"{subject.bundle} is not calibrated"
    typer.echo(f"{what}; card: {write_card(subject.bundle)}")


def _measure_precisions(subject: _Subject, ranges: str, changes: list[str], *, int8: bool, fp16: bool) -> None:
    from rtseg.config import PrecisionSettings, from_plain
    from rtseg.engine.onnx.onnx_nodes import PRECISIONS
    from rtseg.precision.measure import measure_precisions, require_accepted
    from rtseg.terminal.tables import print_precisions

    options = ["--fp16"] * fp16 + [f"--int8 --ranges {ranges}"] * int8 + [f"--set {change}" for change in changes]
    report = measure_precisions(
        subject.bundle,
        subject.dataset(),
        [precision for precision in PRECISIONS if {"fp16": fp16, "int8": int8}.get(precision)],
        split=subject.split,
        ranges=ranges,
        settings=from_plain({}, PrecisionSettings, changes),
        out=subject.out,
        command=subject.command(*options),
        progress=print_progress,
    )
    print_precisions(report)
    # After the table, which is wanted in either case: this makes the exit code 1.
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
    """Compare two bundles on the same recordings: differences of scores, with bootstrap intervals over videos."""
    from rtseg.evaluation.evaluate import compare_bundles
    from rtseg.inference.classifier import load
    from rtseg.recordings.dataset import load_dataset
    from rtseg.terminal.tables import print_comparison

    pair = load(ours, engine), load(theirs, engine)
    report = compare_bundles(*pair, load_dataset(dataset, root), split, print_progress)
    make_folder_of(json_file)
    write_json(json_file, report)
    print_comparison(report)


@app.command()
def step(bundle: BundlePath) -> None:
    """Export a bundle's step as ONNX into its folder, for the onnx and tensorrt engines; nothing else changes."""
    from rtseg.engine.onnx.step_file import write_step

    path = write_step(bundle)
    typer.echo(f"{path}: {path.stat().st_size:,} bytes")


@app.command()
def card(bundle: BundlePath) -> None:
    """Write a bundle's model card: data, scores, limits, and what it must not be used for."""
    from rtseg.bundle.model_card import write_card

    typer.echo(str(write_card(bundle)))


def _threshold(text: str) -> tuple[str, float]:
    # From the right, since a head's name may hold an equals sign.
    head, _, value = text.rpartition("=")
    try:
        threshold = float(value)
    except ValueError:
        head = ""
    if not head:
        raise typer.BadParameter(f"expected HEAD=PROBABILITY, got {text!r}")
    return head, threshold
