"""`rtseg init` without a screen: from paths and wishes to the two files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rtseg.errors import SettingError
from rtseg.project.proposal import Project, propose_project
from rtseg.project.questions import Asker, Wishes
from rtseg.project.reading import Progress, check_rate
from rtseg.project.write import check_free, write_project

_UNLABELLED = {"negatives": True, "masked": False}


class Initialized(NamedTuple):
    """What was written, and where."""

    project: Project
    dataset: Path
    recipe: Path


def initialize_project(paths: Sequence[Path], out: Path, wishes: Wishes, ask: Asker, progress: Progress) -> Initialized:
    """Propose a project and write its dataset file and recipe into `out`. Raises as `propose_project`."""
    if wishes.name is not None:
        check_free(wishes.name, out)  # before files of gigabytes are read
    project = propose_project(paths, wishes, ask, progress)
    return Initialized(project, *write_project(project, out))


def wishes_of(
    name: str | None,
    fps: float | None,
    tracks: Sequence[str] | None,
    unlabelled: str | None,
    first_frame: int | None,
    last_included: bool | None,
    axis: str | None,
    share: float | None,
) -> Wishes:
    """The options of `rtseg init` as wishes. Raises SettingError for values that mean nothing."""
    if unlabelled is not None and unlabelled not in _UNLABELLED:
        raise SettingError(f"--unlabelled: expected {' or '.join(_UNLABELLED)}, got {unlabelled!r}")
    points = tuple(point.strip() for point in axis.split(",")) if axis is not None else None
    if points is not None and (len(points) != 2 or not all(points)):
        raise SettingError(f"--axis: expected two keypoints, such as tail_base,neck, got {axis!r}")
    if share is not None and not 0 < share < 1:
        raise SettingError(f"--held-out: expected a share between 0 and 1, got {share:g}")
    if fps is not None:
        check_rate(fps, "--fps: ")
    return Wishes(
        name=name,
        fps=fps,
        tracks=tuple(tracks or ()),
        unlabelled=None if unlabelled is None else _UNLABELLED[unlabelled],
        first_frame=first_frame,
        last_included=last_included,
        axis=None if points is None else (points[0], points[1]),
        share=share,
    )
