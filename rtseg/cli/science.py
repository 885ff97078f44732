"""The commands that make models and say how good they are.

Each loads, builds, calls one function and prints; heavy imports happen inside.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from rtseg.cli.app import (
    BundlePath,
    DatasetFile,
    EngineName,
    Out,
    OutOfFold,
    RecipeFile,
    Root,
    Settings,
    SplitOrFolds,
    above_zero,
    app,
    make_folder_of,
    print_progress,
    split_of,
    training_packages,
    write_json,
)


@app.command()
def simulate(
    out: Out,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 0,
    sequences: Annotated[str, typer.Option(help="Training sequences of Tasks 1, 2 and 3.")] = "20,10,7",
    minutes: Annotated[float, typer.Option(help="Length of each sequence.", callback=above_zero)] = 3.0,
) -> None:
    """Write simulated mice in CalMS21's official layout, with a dataset file for training."""
    from rtseg.simulate.files import simulate_dataset
    from rtseg.terminal.progress import counting

    counts = _three(sequences)
    with counting("simulating") as progress:
        path = simulate_dataset(out, seed=seed, sequences=counts, minutes=minutes, progress=progress)
    typer.echo(f"simulated recordings, described by {path}")


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="Dataset file or recipe (TOML).", show_default=False)],
    root: Root = None,
    set_: Settings = None,
    as_json: Annotated[bool, typer.Option("--json", help="All counts and findings, as JSON.")] = False,
) -> None:
    """Count what a dataset holds, and say what speaks against training on it; exit code 1 where something does."""
    from rtseg.checks.check import check_file
    from rtseg.terminal.check_table import print_report
    from rtseg.terminal.progress import reading

    with reading() as progress:
        report = check_file(file, root, set_ or (), progress)
    if as_json:
        typer.echo(json.dumps(report.to_plain(), indent=1))
    else:
        print_report(report)
    if not report.is_trainable:
        raise typer.Exit(1)


@app.command()
def train(
    recipe: RecipeFile,
    out: Annotated[Path, typer.Option("--out", help="Folder of the bundle to write.")],
    root: Root = None,
    set_: Settings = None,
    runs: Annotated[Path | None, typer.Option(help="Folder for checkpoints; default: OUT.run")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace another bundle in OUT.")] = False,
) -> None:
    """Train a model from a recipe; an interrupted run resumes at its last checkpoint."""
    from rtseg.terminal.progress import training
    from rtseg.terminal.tables import print_scores

    with training_packages():
        from rtseg.training.export import train_bundle
    folder = runs or out.with_name(out.name + ".run")
    with training() as (report, say):
        bundle = train_bundle(
            recipe, out, root=root, overrides=tuple(set_ or ()), runs=folder, overwrite=overwrite, report=report,
            progress=say,
        )  # fmt: skip
    if scores := bundle.scores.get("validation"):
        print_scores(scores, f"{bundle.name}, validation recordings", bundle.simulated)
    else:
        typer.echo("Nothing was held out, so nothing was scored: 'rtseg crossvalidate', then 'calibrate --out-of-fold'")
    typer.echo(f"bundle written to {out}")


@app.command()
def evaluate(
    bundle: BundlePath,
    dataset: DatasetFile,
    root: Root = None,
    split: SplitOrFolds = None,
    engine: EngineName = "auto",
    out_of_fold: OutOfFold = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all scores to this file.")] = None,
) -> None:
    """Score a bundle on labelled recordings, by the same code that serves it."""
    from rtseg.bundle.bundle import load_bundle
    from rtseg.evaluation.evaluate import evaluate as score_bundle
    from rtseg.evaluation.fold_answers import evaluate_folds
    from rtseg.inference.classifier import load
    from rtseg.recordings.dataset import load_dataset
    from rtseg.terminal.tables import print_scores

    chosen, recordings = split_of(split, out_of_fold), load_dataset(dataset, root)
    make_folder_of(json_file)
    if out_of_fold is None:
        scores = score_bundle(load(bundle, engine), recordings, chosen, print_progress)
    else:
        scores = evaluate_folds(load_bundle(bundle), recordings, out_of_fold, print_progress)
    write_json(json_file, scores)
    print_scores(scores, f"{scores['bundle']} on {scores['dataset']}, {scores['split']}", scores["simulated"])


def _three(text: str) -> tuple[int, int, int]:
    try:
        one, two, three = (int(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"expected three numbers like 20,10,7, got {text!r}") from None
    return one, two, three
