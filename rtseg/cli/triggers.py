"""The commands for behaviour triggers (docs/triggers.md). Heavy imports happen inside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rtseg.cli.app import (
    BundlePath,
    EngineName,
    Fps,
    KeyFile,
    OutOfFold,
    Root,
    Settings,
    Split,
    SplitOrFolds,
    app,
    print_progress,
    refuse_options,
    split_of,
)

trigger_app = typer.Typer(help="Triggers: what would act on an animal's behaviour.", no_args_is_help=True)
app.add_typer(trigger_app, name="trigger")


@trigger_app.command("try")
def try_(
    triggers: Annotated[Path, typer.Argument(help="Trigger file (TOML).", show_default=False)],
    bundle: BundlePath,
    recordings: Annotated[list[Path] | None, typer.Argument(help="Recordings to try them on.")] = None,
    dataset: Annotated[Path | None, typer.Option(help="Or a dataset file: its labels are compared.")] = None,
    root: Root = None,
    split: Split = "validation",
    fps: Fps = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for logs and pictures.")] = None,
    set_: Settings = None,
    engine: EngineName = "auto",
    resample: Annotated[bool, typer.Option("--resample", help="Recordings of other rates than the model's.")] = False,
) -> None:
    """Show when triggers would have fired, and beside labels how well. Nothing is sent anywhere."""
    from rtseg.inference.classifier import load
    from rtseg.terminal.trigger_table import print_trials
    from rtseg.triggers.report import run_trials, tried_items
    from rtseg.triggers.trial import load_triggers

    chosen = load_triggers(triggers, tuple(set_ or ()))
    items = tried_items(recordings or (), dataset, root, split, fps)
    classifier = load(bundle, engine, capacity=1)
    trials, scores = run_trials(chosen, classifier, items, out, print_progress, resample=resample)
    print_trials(trials, scores)
    if out is not None:
        typer.echo(f"logs and pictures in {out}")


@trigger_app.command("tune")
def tune(
    triggers: Annotated[Path, typer.Argument(help="Trigger file (TOML).", show_default=False)],
    bundle: BundlePath,
    dataset: Annotated[Path, typer.Option(help="Dataset file with labels.", show_default=False)],
    false_starts: Annotated[
        float | None, typer.Option("--false-starts-per-min", help="So many at most, with as many hits as that allows.")
    ] = None,
    delay: Annotated[
        float | None, typer.Option("--delay", help="Half of all bouts within so many s, with few false starts.")
    ] = None,
    only: Annotated[list[str] | None, typer.Option("--trigger", help="Only this one (repeatable).")] = None,
    root: Root = None,
    split: SplitOrFolds = None,
    out_of_fold: OutOfFold = None,
    out: Annotated[Path | None, typer.Option("--out", help="The new file (TRIGGERS.tuned.toml).")] = None,
    engine: EngineName = "auto",
) -> None:
    """Choose thresholds for a stated rate of false starts or delay, cross-fitted by video."""
    from rtseg.evaluation.evaluate import part_notes
    from rtseg.evaluation.fold_answers import read_fold_answers
    from rtseg.inference.classifier import load
    from rtseg.recordings.dataset import load_dataset
    from rtseg.terminal.trigger_table import print_tuned
    from rtseg.tuning.choose import Goal
    from rtseg.tuning.report import run_tuning, tuned_path

    goal, target = Goal(false_starts, delay), tuned_path(triggers, out)
    chosen, recordings, model = split_of(split, out_of_fold), load_dataset(dataset, root), load(bundle, engine, 1)
    folds = read_fold_answers(model.bundle, recordings, out_of_fold) if out_of_fold else None
    items, remarks = folds or recordings.items(chosen), part_notes(recordings, folds.splits if folds else [chosen])
    for tuned in run_tuning(triggers, only or (), goal, model, items, target, print_progress, remarks):
        print_tuned(tuned)
    typer.echo(f"written: {target}, and tables and pictures beside it")


@app.command()
def run(
    experiment: Annotated[Path, typer.Argument(help="Experiment (TOML), or a session's folder.", show_default=False)],
    set_: Settings = None,
    armed: Annotated[bool, typer.Option("--armed", help="Events reach the animal; else a dry run.")] = False,
    replay: Annotated[
        str | None, typer.Option("--replay", help="Play a pose file, or 'simulated', as the first camera.")
    ] = None,
    fps: Fps = None,
    key: KeyFile = None,
) -> None:
    """Run a session from one file; of a session's folder, write its log and page again."""
    from rtseg.experiment.finish import finish_folder
    from rtseg.experiment.replayed import recording_for
    from rtseg.experiment.run import run_session
    from rtseg.experiment.session_folder import load_experiment
    from rtseg.system.shutdown import print_line

    if experiment.is_dir():
        given = {"--armed": armed, "--replay": replay, "--fps": fps, "--key": key, "--set": set_}
        refuse_options(given, f"{experiment} is a session's folder, whose log and page are written again")
        finish_folder(experiment)
        typer.echo(f"written: {experiment / 'summary.html'}")
        return
    if not replay:
        refuse_options({"--fps": fps}, "it is the rate of what --replay plays; a camera's stands in the experiment")
    loaded = load_experiment(experiment, set_ or ())
    played = recording_for(replay, next(iter(loaded.settings.cameras)), fps) if replay else None
    folder, summary, is_well = run_session(loaded, armed=armed, played=played, key=key, say=print_progress)
    print_line(f"{sum(pulse.event.fired for pulse in summary.pulses)} events; see {folder.path / 'summary.html'}")
    raise typer.Exit(0 if is_well else 1)


@trigger_app.command("check")
def check(
    triggers: Annotated[Path, typer.Argument(help="Trigger file (TOML) with sinks.", show_default=False)],
    bundle: BundlePath,
    events: Annotated[int, typer.Option(help="How often every line goes on.", min=1, max=10_000)] = 100,
    out: Annotated[Path, typer.Option("--out", help="The page.")] = Path("check.html"),
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask: no animal is at these lines.")] = False,
) -> None:
    """Drive the real sinks without an animal: times from frame to line, and whether lines go off by themselves."""
    from rtseg.bundle.bundle import load_bundle
    from rtseg.experiment.check import check_sinks, checked_lines
    from rtseg.experiment.check_page import about_check, check_page_of
    from rtseg.system.files import write_atomically
    from rtseg.terminal.trigger_table import print_check
    from rtseg.triggers.trial import load_trigger_file

    file, model = load_trigger_file(triggers), load_bundle(bundle)
    lines = ", ".join(checked_lines(file, model, events).triggers)
    question = f"The lines of {lines} really go on, {events} times and more. Is no animal connected?"
    if not yes and not typer.confirm(question, err=True):
        raise typer.Exit(1)
    checked = check_sinks(file, str(bundle), model, events, print_progress)
    write_atomically(out, check_page_of(checked, about_check(triggers, model), triggers.read_text(encoding="utf-8")))
    print_check(checked)
    typer.echo(f"written: {out}")
    raise typer.Exit(1 if checked.problems else 0)
