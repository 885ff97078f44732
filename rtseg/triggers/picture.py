"""A trial as a picture: what a person saw, what was watched, its thresholds, and when the line was on.

Needs matplotlib (the extra `plot`). Draws what it is given.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rtseg.config import TriggerSettings
from rtseg.errors import needs_extra
from rtseg.inference.predictions import Predictions
from rtseg.recordings.bouts import bouts_of
from rtseg.triggers.arms import REACHING
from rtseg.triggers.conditions import watched_values
from rtseg.triggers.trial import Trial

_TRUTH, _WATCHED, _REAL, _CONTROL, _WITHHELD = "#7fa37f", "#33415c", "#c8553d", "#9a9a9a", "#d9a441"


def draw_trial(
    trial: Trial,
    trigger: str,
    settings: TriggerSettings,
    predictions: Predictions,
    path: Path | str,
    truth: NDArray[np.int8] | None = None,
) -> None:
    """Write a picture (PNG, SVG or PDF by the path's end) of one trigger. truth: (frames,), see `trial.truth_of`."""
    try:
        from matplotlib.figure import Figure
        from matplotlib.patches import Patch
    except ImportError:
        raise needs_extra("matplotlib", "plot", "drawing") from None
    figure = Figure(figsize=(12, 3.4), layout="constrained")
    bars, curve = figure.subplots(2, 1, sharex=True, height_ratios=(2, 3))
    rows = ["line", *(["labels"] if truth is not None else [])]
    seconds = (trial.seq - trial.first_seq) / trial.fps
    for event in trial.events:
        if event.trigger != trigger:
            continue
        start = (event.seq - trial.first_seq) / trial.fps
        if event.last_seq is None:
            bars.plot([start], [0.5], marker="x", markersize=4, color=_WITHHELD)
            continue
        color = _REAL if event.arm in REACHING else _CONTROL
        bars.broken_barh([(start, (event.last_seq + 1 - event.seq) / trial.fps)], (0.08, 0.84), color=color)
    if truth is not None:
        for bout in bouts_of(truth):
            if bout.label == 1:
                span = (bout.start / trial.fps, (bout.stop - bout.start) / trial.fps)
                bars.broken_barh([span], (1.08, 0.84), color=_TRUTH)
    bars.set_yticks([y + 0.5 for y in range(len(rows))], rows)
    bars.set_ylim(0, len(rows))
    bars.tick_params(axis="y", length=0)
    bars.set_title(f"{trigger}, {trial.name}")
    curve.plot(seconds, watched_values(predictions, settings), color=_WATCHED, linewidth=0.9)
    if settings.source == "probability":
        for level, style in ((settings.on, "-"), (settings.off, ":")):
            curve.axhline(level, color=_REAL, linewidth=0.8, linestyle=style)
    curve.set_ylim(-0.02, 1.02)
    curve.set_xlim(0, max(float(seconds[-1]) if len(seconds) else 0.0, 1 / trial.fps))
    curve.set_ylabel(settings.source)
    curve.set_xlabel("time, s")
    names = ((_REAL, "on"), (_CONTROL, "control"), (_WITHHELD, "withheld"), (_TRUTH, "labelled"))
    keys = [Patch(color=color, label=name) for color, name in names[: 4 if truth is not None else 3]]
    figure.legend(handles=keys, loc="outside right center", fontsize="small", frameon=False)
    for axis in (bars, curve):
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
