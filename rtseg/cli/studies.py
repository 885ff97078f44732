"""The commands that answer what one training does not: cross-validation and the studies.

Each loads, builds, calls one function and prints; heavy imports happen inside.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

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
    Split,
    SplitOrFolds,
    app,
    print_progress,
    split_of,
    training_packages,
)

study = typer.Typer(
    name="study", help="Measure what parts of a recipe contribute, and how robust a bundle is.", no_args_is_help=True
)
app.add_typer(study)

Seeds = Annotated[int, typer.Option("--seeds", help="Training runs of each system, with seeds of their own.", min=1)]
Runs = Annotated[Path | None, typer.Option("--runs", help="Folder of the training runs; default: OUT/NAME.runs")]
FOLDERS = ("--root", "--out", "--runs")


@app.command()
def crossvalidate(
    recipe: RecipeFile,
    out: Out,
    folds: Annotated[int, typer.Option(help="Number of folds.")] = 5,
    seeds: Seeds = 1,
    against: Annotated[str | None, typer.Option(help="A kind of model, or another recipe (TOML).")] = None,
    split: Annotated[str, typer.Option(help="Splits, joined by commas.")] = "train,validation",
    fixed_epochs: Annotated[int | None, typer.Option(help="Instead of choosing the checkpoint.", min=1)] = None,
    inside_every: Annotated[int, typer.Option(help="One of so many videos chooses the checkpoint.", min=2)] = 5,
    root: Root = None,
    set_: Settings = None,
    runs: Runs = None,
) -> None:
    """Cross-validate a recipe over groups of videos, keep its out-of-fold answers; an interrupted run resumes."""
    with _training(out) as common:
        from rtseg.config import CrossValidationSettings
        from rtseg.study.crossvalidate import crossvalidate as run

        settings = CrossValidationSettings(folds, seeds, against, tuple(split.split(",")), fixed_epochs, inside_every)
        result = run(recipe, out, settings, root=root, overrides=set_ or (), runs=runs, **common)
    _show(out, "crossvalidate")
    typer.echo(f"out-of-fold answers: {', '.join(str(out / name) for name in result['answers'].values())}")


@study.command()
def ablation(
    recipe: RecipeFile,
    out: Out,
    seeds: Seeds = 1,
    group: Annotated[list[str] | None, typer.Option(help="Leave out only this one (repeatable).")] = None,
    sets: Annotated[bool, typer.Option("--sets", help="Also the paper's groups alone, and all there are.")] = False,
    root: Root = None,
    set_: Settings = None,
    runs: Runs = None,
) -> None:
    """Train without one group of features at a time; an interrupted run resumes."""
    with _training(out) as common:
        from rtseg.study.ablation import study_ablation

        study_ablation(
            recipe, out, seeds=seeds, groups=group or (), sets=sets, root=root, overrides=set_ or (), runs=runs,
            **common,
        )  # fmt: skip
    _show(out, "ablation")


@study.command()
def lookahead(
    recipe: RecipeFile,
    out: Out,
    frames: Annotated[str, typer.Option(help="Delays in frames; the first is the baseline.")] = "0,3,6,15,30",
    seeds: Seeds = 1,
    root: Root = None,
    set_: Settings = None,
    runs: Runs = None,
) -> None:
    """Train with several delays: what a later answer gains; an interrupted run resumes."""
    delays = _numbers(frames)
    with _training(out) as common:
        from rtseg.study.lookahead import study_lookahead

        study_lookahead(recipe, out, frames=delays, seeds=seeds, root=root, overrides=set_ or (), runs=runs, **common)
    _show(out, "lookahead")


@study.command()
def missing(
    bundle: BundlePath,
    dataset: DatasetFile,
    out: Out,
    root: Root = None,
    split: Split = "validation",
    seed: Annotated[int, typer.Option(help="Random seed of the faults.")] = 0,
    engine: EngineName = "auto",
) -> None:
    """Score a bundle under missing points and animals, swapped identities, noise and lost frames."""
    from rtseg.study.missing import study_missing

    out.mkdir(parents=True, exist_ok=True)
    study_missing(
        bundle,
        dataset,
        out,
        root=root,
        split=split,
        seed=seed,
        engine=engine,
        command=_command(),
        progress=print_progress,
    )
    _show(out, "missing")


@study.command()
def decoding(
    bundle: BundlePath,
    dataset: DatasetFile,
    out: Out,
    root: Root = None,
    split: SplitOrFolds = None,
    out_of_fold: OutOfFold = None,
    head: Annotated[list[str] | None, typer.Option(help="Choose by this head alone (repeatable).")] = None,
    max_loss: Annotated[float, typer.Option(help="Largest loss of frame macro-F1 that is accepted.", min=0)] = 0.005,
    engine: EngineName = "auto",
) -> None:
    """Choose a bundle's decoding (from probabilities to bouts), and measure it on held-out videos."""
    from rtseg.study.decoding import study_decoding

    chosen = split_of(split, out_of_fold)
    out.mkdir(parents=True, exist_ok=True)
    study_decoding(
        bundle, dataset, out, root=root, split=chosen, heads=head or (), max_loss=max_loss, engine=engine,
        out_of_fold=out_of_fold, command=_command(), progress=print_progress,
    )  # fmt: skip
    _show(out, "decoding")


@contextmanager
def _training(out: Path) -> Iterator[dict[str, Any]]:
    """Arguments that every study with trainings takes: the command, and where its progress goes.

    The folder `out` is made before the work of hours begins.
    """
    from rtseg.terminal.progress import training

    out.mkdir(parents=True, exist_ok=True)
    with training_packages(), training() as (report, bar):

        def progress(text: str) -> None:
            bar(text)
            # A bar shows which recording is read; a log need not. It leaves warnings on the screen itself.
            if not text.startswith(("reading ", "warning: ")):
                print_progress(text)

        yield {"command": _command(), "report": report, "progress": progress}


def _show(out: Path, name: str) -> None:
    typer.echo((out / f"{name}.md").read_text(encoding="utf-8"))
    typer.echo(f"written to {out / name}.json, .md and .png")


def _command() -> str:
    """This command as a result may carry it: without the folders of this machine."""
    words = ["rtseg"]
    for before, word in zip(sys.argv, sys.argv[1:], strict=False):
        words.append("FOLDER" if before in FOLDERS else Path(word).name if Path(word).is_absolute() else word)
    return shlex.join(words)


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"expected whole numbers like 0,3,6, got {text!r}") from None
