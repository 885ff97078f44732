"""The ethogram: bouts as coloured bars over time, truth above prediction, probabilities below.

Needs matplotlib (the extra `plot`). Reads no file and computes no score: draws what it is given.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rtseg.errors import needs_extra
from rtseg.inference.predictions import Predictions
from rtseg.recordings.bouts import bouts_of
from rtseg.recordings.recording import IGNORE

# Okabe and Ito's colours, which colour-blind people can tell apart.
_COLORS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#f0e442", "#7f3c8d")
_REST = "#e6e6e6"


def draw_ethogram(
    predictions: Predictions,
    head: str,
    path: Path | str,
    *,
    fps: float,
    truth: NDArray[np.int16] | None = None,
    title: str = "",
) -> None:
    """Write a picture (PNG, SVG or PDF by the path's end) of one head's decoded labels and probabilities.

    truth: (T,) labels with IGNORE, drawn above. Unscored classes are grey and have no curve. Raises KeyError for
    an unknown head.
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.patches import Patch
    except ImportError:
        raise needs_extra("matplotlib", "plot", "drawing") from None
    names = [h.name for h in predictions.heads]
    probs, spec = predictions.of(head), predictions.heads[names.index(head)]
    colors = dict(zip(spec.scored, _COLORS * 4, strict=False))
    rest = [name for name in spec.classes if name not in colors]
    rows = [("truth", truth)] if truth is not None else []
    rows.append(("prediction", predictions.labels[:, names.index(head)]))
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    bars, curves = figure.subplots(2, 1, sharex=True, height_ratios=(len(rows), 2))
    for y, (_, labels) in enumerate(reversed(rows)):
        for bout in bouts_of(labels):
            if bout.label != IGNORE:
                color = colors.get(spec.classes[bout.label], _REST)
                bars.broken_barh([(bout.start / fps, (bout.stop - bout.start) / fps)], (y + 0.08, 0.84), color=color)
    bars.set_yticks([y + 0.5 for y in range(len(rows))], [name for name, _ in reversed(rows)])
    bars.set_ylim(0, len(rows))
    bars.tick_params(axis="y", length=0)
    bars.set_title(title or head)
    time_s = np.arange(len(predictions)) / fps
    for name, color in colors.items():
        curves.plot(time_s, probs[:, spec.classes.index(name)], color=color, linewidth=0.9)
    curves.set_ylim(-0.02, 1.02)
    curves.set_xlim(0, max(len(predictions) / fps, 1 / fps))
    curves.set_ylabel("probability")
    curves.set_xlabel("time, s")
    keys = [Patch(color=color, label=name) for name, color in colors.items()]
    keys += [Patch(color=_REST, label=", ".join(rest))] if rest else []
    # Beside the axes: inside them it would cover curves.
    figure.legend(handles=keys, loc="outside right center", fontsize="small", frameon=False)
    for axis in (bars, curves):
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
