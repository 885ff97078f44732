"""How the studies draw: panels, curves with intervals, differences with intervals. Needs matplotlib (extra `plot`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rtseg.errors import needs_extra

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

F1_COLOR, MAP_COLOR, GREY = "#0072b2", "#d55e00", "#999999"
HEADS_DRAWN = 4
"""A plot shows this many heads; the tables have all."""
METRICS = (("f1", "macro-F1", F1_COLOR), ("map", "mAP", MAP_COLOR))


def panels(rows: int, columns: int, *, width: float = 3.2, height: float = 2.8) -> tuple[Figure, list[list[Axes]]]:
    """An empty figure of rows x columns axes, each of that size in inches."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise needs_extra("matplotlib", "plot", "drawing") from None
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axis in grid.flat:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, [list(line) for line in grid]


def curve(axis: Axes, x: Sequence[float], scores: Sequence[Mapping[str, float]], color: str, label: str) -> None:
    """A line through `value` of each score, with a band from `low` to `high`."""
    value, low, high = (np.array([s[key] for s in scores], float) for key in ("value", "low", "high"))
    axis.plot(x, value, color=color, marker="o", markersize=3.5, linewidth=1.2, label=label)
    axis.fill_between(x, low, high, color=color, alpha=0.15, linewidth=0)


def differences(axis: Axes, names: Sequence[str], scores: Sequence[Mapping[str, Mapping[str, float]]]) -> None:
    """For every name its paired differences in F1 and mAP with intervals, the first name at the top."""
    place = np.arange(len(names))[::-1]
    for (key, label, color), shift in zip(METRICS, (0.13, -0.13), strict=True):
        middle = np.array([s[key]["difference"] for s in scores], float)
        reach = [
            [s[key]["difference"] - s[key]["low"] for s in scores],
            [s[key]["high"] - s[key]["difference"] for s in scores],
        ]
        # The middle is the score of all videos, the interval that of resamples: it may lie just outside.
        reach = np.maximum(np.array(reach, float), 0.0)
        axis.errorbar(
            middle, place + shift, xerr=reach, color=color, fmt="o", markersize=3.5, linewidth=1.2, label=label
        )
    axis.axvline(0.0, color=GREY, linewidth=0.8)
    axis.set_yticks(place, names, fontsize="small")
    axis.set_ylim(-0.6, len(names) - 0.4)
    axis.locator_params(axis="x", nbins=5)


def legend(figure: Figure, axis: Axes) -> None:
    """One legend for all panels, above them."""
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4, fontsize="small", frameon=False)


def drawn_heads(heads: Mapping[str, Any] | Sequence[str]) -> list[str]:
    """The heads that a plot shows."""
    return list(heads)[:HEADS_DRAWN]
