"""What `rtseg init` found and proposes, on the screen. Only words and layout."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from rtseg.config import CrossValidationSettings
from rtseg.project.write import network_file
from rtseg.terminal.layout import plain_console, result_table

if TYPE_CHECKING:
    from rtseg.project.proposal import Project

_MAX_PAIRS = 8


def print_project(project: Project, dataset: Path, recipe: Path) -> None:
    """Pairs, skeleton, heads with their frames on both sides, notes, and the next commands. Fits 80 columns."""
    console = plain_console()
    console.print(f"{project.name}: {len(project.pairs)} recording{'s' * (len(project.pairs) > 1)} with labels")
    for pair in project.pairs[:_MAX_PAIRS]:
        console.print(f"  {pair.name}: {pair.poses.name} + {pair.labels.name}", soft_wrap=True)
    if len(project.pairs) > _MAX_PAIRS:
        console.print(f"  and {len(project.pairs) - _MAX_PAIRS} more")
    skeleton = project.body.skeleton
    axis = f", heading {skeleton.axis[0]} -> {skeleton.axis[1]}" if skeleton.axis else ""
    points = f"{len(skeleton.keypoints)} keypoint{'s' * (len(skeleton.keypoints) > 1)}"
    console.print(f"animals: {', '.join(skeleton.animals)}; {points} each{axis}", soft_wrap=True)
    assumed = "" if project.fps_said else " (assumed, since no file says it: --fps says another)"
    console.print(f"frame rate: {project.fps:g} per second{assumed}")
    console.print(_head_table(project))
    for note in project.notes:
        console.print(f"note: {note}", soft_wrap=True)
    network = [network_file(recipe)] * project.sizes.is_of_few_labels
    console.print(f"written: {', '.join(map(str, (dataset, recipe, *network)))}", soft_wrap=True)
    console.print("next:")
    for command in next_commands(project.name, dataset, recipe):
        console.print(f"  {command}", soft_wrap=True)
    if (comparing := comparing_command(project, recipe)) is not None:
        console.print("few labels, so these are boosted trees; whether a network answers yours better")
        console.print(f"  {comparing}", soft_wrap=True)


def next_commands(name: str, dataset: Path, recipe: Path) -> tuple[str, ...]:
    """The way from the two files to a model that serves."""
    bundle = recipe.parent / f"{name}-model"
    return (
        f"rtseg check {recipe}",
        f"rtseg train {recipe} --out {bundle}",
        f"rtseg evaluate {bundle} {dataset}",
        f"rtseg calibrate {bundle} {dataset}",
        f"rtseg serve {bundle}",
    )


def comparing_command(project: Project, recipe: Path) -> str | None:
    """What compares trees with a network on the laboratory's own recordings, where there are too few labels to tell.

    None where there are more, or fewer than two recordings or parts.
    """
    n = len(project.split.train) + len(project.split.validation)
    if not project.sizes.is_of_few_labels or n < 2:
        return None
    folds = f" --folds {n}" if n < CrossValidationSettings().folds else ""
    out = recipe.parent / f"{project.name}-trees-or-network"
    return f"rtseg crossvalidate {recipe} --against {network_file(recipe)}{folds} --out {out}"


def _head_table(project: Project) -> Table:
    table = result_table(("head, class", "frames to\ntrain on", "held out"))
    for rule, counts in zip(project.rules, project.counts, strict=True):
        parts = len(project.split.train), len(project.split.validation)
        table.add_row(rule.head.name, *(f"{n} part{'s' * (n > 1)}" for n in parts), style="bold")
        for name in rule.head.classes:
            own = f"  {name}" + ("" if name in rule.head.scored else " (background)")
            table.add_row(own, str(counts.train[name]), str(counts.validation[name]))
    return table
