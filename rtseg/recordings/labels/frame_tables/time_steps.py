"""Rows that count time in equal steps: which of them a frame lies in, and which part of its step a row's time is."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from rtseg.errors import RecordingError
from rtseg.recordings.files.column_names import time_unit
from rtseg.recordings.files.delimited import NumberStyle, Row, is_clock
from rtseg.recordings.files.reading_warnings import ReadingWarning
from rtseg.recordings.labels.label_file import BEYOND_END, MAX_DIFFERENCE_S, Video, check_reaches_end, rate_differs

_MAX_STEP_S = 2.0
"""A row at longer steps is a sample, or an event: nobody looked at what lies between."""
_STEP_TOLERANCE = 0.02
"""By which a step of time may differ from the others, as a share."""
_HUNDREDTHS = re.compile(r"^[^.,]*([.,]\d{1,2})?$")
"""Times with two decimals at most."""
_ROUNDING_S = 1.1e-3
"""Times are written with three decimals or more; this is their error."""
STEPS_BY_END = "times are taken as the ends of their steps, as the first one and the video's length say"
STEPS_BY_MIDDLE = "times are taken as the middles of their steps, as the first one says"
STEPS_MAY_BE_STARTS = (
    "times begin at one step and are taken as the ends of their steps; if they are starts, write the rows from 0 on"
)
STEPS_MAY_BE_ENDS = (
    "times are taken as the starts of their steps; if they are ends, write them a step earlier, without one before 0"
)
"""Kinds of warnings about which part of its step a row's time is."""


def rows_by_time(
    path: Path, names: Sequence[str], rows: Sequence[Row], column: int, style: NumberStyle, video: Video
) -> tuple[list[int | None], list[ReadingWarning]]:
    """For every frame of the video the row in whose step of time it lies, None before the first and behind the last."""
    is_written_out = any(is_clock(row.cells[column]) for row in rows)
    unit = 1.0 if is_written_out else time_unit(names[column]) or 1.0
    times = [style.parse_time(row.cells[column], row.line) * unit for row in rows]
    if len(times) < 2:
        raise RecordingError(
            path, "has a column of times and one row, so that the step is not known", line=rows[0].line
        )
    step = (times[-1] - times[0]) / (len(times) - 1)
    rounding_s = _ROUNDING_S
    if _is_row_per_frame(len(rows), step, video) and all(_HUNDREDTHS.search(row.cells[column]) for row in rows[1:]):
        rounding_s *= 5  # 0.03, 0.07, 0.1 are frames of 1/30 s
    for row, (before, after) in zip(rows[1:], pairwise(times), strict=True):
        if not abs(after - before - step) <= max(_STEP_TOLERANCE * step, 2 * rounding_s) or not step > 0:
            problem = f"expected times in equal steps of {step:.4g} s, got one of {after - before:.4g} s"
            raise RecordingError(path, f"{problem}; export every step, or bouts", line=row.line)
    if step > _MAX_STEP_S:
        problem = f"expected a row for every step of {_MAX_STEP_S:g} s or less, got steps of {step:.4g} s"
        problem = f"{problem}, between which nobody may have looked; bring bouts with start_s,stop_s,behaviour"
        raise RecordingError(path, problem, line=rows[0].line)
    _check_begins(path, times[0], step, rows, video)
    begin, end_of_last, found = _steps_of(times, step, video)
    # Times that are as many as the frames, and about as far apart, are the frames', however they are rounded.
    if _is_row_per_frame(len(rows), step, video) and len(rows) == video.n_frames and step > 0.6 / video.fps:
        return list(range(len(rows))), [*found, *rate_differs(range(len(rows)), times, video)]
    # Compared with the times as they stand, rounded, rather than with multiples of the step, whose error adds up.
    tolerance = min(_ROUNDING_S, 0.3 * step)
    end = round(end_of_last * video.fps)
    n_frames = end if video.open_ended else video.n_frames
    frame_times = np.arange(n_frames) / video.fps + tolerance
    places = np.searchsorted(np.asarray(times) - (times[0] - begin), frame_times, side="right") - 1
    # The last row lasts one step, too.
    behind = frame_times >= end_of_last
    chosen = [int(row) if row >= 0 and not late else None for row, late in zip(places, behind, strict=True)]
    check_reaches_end(path, end, video, line=rows[-1].line)
    if end - n_frames > MAX_DIFFERENCE_S * video.fps:
        problem = f"goes on for {(end - n_frames) / video.fps:.1f} s behind the video; check that both belong together"
        raise RecordingError(path, problem, line=rows[-1].line)
    found += [ReadingWarning(BEYOND_END, end - n_frames)] if end > n_frames else []
    if begin > step + tolerance:
        kind = "times begin later than at 0, and frames before them have no label; subtract what the clock began with"
        found.append(ReadingWarning(kind, round(begin * video.fps)))
    return chosen, found


def _steps_of(times: Sequence[float], step: float, video: Video) -> tuple[float, float, list[ReadingWarning]]:
    """Where the first row's step begins and the last one's ends, in seconds, and a warning where that is a guess.

    A row's time is its step's start, end or middle. The first one tells: it is 0, one step or half of one. Where the
    times end tells besides: at the video's end, if they are ends of steps.
    """
    length_s = math.inf if video.open_ended else video.n_frames / video.fps
    near_s = _ROUNDING_S + 1.5 / video.fps
    ends_there = [abs(times[-1] + part * step - length_s) <= min(near_s, 0.4 * step) for part in (0.0, 0.5, 1.0)]
    is_one_step, is_half = (abs(times[0] - part * step) <= min(_ROUNDING_S, 0.2 * step) for part in (1.0, 0.5))
    if is_half:
        return times[0] - step / 2, times[-1] + step / 2, [ReadingWarning(STEPS_BY_MIDDLE, len(times), "rows")]
    if is_one_step and not ends_there[2]:
        kind = STEPS_BY_END if ends_there[0] else STEPS_MAY_BE_STARTS
        return times[0] - step, times[-1], [ReadingWarning(kind, len(times), "rows")]
    # From 0 on, up to a row that has no frame any more: that, or the first one, is none of a step's.
    is_one_more = times[0] <= _ROUNDING_S and ends_there[0] and step > near_s
    found = [ReadingWarning(STEPS_MAY_BE_ENDS, len(times), "rows")] if is_one_step or is_one_more else []
    return times[0], times[-1] + step, found


def _check_begins(path: Path, begin: float, step: float, rows: Sequence[Row], video: Video) -> None:
    """Raise where a table has a row for each frame and its clock began elsewhere: all labels would be late."""
    if _is_row_per_frame(len(rows), step, video) and begin > step + _ROUNDING_S:
        problem = f"has a row for each of the video's {video.n_frames} frames, and its times begin at {begin:.4g} s"
        raise RecordingError(path, f"{problem}; subtract that, or name a column 'frame'", line=rows[0].line)


def _is_row_per_frame(n_rows: int, step: float, video: Video) -> bool:
    return not video.open_ended and abs(n_rows - video.n_frames) <= 1 and step < 1.5 / video.fps
