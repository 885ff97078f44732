"""Which columns of a table are which point of which animal, by (animal, keypoint, coordinate) of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rtseg.errors import RecordingError
from rtseg.frames.skeleton import Skeleton
from rtseg.recordings.files.reading_warnings import ReadingWarning
from rtseg.recordings.recording import UNIQUE_LEFT_OUT

SINGLE_ANIMAL = "animal"
"""The name of the animal in a file that names none."""
COORDS = ("x", "y", "likelihood")
_ALSO_LIKELIHOOD = ("confidence", "score")
"""What other programs call the likelihood in DeepLabCut's layout."""
UNIQUE = "single"
"""DeepLabCut's individual for bodyparts that belong to no animal."""

Column = tuple[str, str, str]
"""(animal, keypoint, coordinate)."""


@dataclass(frozen=True)
class Layout:
    """where: (A, K, 3) column numbers of x, y and likelihood, -1 where there is none. unique: points of no animal."""

    skeleton: Skeleton
    where: NDArray[np.intp]
    warnings: tuple[ReadingWarning, ...] = ()
    unique: Layout | None = None


_Places = dict[str, dict[str, dict[str, int]]]
"""animal -> keypoint -> coordinate -> column number."""


def layout_of(path: Path, columns: Sequence[Column]) -> Layout:
    """Which column is which.

    Multi-animal projects may carry unique bodyparts (cage corners, or an animal of another kind) under the individual
    'single': they are set apart. Smoothers such as EKS add columns of their own, which are left out with a warning.
    Animals may have different keypoints: all have a place for every one.
    """
    places, warnings = _places(path, columns)
    unique = None
    if len(places) > 1 and UNIQUE in places:
        unique = _beside(path, {UNIQUE: places.pop(UNIQUE)})
        kind = f"{UNIQUE_LEFT_OUT}: {', '.join(unique.skeleton.keypoints)}"
        warnings.append(ReadingWarning(kind, len(unique.skeleton.keypoints), "bodyparts"))
    layout = _beside(path, places)
    return replace(layout, warnings=(*warnings, *layout.warnings), unique=unique)


def _places(path: Path, columns: Sequence[Column]) -> tuple[_Places, list[ReadingWarning]]:
    places: _Places = {}
    others: dict[str, int] = {}
    with_likelihood = {(animal, keypoint) for animal, keypoint, coord in columns if coord.lower() == "likelihood"}
    for i, (animal, keypoint, coord) in enumerate(columns):
        coord = coord.lower()
        # Leaving z out would be a projection that nobody asked for.
        if coord == "z":
            raise RecordingError(path, "expected the coordinates x, y, likelihood, got 'z'; only 2-D tracks are read")
        if coord in _ALSO_LIKELIHOOD and (animal, keypoint) not in with_likelihood:
            coord = "likelihood"
        if coord not in COORDS:
            others[coord] = others.get(coord, 0) + 1
        elif places.setdefault(animal, {}).setdefault(keypoint, {}).setdefault(coord, i) != i:
            raise RecordingError(path, f"column {animal}/{keypoint}/{coord} comes twice; rename one of them")
    warnings = []
    if others:
        kind = f"columns other than x, y and likelihood are left out: {', '.join(others)}"
        warnings.append(ReadingWarning(kind, sum(others.values()), "columns"))
    return places, warnings


def _beside(path: Path, places: _Places) -> Layout:
    """The places of animals side by side, -1 for a keypoint that only others have."""
    animals = list(places)
    keypoints = list(dict.fromkeys(keypoint for some in places.values() for keypoint in some))
    if not keypoints:
        raise RecordingError(path, "holds no keypoints with x and y; export the file again")
    where = np.full((len(animals), len(keypoints), len(COORDS)), -1, np.intp)
    for a, animal in enumerate(animals):
        for keypoint, coords in places[animal].items():
            for c, coord in enumerate(COORDS):
                if coord in coords:
                    where[a, keypoints.index(keypoint), c] = coords[coord]
                elif coord != "likelihood":
                    problem = f"column {animal}/{keypoint}/{coord} is missing; export the file again"
                    raise RecordingError(path, problem)
    absent = where[..., 0] < 0
    warnings = []
    if absent.any():
        a, k = np.argwhere(absent)[0]
        kind = "keypoints that only other animals have are missing in every frame"
        warnings.append(ReadingWarning(kind, int(absent.sum()), "keypoints", f"{animals[a]}, {keypoints[k]}"))
    n_without = int(((where[..., 2] < 0) & ~absent).sum())
    if 0 < n_without < int((~absent).sum()):  # a format without any is no accident
        kind = "keypoints without a likelihood have confidence 1 wherever they are seen"
        warnings.append(ReadingWarning(kind, n_without, "keypoints"))
    return Layout(Skeleton(tuple(animals), tuple(keypoints)), where, tuple(warnings))
