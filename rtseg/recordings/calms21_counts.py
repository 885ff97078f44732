"""How many sequences, frames and labels CalMS21's official files hold, so that an incomplete copy is found.

Counts only; `calms21` reads the files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from rtseg.recordings.recording import Labels


@dataclass(frozen=True)
class Counts:
    """What a file holds. frames: None = not known. classes: name -> frames, without those that are not known."""

    sequences: int
    frames: int | None = None
    classes: Mapping[str, int] = field(default_factory=dict)


OFFICIAL: Mapping[tuple[int, str], Counts] = {
    (1, "train"): Counts(70, 507_738, {"attack": 14_039, "investigation": 146_615, "mount": 28_615, "other": 318_469}),
    (1, "test"): Counts(19, 262_107, {"attack": 12_630, "investigation": 61_275, "mount": 31_848, "other": 156_354}),
    (2, "train"): Counts(30),
    (3, "train"): Counts(17),
}
"""(task, split) -> counts. Task 1's are those of the published files; of Tasks 2 and 3 the paper (section II) gives the
number of training sequences alone."""


def count(tracks: Iterable[Labels]) -> Counts:
    """The counts of sequences that are in memory, one label track each; masked frames count as frames alone."""
    sequences = frames = 0
    classes: dict[str, int] = {}
    for track in tracks:
        sequences += 1
        frames += len(track.frames)
        for name, n in zip(track.classes, np.bincount(track.frames[track.frames >= 0]), strict=False):
            classes[name] = classes.get(name, 0) + int(n)
    return Counts(sequences, frames, classes)


def differences(task: int, split: str, found: Counts) -> list[str]:
    """What differs from the official file, a sentence each; none where it agrees as far as counts are known."""
    official = OFFICIAL.get((task, split))
    if official is None:
        return []
    pairs: list[tuple[str, int, int | None]] = [("sequences", found.sequences, official.sequences)]
    pairs.append(("frames", found.frames or 0, official.frames))
    names = dict.fromkeys([*official.classes, *(found.classes if official.classes else ())])
    pairs += [(f"frames of {name}", found.classes.get(name, 0), official.classes.get(name, 0)) for name in names]
    return [
        f"Task {task} {split}: {got:,} {what}, the official file has {wanted:,}"
        for what, got, wanted in pairs
        if wanted is not None and got != wanted
    ]
