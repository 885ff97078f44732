"""What a label file holds: bouts and frames of every behaviour on every track, and what seems wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from rtseg.recordings.bouts import bouts_of
from rtseg.recordings.labels.label_file import WITHOUT_LABEL, Track
from rtseg.recordings.recording import IGNORE

_SHORT_FRAMES = 3


@dataclass(frozen=True)
class BehaviourReport:
    """One behaviour on one track. median_s: of its bouts, None without any."""

    name: str
    bouts: int
    frames: int
    median_s: float | None


@dataclass(frozen=True)
class TrackReport:
    """One track. frames: of the video, or as far as the labels go. unlabelled: frames that no bout covers."""

    track: str
    frames: int
    unlabelled: int
    masked: int
    behaviours: tuple[BehaviourReport, ...]
    odd: tuple[str, ...]


def examine_labels(tracks: Mapping[str, Track], fps: float) -> tuple[TrackReport, ...]:
    """Look at every track of a file."""
    return tuple(_track(track, fps) for track in tracks.values())


def _track(track: Track, fps: float) -> TrackReport:
    bouts = [bout for bout in bouts_of(track.frames) if bout.label != IGNORE]
    # Frames without a label have a row of their own in the table.
    behaviours, odd = [], [str(w) for w in track.warnings if w.kind != WITHOUT_LABEL]
    for code, name in enumerate(track.classes):
        lengths = [b.stop - b.start for b in bouts if b.label == code]
        median = float(np.median(lengths)) / fps if lengths else None
        behaviours.append(BehaviourReport(name, len(lengths), sum(lengths), median))
        n_short = sum(length < _SHORT_FRAMES for length in lengths)
        if n_short > 0.2 * len(lengths):
            odd.append(f"{name}: {n_short} of {len(lengths)} bouts are shorter than {_SHORT_FRAMES} frames")
        if 0 < len(lengths) < 2:
            odd.append(f"{name} happens once")
    if bouts:
        silent = len(track.frames) - max(bout.stop for bout in bouts)
        if silent > 0.2 * len(track.frames):
            odd.append(f"the last {silent} frames carry no label: did somebody look at them?")
    return TrackReport(
        track=track.track,
        frames=len(track.frames),
        unlabelled=int((~track.covered).sum()),
        masked=int((track.covered & (track.frames == IGNORE)).sum()),
        behaviours=tuple(behaviours),
        odd=tuple(dict.fromkeys(odd)),
    )
