"""Rows that count time: which part of its step a row's time is, and times that are written roundly."""

from __future__ import annotations

from pathlib import Path

import pytest

from rtseg.recordings.bouts import bouts_of
from rtseg.recordings.labels.frame_tables.time_steps import (
    STEPS_BY_END,
    STEPS_BY_MIDDLE,
    STEPS_MAY_BE_ENDS,
    STEPS_MAY_BE_STARTS,
)
from rtseg.recordings.open import read_labels

DOUBTS = (STEPS_BY_END, STEPS_BY_MIDDLE, STEPS_MAY_BE_ENDS, STEPS_MAY_BE_STARTS)


def read(tmp_path: Path, times: list[float], n_frames: int, digits: int = 4) -> tuple[list[tuple[int, int]], list[str]]:
    """Bouts of the behaviour, which the third and fourth row have, at 30 fps, and the kinds of doubts about steps."""
    path = tmp_path / "a.csv"
    path.write_text("time,sniff\n" + "".join(f"{t:.{digits}f},{int(i in (2, 3))}\n" for i, t in enumerate(times)))
    track = read_labels(path, n_frames, 30)["sniff"]
    bouts = [(b.start, b.stop) for b in bouts_of(track.frames) if b.label == 1]
    return bouts, [w.kind for w in track.warnings if w.kind in DOUBTS]


@pytest.mark.parametrize(
    ("part", "kinds"), [(0.0, []), (0.5, [STEPS_BY_MIDDLE]), (1.0, [STEPS_BY_END])], ids=["start", "middle", "end"]
)
@pytest.mark.parametrize("step", [1.0, 0.5, 0.1, 1 / 30])
def test_the_first_time_tells_which_part_of_its_step_it_is(
    tmp_path: Path, part: float, kinds: list[str], step: float
) -> None:
    """Half a minute, the same labels each time: they had been a step late where times were ends."""
    n_rows = round(30 / step)
    bouts, found = read(tmp_path, [(i + part) * step for i in range(n_rows)], 900)
    assert bouts == [(round(60 * step), round(120 * step))]
    assert found == kinds


def test_where_nothing_tells_both_readings_are_named(tmp_path: Path) -> None:
    # The last, incomplete step has no row, or the labels end early.
    assert read(tmp_path, [float(i + 1) for i in range(30)], 917) == ([(60, 120)], [STEPS_MAY_BE_STARTS])
    # The first row is left out, as one row less than steps says.
    assert read(tmp_path, [float(i + 1) for i in range(29)], 900) == ([(90, 150)], [STEPS_MAY_BE_ENDS])
    # One row more than there are steps: the first or the last has no frames.
    assert read(tmp_path, [float(i) for i in range(31)], 900) == ([(60, 120)], [STEPS_MAY_BE_ENDS])


def test_rounded_times_of_each_frame_are_frames(tmp_path: Path) -> None:
    """0.03, 0.07, 0.10: two decimals are no equal steps, and as many rows as frames."""
    assert read(tmp_path, [i / 30 for i in range(900)], 900, digits=2) == ([(2, 4)], [])


def test_times_of_each_frame_tell_another_rate(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("time,sniff\n" + "".join(f"{t / 25:.3f},{int(25 <= t < 50)}\n" for t in range(300)))
    track = read_labels(path, 300, 30)["sniff"]
    assert [(b.start, b.stop) for b in bouts_of(track.frames) if b.label == 1] == [(25, 50)]
    assert any("saw the video at 25 fps, the recording has 30" in w.kind for w in track.warnings)
