"""Frames of a camera that runs at another rate than the model: made into the model's, causally, by one written rule.

Camera frame c, counted from the stream's first, lies at time c / camera rate; model frame n at n / model rate. Only the
numbers of frames count, never a clock, so a recording is resampled exactly as its live stream was.

The rule. Model frame n lies between two camera frames and is made when the later one comes: each point by linear
interpolation; a point that is missing in one of the two is taken from the nearer one, where it may be missing, too.
Where n coincides with a camera frame it is that frame. Where a camera frame never came, n is made from the other one if
that is the nearer one, and else not at all: then the session's gap rule applies.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.errors import RateError, SnapshotError
from rtseg.frames.frame import MAX_SEQ, Frame

Poses = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Keypoints (..., A, K, 2) px and confidence (..., A, K)."""
LOWEST, HIGHEST = 0.5, 20.0
"""Camera rates that are accepted, as multiples of the model's. Below them most frames would be invented."""
MAX_DENOMINATOR = 1001
"""Largest denominator of the ratio of rates: 29.97 is 30000 / 1001."""


def poses_between(early: Poses, late: Poses, weight: float | NDArray[np.floating[Any]]) -> Poses:
    """Between two frames, or N pairs of them, by the rule above. weight: in [0, 1], (N,) for N pairs, how far on the
    way from the early one to the late one.
    """
    far = np.asarray(weight)[..., None, None]
    part = far.astype(np.float32)
    # NaN in either frame gives NaN; those points are filled in below.
    points = early[0] + (late[0] - early[0]) * part[..., None]
    scores = early[1] + (late[1] - early[1]) * part
    alone = np.isnan(points[..., 0])
    if alone.any():
        # Exactly half way the later frame counts as the nearer one, as in `Resampler.push`.
        from_late, from_early = alone & (far >= 0.5), alone & (far < 0.5)
        for here, (nearer, nearer_scores) in ((from_late, late), (from_early, early)):
            points[here], scores[here] = nearer[here], nearer_scores[here]
    return points, scores


class Resampler:
    """From the frames of a camera to those of a model. fps: the camera's and the model's.

    delay_s: by how much a model frame's answer comes later than its time, at most. Raises RateError for a camera that
    is too slow or too fast. What it remembers is `state`, to be put back by `restore`.
    """

    def __init__(self, camera_fps: float, model_fps: float, who: str = "") -> None:
        # A ratio of small whole numbers: times are then compared exactly, after any number of frames.
        ratio = Fraction(camera_fps / model_fps).limit_denominator(MAX_DENOMINATOR)
        if not LOWEST <= ratio <= HIGHEST:
            raise RateError(
                f"{who}: {camera_fps:g} frames per second cannot be resampled to the model's {model_fps:g}: the camera "
                f"must run at {LOWEST * model_fps:g} to {HIGHEST * model_fps:g}"
            )
        self._num, self._den = ratio.numerator, ratio.denominator
        # A model frame waits for the next camera frame, and lies at least 1 / den of a camera frame beyond the last
        # one.
        self.delay_s = (self._den - 1) / self._den / camera_fps
        self.reset()

    def reset(self) -> None:
        """Forget everything: the next frame is a first one."""
        self._origin: int | None = None
        self._next = 0
        self._last: Frame | None = None

    def push(self, frame: Frame) -> list[Frame]:
        """The model frames that a camera frame completes, none to a few, numbered 0, 1, 2, ... as their `seq`.

        Camera frames must come in order of their numbers; a duplicate or late one gives none.
        """
        last = self._last
        # Model frame 0 is the stream's first camera frame, whatever its number.
        if self._origin is None or last is None:
            self._origin, self._last, self._next = frame.seq, frame, 1
            return [_numbered(frame, 0)]
        if frame.seq <= last.seq:
            return []
        # In whole numbers: camera times in units of 1 / den of a frame.
        num, den = self._num, self._den
        there, here = (last.seq - self._origin) * den, (frame.seq - self._origin) * den
        # Alone: camera frames are missing between the last one and this one.
        alone, made = frame.seq - last.seq > 1, []
        while (at := self._next * num) <= here:
            if not alone or at == here:
                made.append(self._between(last, frame, at - there))
            elif 2 * (at - there) < den:
                made.append(_numbered(last, self._next))
            elif 2 * (here - at) <= den:
                made.append(_numbered(frame, self._next))
            else:  # within a gap: go on with the first one that lies nearer to this frame than to a missing one
                self._next = -(-(2 * here - den) // (2 * num))
                continue
            self._next += 1
        self._last = frame
        return made

    @property
    def last_seq(self) -> int | None:
        """Number of the newest camera frame; None before the first."""
        return None if self._last is None else self._last.seq

    def camera_seq(self, n: int) -> int:
        """Number of the camera frame that completes model frame n."""
        assert self._origin is not None
        return self._origin - (-n * self._num // self._den)

    def state(self) -> dict[str, Any]:
        """Plain values for a snapshot."""
        last = self._last
        plain = None
        if last is not None:
            plain = [last.seq, last.t_source_ns, last.keypoints.tobytes(), last.confidence.tobytes()]
        return {"origin": self._origin, "next": self._next, "last": plain}

    def restore(self, state: object, stream: str, shape: tuple[int, int]) -> None:
        """The inverse of `state`. shape: (A, K). Raises SnapshotError for anything else, and nothing changes then."""
        if not isinstance(state, dict) or not {"origin", "next", "last"}.issubset(state):
            raise SnapshotError("the snapshot is damaged: it has no resampled frames")
        origin, following, last = state["origin"], state["next"], state["last"]
        if last is None:
            if origin is not None or following != 0:
                raise SnapshotError("the snapshot is damaged: its resampling began without a frame")
            self.reset()
            return
        frame = _restored_frame(last, stream, shape)
        # The next model frame is the first one after the last camera frame; one before it would be made, and many more.
        if type(origin) is not int or not 0 <= origin <= frame.seq:
            raise SnapshotError(f"the snapshot is damaged: its resampling began at {origin!r}"[:200])
        if type(following) is not int or following != (frame.seq - origin) * self._den // self._num + 1:
            raise SnapshotError(f"the snapshot is damaged: its resampling goes on with frame {following!r}"[:200])
        self._origin, self._next, self._last = origin, following, frame

    def _between(self, early: Frame, late: Frame, past: int) -> Frame:
        """Between two consecutive frames, or at the later one. past: how far after the early one, in 1 / den."""
        if past % self._den == 0:
            return _numbered(late, self._next)
        return _interpolated(early, late, past, self._den, self._next)


def _restored_frame(plain: object, stream: str, shape: tuple[int, int]) -> Frame:
    """A camera frame of `Resampler.state`. Raises SnapshotError."""
    if not isinstance(plain, list) or [type(part) for part in plain] != [int, int, bytes, bytes]:
        raise SnapshotError("the snapshot is damaged: the last frame of its resampling is none")
    seq, t_source_ns, points, scores = plain
    a, k = shape
    sizes_fit = (len(points), len(scores)) == (8 * a * k, 4 * a * k)
    if not (0 <= seq <= MAX_SEQ and 0 <= t_source_ns <= MAX_SEQ and sizes_fit):
        raise SnapshotError("the snapshot is damaged: the last frame of its resampling is none")
    keypoints = np.frombuffer(points, np.float32).reshape(*shape, 2).copy()
    return Frame(stream, seq, t_source_ns, keypoints, np.frombuffer(scores, np.float32).reshape(shape).copy())


def _numbered(frame: Frame, n: int) -> Frame:
    return Frame(frame.stream, n, frame.t_source_ns, frame.keypoints, frame.confidence)


def _interpolated(early: Frame, late: Frame, past: int, den: int, n: int) -> Frame:
    """Between two consecutive camera frames, past / den of the way from the early one to the late one."""
    # One division of whole numbers, rounded once: the weight does not depend on how long the stream has run.
    before, after = (early.keypoints, early.confidence), (late.keypoints, late.confidence)
    points, scores = poses_between(before, after, past / den)
    t_ns = early.t_source_ns + (late.t_source_ns - early.t_source_ns) * past // den
    return Frame(early.stream, n, t_ns, points, scores)
