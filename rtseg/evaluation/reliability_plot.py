"""The reliability diagram: how often the top label is right, against its probability; before and after calibration.

A line on the diagonal is a calibrated model; below it, an overconfident one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from rtseg.errors import needs_extra
from rtseg.evaluation.reliability import BINS, ReliabilityBins

COLUMNS = 4
INCHES = 2.6
FEWEST = 100
"""Bins with fewer frames are left out of the lines: their frequency is mostly chance."""


def draw_reliability(heads: Mapping[str, tuple[ReliabilityBins, ReliabilityBins]], path: Path, title: str) -> None:
    """A PNG with one panel per head. heads: name -> bins of the top label before and after calibration."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise needs_extra("matplotlib", "plot", "drawing") from None

    columns = min(COLUMNS, len(heads))
    rows = math.ceil(len(heads) / columns)
    figure = Figure(figsize=(INCHES * max(columns, 2), INCHES * rows + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=10)
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for axis, (name, (before, after)) in zip(axes.flat, heads.items(), strict=False):
        share = axis.twinx()
        share.bar(
            [(i + 0.5) / BINS for i in range(BINS)],
            after.frames / max(after.frames.sum(), 1),
            1 / BINS,
            color="#dddddd",
        )
        share.set(ylim=(0, 1.5), yticks=[])
        # Matplotlib draws the twin axis on top of the first: its bars would cover the lines.
        axis.set_zorder(share.get_zorder() + 1)
        axis.patch.set_visible(False)
        axis.plot([0, 1], [0, 1], color="#999999", linewidth=0.8)
        for bins, colour, label in ((before, "#d95f02", "before"), (after, "#1b9e77", "after")):
            enough = bins.frames >= FEWEST
            axis.plot(bins.confidence[enough], bins.frequency[enough], "o-", color=colour, markersize=3, label=label)
        axis.set_title(f"{name}: ECE {before.error:.3f} -> {after.error:.3f}", fontsize=8)
        axis.set(xlim=(0, 1), ylim=(0, 1))
        axis.tick_params(labelsize=7)
    for axis in list(axes.flat)[len(heads) :]:
        axis.set_visible(False)
    axes[0, 0].legend(fontsize=7, loc="upper left")
    figure.supxlabel("probability of the top label (grey: share of frames)", fontsize=8)
    figure.supylabel("share that was right", fontsize=8)
    # Without the version of matplotlib, so that the same scores give the same bytes.
    figure.savefig(path, dpi=120, metadata={"Software": None})
