"""One frame of keypoints, and the ONE validation at the boundary.

A `Frame` that exists is valid: right shape, float32, contiguous, finite or NaN, NaN in both coordinates or in none.
No other part of the package checks a frame again. Points of files are judged by the same rule (`clean_frames`).
"""

from __future__ import annotations

import math
import operator
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from rtseg.errors import FrameError

Float32 = NDArray[np.float32]

MAX_COORDINATE_PX = np.float32(1e6)
"""No camera has such a pixel; a larger number is a bug of the sender, not an animal."""
MAX_CONFIDENCE = np.float32(2.0)
"""SLEAP's scores pass 1 by a little and are taken as 1; from here on they are percent or something else."""
MAX_SEQ = 2**63 - 1
"""Sequence numbers and nanoseconds travel as unsigned 64-bit integers and are kept signed here."""


# A named tuple, because one is made for every frame: a frozen dataclass takes twice as long.
class Frame(NamedTuple):
    """One camera frame of one stream.

    stream: its name. seq: +1 per camera frame. t_source_ns: the source's own clock, in nanoseconds.
    keypoints: (A, K, 2) float32, px, NaN = missing. confidence: (A, K) float32 in [0, 1], 0 where missing.
    is_clipped: whether some confidence was above 1 and is taken as 1. Build it with `checked_frame`, which validates.
    """

    stream: str
    seq: int
    t_source_ns: int
    keypoints: Float32
    confidence: Float32
    is_clipped: bool = False


def checked_frame(
    keypoints: ArrayLike,
    confidence: ArrayLike | None = None,
    *,
    shape: tuple[int, int],
    seq: int = 0,
    t_source_ns: int = 0,
    stream: str = "",
) -> Frame:
    """A validated Frame from anything array-like.

    keypoints: (A, K, 2) px with NaN where missing; confidence: (A, K) or None, which stands for 1 where a point is
    present. shape: the (A, K) that the stream declared. What else is a missing point says `clean_frames`. Raises
    FrameError naming field, expectation and what came.
    """
    try:
        seq, t_source_ns = operator.index(seq), operator.index(t_source_ns)
    except TypeError as error:
        raise FrameError(f"stream {stream!r}: seq and t_source_ns must be whole numbers: {error}") from error
    if not 0 <= seq <= MAX_SEQ or not 0 <= t_source_ns <= MAX_SEQ:
        raise FrameError(f"stream {stream!r}: seq and t_source_ns must lie in 0 .. 2^63-1, got {seq} and {t_source_ns}")
    try:
        points = _float32(keypoints)
        scores = np.ones(shape, np.float32) if confidence is None else _float32(confidence)
    except (TypeError, ValueError, OverflowError) as error:
        raise FrameError(f"stream {stream!r}, seq {seq}: keypoints and confidence must be numbers: {error}") from error
    if points.shape != (*shape, 2):
        raise FrameError(f"stream {stream!r}, seq {seq}: keypoints must have shape {(*shape, 2)}, got {points.shape}")
    if scores.shape != shape:
        raise FrameError(f"stream {stream!r}, seq {seq}: confidence must have shape {shape}, got {scores.shape}")
    has_scores = confidence is not None
    return own_frame(points, scores, seq=seq, t_source_ns=t_source_ns, stream=stream, has_scores=has_scores)


def own_frame(
    points: Float32, scores: Float32, *, seq: int, t_source_ns: int, stream: str, has_scores: bool = True
) -> Frame:
    """The same from arrays (A, K, 2) and (A, K) of the right shapes that the caller gives away: cleaned in place.

    has_scores: whether the scores came with the frame; where not, they must be 1. seq and t_source_ns must lie in
    0 .. 2^63-1. Raises FrameError for what is in the arrays.
    """
    found = clean(points, scores, has_scores)
    if found > CLIPPED:
        raise FrameError(f"stream {stream!r}, seq {seq}: {_PROBLEMS[found]}")
    return Frame(stream, seq, t_source_ns, points, scores, found == CLIPPED)


def _float32(values: ArrayLike) -> Float32:
    """A copy as float32; TypeError for what numpy would turn into numbers though it is none, such as text and dates."""
    raw = np.asarray(values)
    # Always a copy: validation cleans in place, and the caller's array must not change.
    if raw.dtype == np.float32:
        return np.array(raw, order="C")
    # Text and dates would be parsed as numbers; O is a list with None in it, which becomes NaN.
    if raw.dtype.kind not in "fiubO":
        raise TypeError(f"got an array of {raw.dtype}")
    with np.errstate(over="ignore"):  # too large for float32 becomes infinite, which is refused as a coordinate
        return np.array(raw, np.float32, order="C")


FINE, WRITTEN_AS_MISSING, CLIPPED, TOO_FAR, PERCENT = range(5)
"""What may be found of a point; the last two are refused."""
_PROBLEMS = {
    TOO_FAR: f"a coordinate is infinite or beyond {MAX_COORDINATE_PX:.0f} px; write NaN for a missing point",
    PERCENT: f"confidence must lie in [0, 1], or a little above; got {MAX_CONFIDENCE:g} or more: divide percent by 100",
}


@njit(cache=True)
def _clean_point(points: Float32, scores: Float32, a: int, k: int, has_scores: bool) -> int:
    """The one rule of what a point is, live and in files; changes points (A, K, 2) and scores (A, K) in place."""
    x, y, score = points[a, k, 0], points[a, k, 1], scores[a, k]
    # In this order: a point that is missing may have any confidence, and NaN passes every comparison below.
    if math.isnan(x) or math.isnan(y):
        points[a, k, 0] = points[a, k, 1] = np.nan
        scores[a, k] = 0.0
        return FINE
    if abs(x) > MAX_COORDINATE_PX or abs(y) > MAX_COORDINATE_PX:
        return TOO_FAR
    if score >= MAX_CONFIDENCE:
        return PERCENT
    # A likelihood that is NaN is no evidence either, hence not `<= 0`.
    is_sure = has_scores and score > 0
    if score < 0 or (not is_sure and ((x == 0 and y == 0) or (x == -1 and y == -1))):
        points[a, k, 0] = points[a, k, 1] = np.nan
        scores[a, k] = 0.0
        return WRITTEN_AS_MISSING
    if score > 1:
        scores[a, k] = 1.0
        return CLIPPED
    if math.isnan(score):
        scores[a, k] = 0.0
    return FINE


@njit(cache=True)
def clean(points: Float32, scores: Float32, has_scores: bool) -> int:
    """`clean_frames` of one frame, (A, K, 2) and (A, K): FINE, CLIPPED, or why it is refused, TOO_FAR or PERCENT.

    has_scores: False where all scores are 1 because none came.
    """
    found = FINE
    for a in range(scores.shape[0]):
        for k in range(scores.shape[1]):
            point = _clean_point(points, scores, a, k, has_scores)
            if point > CLIPPED:
                return point
            if point == CLIPPED:
                found = CLIPPED
    return found


@njit(cache=True)
def clean_frames(points: Float32, scores: Float32, counts: NDArray[np.int64], first: NDArray[np.int64]) -> None:
    """Points (T, A, K, 2) and scores (T, A, K) as frames have them, in place.

    A point is missing where a coordinate is NaN; where it is 0, 0 or -1, -1 and its confidence not above 0; and where
    its confidence is negative. A missing point has NaN in both coordinates and confidence 0. Confidences above 1 become
    1, and NaN 0. counts (5,): how many points were found FINE, WRITTEN_AS_MISSING, CLIPPED, TOO_FAR, PERCENT; first
    (5,): the number of the first such point in (T, A, K), -1 without any. Points that are refused stay as they are.
    """
    counts[:], first[:] = 0, -1
    n = 0
    for t in range(scores.shape[0]):
        for a in range(scores.shape[1]):
            for k in range(scores.shape[2]):
                found = _clean_point(points[t], scores[t], a, k, True)
                counts[found] += 1
                if first[found] < 0:
                    first[found] = n
                n += 1


@njit(cache=True)
def point_quality(
    keypoints: Float32,
    confidence: Float32,
    low: float,
    missing_flag: int,
    low_flag: int,
    out: NDArray[np.int32],
    missing: NDArray[np.int32],
) -> None:
    """Flags of frames (N, A, K, 2) and (N, A, K) into out (N,), and how many of their points are missing, (N,).

    missing_flag where a point is missing; low_flag where the mean confidence of the seen points is under `low`, or no
    point was seen.
    """
    # These are the frame's own points, before any is held: the flags tell what the tracker missed.
    for n in range(len(out)):
        seen, total, points = 0, 0.0, 0
        for a in range(confidence.shape[1]):
            for k in range(confidence.shape[2]):
                points += 1
                if not math.isnan(keypoints[n, a, k, 0]):
                    seen += 1
                    total += confidence[n, a, k]
        out[n], missing[n] = 0, points - seen
        if seen < points:
            out[n] |= missing_flag
        # Multiplied, not divided: no point may have been seen.
        if seen == 0 or total < low * seen:
            out[n] |= low_flag


def missing_frame(shape: tuple[int, int], *, seq: int, t_source_ns: int, stream: str) -> Frame:
    """The frame that takes the place of one that never came: every point missing."""
    return Frame(stream, seq, t_source_ns, np.full((*shape, 2), np.nan, np.float32), np.zeros(shape, np.float32))
