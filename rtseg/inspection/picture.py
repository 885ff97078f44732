"""A file at a glance: where the animals were, how sure the tracker was of every point, and what was labelled when.

Needs matplotlib (the extra `plot`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.errors import needs_extra
from rtseg.inspection.files import FileReport
from rtseg.recordings.bouts import bouts_of
from rtseg.recordings.labels.label_file import Tracks
from rtseg.recordings.recording import IGNORE, Recording

# Okabe and Ito's colours, which colour-blind people can tell apart.
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#f0e442", "#7f3c8d")
_COLUMNS = 1200
"""Of the likelihood strip: more would be finer than a screen."""
_PATH_POINTS = 20_000
_ROW_INCHES = 0.22


def draw_reports(reports: Sequence[FileReport], folder: Path) -> Iterator[Path]:
    """A picture of each recording, with its labels where they are among the reports, and of labels without poses."""
    folder.mkdir(parents=True, exist_ok=True)
    labels_of = {report.video: report.labels for report in reports if report.video}
    for report in reports:
        if report.video or report.problem:
            continue  # labels are drawn with their poses
        for number, recording in enumerate(report.recordings or (None,)):
            path = folder / f"{report.path.stem}{f'-{number + 1}' if number else ''}.png"
            labels = labels_of.get(report.path.name, report.labels)
            draw_file(path, report.path.name, report.fps, recording, labels)
            yield path


def draw_file(path: Path, title: str, fps: float, recording: Recording | None, labels: Tracks) -> None:
    """Write a picture (PNG, SVG or PDF by the path's end) of a recording, of labels, or of both over one time axis."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise needs_extra("matplotlib", "plot", "drawing") from None
    points = 0 if recording is None else recording.keypoints.shape[1] * recording.keypoints.shape[2]
    panels = [("likelihood", max(points * _ROW_INCHES, 1.0))] * (recording is not None)
    panels += [("labels", max(len(labels) * _ROW_INCHES * 1.4, 0.7))] * bool(labels)
    height = max(sum(size for _, size in panels) + 1.4, 4.0 if recording is not None else 2.0)
    figure = Figure(figsize=(13 if recording is not None else 11, height), layout="constrained")
    figure.suptitle(title, fontsize=10)
    if recording is None:
        _draw_labels(figure.subplots(), labels, fps)
    else:
        left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=(1, 1.7))[0]
        _draw_tracks(left.subplots(), recording)
        axes = right.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=[s for _, s in panels])[:, 0]
        _draw_likelihood(axes[0], recording)
        if labels:
            _draw_labels(axes[1], labels, fps)
        axes[-1].set_xlabel("time, s")
    figure.savefig(path, dpi=110)


def _draw_tracks(axis: Any, recording: Recording) -> None:
    """The mean of every animal's known points, as the camera sees it: y grows downwards."""
    known = np.isfinite(recording.keypoints)
    centers = np.where(known, recording.keypoints, 0).sum(axis=2) / np.maximum(known.sum(axis=2), 1)
    centers = np.where(known.any(axis=2), centers, np.nan)
    step = max(1, len(centers) // _PATH_POINTS)
    for a, name in enumerate(recording.skeleton.animals):
        color = _COLORS[a % len(_COLORS)]
        axis.plot(centers[::step, a, 0], centers[::step, a, 1], color=color, linewidth=0.5, alpha=0.7, label=name)
    axis.set(aspect="equal", xlabel="x, px", ylabel="y, px", title="where the animals were")
    axis.invert_yaxis()
    axis.legend(fontsize="small", loc="upper left", bbox_to_anchor=(0, -0.12), ncols=2, frameon=False)


def _draw_likelihood(axis: Any, recording: Recording) -> None:
    """A row for every point: its likelihood over time, red where it is missing."""
    from matplotlib.colors import ListedColormap

    shades = np.linspace(0.15, 1.0, 256)
    table = np.stack([1 - 0.9 * shades, 1 - 0.55 * shades, 1 - 0.3 * shades, np.ones(256)], axis=1)
    colors = ListedColormap(table).with_extremes(bad="#d55e00")
    strip = _binned(recording)
    seconds = len(recording) / recording.fps
    image = axis.imshow(
        strip.T,
        aspect="auto",
        interpolation="nearest",
        cmap=colors,
        vmin=0,
        vmax=1,
        extent=(0, seconds, strip.shape[1] - 0.5, -0.5),
    )
    skeleton = recording.skeleton
    names = [f"{a} {k}" if len(skeleton.animals) > 1 else k for a in skeleton.animals for k in skeleton.keypoints]
    axis.set_yticks(range(len(names)), names, fontsize=7)
    axis.set_title("likelihood (red: missing)", fontsize=9)
    axis.figure.colorbar(image, ax=axis, fraction=0.03, pad=0.01)


def _binned(recording: Recording) -> NDArray[np.float64]:
    """Mean likelihood (columns, points) of neighbouring frames; NaN where a point is missing in most of them."""
    n = len(recording)
    edges = np.unique(np.linspace(0, n, min(n, _COLUMNS) + 1).astype(int))
    known = np.isfinite(recording.keypoints[..., 0]).reshape(n, -1)
    scores = np.where(known, recording.confidence.reshape(n, -1), 0).astype(np.float64)
    n_known = np.add.reduceat(known.astype(np.float64), edges[:-1], axis=0)
    total = np.add.reduceat(scores, edges[:-1], axis=0)
    mostly = n_known >= 0.5 * np.diff(edges)[:, None]
    return np.where(mostly, total / np.maximum(n_known, 1), np.nan)


def _draw_labels(axis: Any, labels: Tracks, fps: float) -> None:
    """A row for every track, bouts in the colours of their behaviours."""
    from matplotlib.patches import Patch

    colors = _colors_of(labels)
    for row, track in enumerate(labels.values()):
        for start, stop, label in bouts_of(track.frames):
            if label != IGNORE:
                color = colors[track.classes[label]]
                axis.broken_barh([(start / fps, (stop - start) / fps)], (row - 0.42, 0.84), color=color)
    axis.set_yticks(range(len(labels)), list(labels), fontsize=7)
    axis.set_ylim(len(labels) - 0.5, -0.5)
    axis.set_title("labels", fontsize=9)
    axis.set_xlabel("time, s")
    keys = [Patch(color=color, label=name) for name, color in colors.items()]
    axis.legend(handles=keys, fontsize="small", loc="upper left", bbox_to_anchor=(1, 1), frameon=False)


def _colors_of(labels: Tracks) -> Mapping[str, str]:
    names = dict.fromkeys(name for track in labels.values() for name in track.classes)
    return {name: _COLORS[i % len(_COLORS)] for i, name in enumerate(names)}
