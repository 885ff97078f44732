"""What a delay is worth: scores against the lookahead, each point a model of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtseg.errors import SettingError
from rtseg.evaluation.bootstrap import RESAMPLES
from rtseg.evaluation.evaluate import part_notes
from rtseg.study import results
from rtseg.study.results import SCORE_COLUMNS, score_row
from rtseg.study.trials import read_recipe
from rtseg.study.variants import compare_variants
from rtseg.training.task import EventCallback

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = "lookahead"
FRAMES = (0, 3, 6, 15, 30)


def study_lookahead(
    recipe_file: Path,
    out: Path,
    *,
    frames: Sequence[int] = FRAMES,
    seeds: int = 1,
    root: Path | None = None,
    overrides: Sequence[str] = (),
    runs: Path | None = None,
    resamples: int = RESAMPLES,
    command: str = "",
    report: EventCallback = lambda event: None,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Train a recipe with every lookahead, written as OUT/lookahead.json, .md and .png.

    frames: the delays; the others are compared with the first. runs: where trials are kept (OUT/lookahead.runs).
    Raises SettingError for delays that are negative or not rising.
    """
    if len(frames) < 1 or list(frames) != sorted(set(frames)) or frames[0] < 0:
        raise SettingError(f"frames: expected rising numbers from 0 on, got {', '.join(map(str, frames))}")
    recipe, dataset = read_recipe(recipe_file, root, overrides)
    # A training each: a network that was trained for one delay has not learnt to use another.
    variants = {f"{k} frames": replace(recipe, model=replace(recipe.model, lookahead_frames=k)) for k in frames}
    found = compare_variants(
        variants,
        f"{frames[0]} frames",
        dataset,
        runs or out / f"{NAME}.runs",
        seeds=seeds,
        resamples=resamples,
        report=report,
        progress=progress,
    )
    points = [{"frames": k, "delay_ms": 1000 * k / dataset.fps, **found[f"{k} frames"]} for k in frames]
    label, n_videos = f"{dataset.name}, validation", results.count_videos(dataset.heads, points[0]["videos"])
    result = results.preamble("rtseg study lookahead", command, label, dataset.simulated, n_videos)
    result["notes"] += part_notes(dataset, ["validation"])
    result |= {"seeds": seeds, "points": points}
    return results.write_study(out, NAME, result, _pages(result), _figure(result))


def _pages(result: dict[str, Any]) -> list[str]:
    first, *_ = points = result["points"]
    pages = [
        f"Every row is {result['seeds']} training run(s); the answer about a frame is given so much later. The "
        f"checkpoint is chosen and scored on the validation recordings. {results.READING} The last columns are "
        f"differences from {first['frames']} frames, paired over videos, over the frames that both answered."
    ]
    for head in first["heads"]:
        rows = []
        for point in points:
            ahead = point["ahead"][head]
            than = ["", ""] if point is first else [results.interval(ahead[key], "difference") for key in ("f1", "map")]
            name = f"{point['frames']} frames, {point['delay_ms']:.0f} ms"
            rows.append([*score_row(name, point["heads"][head]), *than])
        columns = ("delay", *SCORE_COLUMNS[1:], "F1 gained", "mAP gained")
        pages += [f"## {head}", results.table(columns, rows)]
    return pages


def _figure(result: dict[str, Any]) -> Figure:
    """Above: the scores, whose interval is that of the videos. Below: what the delay adds, paired over videos."""
    from rtseg.study import plots

    points = result["points"]
    delays = [point["delay_ms"] for point in points]
    heads = plots.drawn_heads(points[0]["heads"])
    figure, grid = plots.panels(2, len(heads), width=4.2)
    for column, head in enumerate(heads):
        above, below = grid[0][column], grid[1][column]
        for key, label, color in plots.METRICS:
            scores = [point["heads"][head] for point in points]
            level = [{**s["interval"][key], "value": s[key]["mean"]} for s in scores]
            plots.curve(above, delays, level, color, label)
            gains = [point["ahead"][head][key] for point in points]
            plots.curve(below, delays, [{**g, "value": g["difference"]} for g in gains], color, label)
        below.axhline(0.0, color=plots.GREY, linewidth=0.8)
        above.set_title(head, fontsize="small")
        above.set_ylabel("score")
        below.set_ylabel("gained, paired")
        below.set_xlabel("delay, ms")
    plots.legend(figure, grid[0][0])
    return figure
