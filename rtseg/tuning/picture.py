"""The curve of a tuning: what more hits, and earlier ones, cost in false starts. Needs matplotlib (extra `plot`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from rtseg.errors import needs_extra
from rtseg.triggers.trial import TrialScore
from rtseg.tuning.choose import Tuned

_CURVE, _CHOSEN, _NOW, _GREY = "#33415c", "#c8553d", "#7fa37f", "#b8b8b8"


def draw_curve(tuned: Tuned, path: Path | str) -> None:
    """Hits and onset delay against false starts per minute, a line a minimum duration; the chosen setting, the file's,
    and what the chosen one is worth on videos that had no part in the choice.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise needs_extra("matplotlib", "plot", "drawing") from None
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    axes = figure.subplots(1, 2, sharex=True)
    durations = sorted({candidate.min_duration_s for candidate in tuned.tried[:-1]})
    grey = next((d for d in durations if d != tuned.tried[tuned.chosen].min_duration_s), None)
    for seconds in durations:
        is_chosen = seconds == tuned.tried[tuned.chosen].min_duration_s
        scores = [
            score for c, score in zip(tuned.tried[:-1], tuned.totals[:-1], strict=True) if c.min_duration_s == seconds
        ]
        look = {
            "color": _CURVE if is_chosen else _GREY,
            "linewidth": 1.4 if is_chosen else 0.8,
            "zorder": 1 + is_chosen,
        }
        label = f"at least {seconds:g} s" if is_chosen else "other minimum durations" if seconds == grey else None
        for axis, values in zip(axes, _heights(scores), strict=True):
            axis.plot([s.false_starts_per_min for s in scores], values, **look, label=label)
    points = (
        (tuned.totals[-1], _NOW, "s", "the file's"),
        (tuned.totals[tuned.chosen], _CHOSEN, "o", "chosen, same videos"),
    )
    for score, color, marker, label in points:
        for axis, values in zip(axes, _heights([score]), strict=True):
            axis.plot([score.false_starts_per_min], values, marker, color=color, label=label, zorder=4, linestyle="")
    rates = tuned.intervals["false_starts_per_min"]
    for axis, values, part in zip(axes, _heights([tuned.held_out]), ("hits", "delay_s"), strict=True):
        _cross(axis, tuned.held_out.false_starts_per_min, values[0], rates, tuned.intervals[part])
    if tuned.goal.false_starts_per_min is not None:
        for axis in axes:
            axis.axvline(tuned.goal.false_starts_per_min, color=_CHOSEN, linewidth=0.8, linestyle=":")
    axes[0].set_ylabel("bouts with an event, share")
    axes[0].set_ylim(-0.02, 1.02)
    axes[1].set_ylabel("onset delay of hits, s (median)")
    for axis in axes:
        axis.set_xlabel("false starts per minute")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].legend(fontsize="small", frameon=False)
    figure.suptitle(f"{tuned.name}: {tuned.goal}; {len(tuned.videos)} videos", fontsize="medium")
    figure.savefig(path, dpi=120)


def _heights(scores: list[TrialScore]) -> tuple[list[float], list[float]]:
    """Share of bouts that are hit, and the hits' median delay."""
    shares = [score.hits / score.bouts for score in scores]
    return shares, [float(np.median(score.delays_s)) if score.delays_s else np.nan for score in scores]


def _cross(axis: Any, x: float, y: float, across: dict[str, float], along: dict[str, float]) -> None:
    """A point with 95 % intervals both ways."""
    reach_x = [[max(x - across["low"], 0)], [max(across["high"] - x, 0)]]
    reach_y = [[max(y - along["low"], 0)], [max(along["high"] - y, 0)]]
    look = {"color": _CHOSEN, "mfc": "white", "linewidth": 1, "zorder": 3}
    axis.errorbar([x], [y], yerr=reach_y, xerr=reach_x, fmt="D", label="other videos, 95 %", **look)
