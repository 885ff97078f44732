"""Which feature groups matter: a recipe trained without one of them at a time, compared with all that it uses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtseg.config import Recipe
from rtseg.errors import SettingError
from rtseg.evaluation.bootstrap import RESAMPLES
from rtseg.evaluation.evaluate import part_notes
from rtseg.features.spec import GROUPS, PAPER_GROUPS
from rtseg.study import results
from rtseg.study.results import SCORE_COLUMNS, score_row
from rtseg.study.trials import read_recipe
from rtseg.study.variants import compare_variants
from rtseg.training.task import EventCallback

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = "ablation"
FULL = "as in the recipe"


def study_ablation(
    recipe_file: Path,
    out: Path,
    *,
    seeds: int = 1,
    groups: Sequence[str] = (),
    sets: bool = False,
    root: Path | None = None,
    overrides: Sequence[str] = (),
    runs: Path | None = None,
    resamples: int = RESAMPLES,
    command: str = "",
    report: EventCallback = lambda event: None,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Leave one feature group out at a time, written as OUT/ablation.json, .md and .png.

    groups: which to leave out (none = every group of the recipe). sets: also train the paper's groups alone, and every
    group there is. runs: where trials are kept (OUT/ablation.runs). Raises SettingError for a group that the recipe
    does not use.
    """
    recipe, dataset = read_recipe(recipe_file, root, overrides)
    found = compare_variants(
        variants_of(recipe, groups, sets),
        FULL,
        dataset,
        runs or out / f"{NAME}.runs",
        seeds=seeds,
        resamples=resamples,
        report=report,
        progress=progress,
    )
    n_videos = results.count_videos(dataset.heads, found[FULL]["videos"])
    label = f"{dataset.name}, validation"
    result = results.preamble("rtseg study ablation", command, label, dataset.simulated, n_videos)
    result["notes"] += part_notes(dataset, ["validation"])
    result |= {"seeds": seeds, "reference": FULL, "variants": found}
    return results.write_study(out, NAME, result, _pages(result), _figure(result))


def variants_of(recipe: Recipe, groups: Sequence[str] = (), sets: bool = False) -> dict[str, Recipe]:
    """The recipe as it is, without each of the groups, and with other sets of groups."""
    used = recipe.features.groups or tuple(GROUPS)
    unknown = [group for group in groups if group not in used]
    if unknown:
        raise SettingError(f"the recipe uses no group {', '.join(unknown)}; it uses {', '.join(used)}")
    # A model without any feature cannot be trained.
    if len(used) < 2:
        raise SettingError(f"nothing to leave out: the recipe uses the group {', '.join(used)} alone")
    chosen = {FULL: used} | {f"without {g}": tuple(u for u in used if u != g) for g in groups or used}
    if sets:
        chosen |= {"the paper's groups": PAPER_GROUPS, "every group": tuple(GROUPS)}
    return {name: replace(recipe, features=replace(recipe.features, groups=some)) for name, some in chosen.items()}


def _pages(result: dict[str, Any]) -> list[str]:
    pages = [
        f"Every row is {result['seeds']} training run(s), the checkpoint chosen and scored on the validation "
        f"recordings. {results.READING} The last columns are differences from the recipe as it is, paired over videos: "
        "below zero, the group helps."
    ]
    for head in result["variants"][FULL]["heads"]:
        rows = []
        for name, found in result["variants"].items():
            ahead = found["ahead"][head]
            than = ["", ""] if name == FULL else [results.interval(ahead[key], "difference") for key in ("f1", "map")]
            rows.append([*score_row(name, found["heads"][head]), *than])
        pages += [f"## {head}", results.table((*SCORE_COLUMNS, "F1 against it", "mAP against it"), rows)]
    return pages


def _figure(result: dict[str, Any]) -> Figure:
    from rtseg.study import plots

    others = {name: found for name, found in result["variants"].items() if name != FULL}
    heads = plots.drawn_heads(result["variants"][FULL]["heads"])
    figure, grid = plots.panels(1, len(heads), width=5.0, height=1.0 + 0.32 * len(others))
    for head, axis in zip(heads, grid[0], strict=True):
        plots.differences(axis, list(others), [found["ahead"][head] for found in others.values()])
        axis.set_title(head, fontsize="small")
        axis.set_xlabel("difference from the recipe as it is")
    plots.legend(figure, grid[0][0])
    return figure
