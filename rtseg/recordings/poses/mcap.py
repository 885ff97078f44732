"""Reads the frames of a recording that `rtseg serve --record` wrote: one Recording for each stream that was open in it.

Frames that never came are absent, so that the gap rule does with them what the daemon did. Only where so many are
absent that they would fill memory, a new Recording begins.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rtseg.frames.frame import MAX_CONFIDENCE, MAX_COORDINATE_PX
from rtseg.frames.skeleton import Skeleton
from rtseg.recorder.reading import MALFORMED, RecordedMessage, RecordingFile, unpacked
from rtseg.recordings.files.reading_warnings import ReadingWarning
from rtseg.recordings.poses.pose_file import MAX_SKIPPED, PoseReader, confidence_of_points, read_points
from rtseg.recordings.recording import Recording
from rtseg.wire.messages import Hello, parse_frame


@dataclass(eq=False)
class _Segment:
    """Frames of one stream, by rising numbers."""

    name: str
    hello: dict[str, Any]
    n_points: int
    frames: list[dict[str, Any]] = field(default_factory=list)

    def has_room_until(self, seq: int) -> bool:
        """Whether a frame of this number leaves no more frames absent than any other file may lack."""
        n_rows = len(self.frames)
        return n_rows == 0 or seq - self.frames[0]["seq"] - n_rows <= max(n_rows, MAX_SKIPPED)


def read_mcap(path: Path, *, fps: float | None = None, name: str | None = None) -> Iterator[Recording]:
    """The recordings in a file, in the order in which they begin.

    fps: unused, because every stream declared its own. name: only the recording of this name. A recording is named
    after its stream, NAME@SEQ where it does not begin with frame 0, and NAME#2 where the name came before. Messages
    whose content is damaged are left out, with a warning. Raises RecordingError where the file is no recording of the
    daemon's.
    """
    with RecordingFile(path) as file:
        segments, damaged = _segments(path, file.messages())
        warnings: tuple[ReadingWarning, ...] = ()
        if file.problem:
            warnings += (ReadingWarning(f"{file.problem}: what is there was read", 1, "file"),)
        if damaged:
            warnings += (ReadingWarning("damaged messages were left out", damaged, "message"),)
    for segment in segments:
        if segment.frames and name in (None, segment.name):
            yield _recording(path, segment, warnings)


def _segments(path: Path, messages: Iterator[RecordedMessage]) -> tuple[list[_Segment], int]:
    """Every stream's frames, and how many messages are damaged."""
    segments: list[_Segment] = []
    at: dict[str, _Segment] = {}
    used: dict[str, int] = {}
    damaged = 0

    def begin(hello: dict[str, Any]) -> _Segment:
        animals, keypoints = Hello.from_message({k: v for k, v in hello.items() if k != "resumed"}).skeleton.shape
        segment = at[hello["stream"]] = _Segment("", hello, animals * keypoints)
        segments.append(segment)
        return segment

    def add_frame(frame: dict[str, Any]) -> None:
        parse_frame(frame)  # or it raises
        segment = at.get(frame["stream"])
        if segment is None:
            return  # without the hello the shape of its bytes is unknown
        if len(frame["kp"]) != 8 * segment.n_points or len(frame.get("conf") or b"") not in (0, 4 * segment.n_points):
            raise ValueError("a frame of another shape than its stream's")
        if segment.frames and frame["seq"] <= segment.frames[-1]["seq"]:
            return  # the daemon dropped it as late
        if not segment.has_room_until(frame["seq"]):
            segment = begin(segment.hello)
        if not segment.frames:
            segment.name = _named(frame, used)
        segment.frames.append(frame)

    for told in messages:
        try:
            message = unpacked(path, told.data)
            if told.topic == "frames":
                add_frame(message)
            elif told.topic == "snapshots" and message["stream"] not in at:
                begin(message["hello"])
            elif told.topic == "events" and message["type"] == "hello":
                begin(message)
            elif told.topic == "events" and message["type"] == "closed":
                at.pop(message.get("stream", ""), None)
        except MALFORMED:
            damaged += 1
    return segments, damaged


def _named(first: dict[str, Any], used: dict[str, int]) -> str:
    name = first["stream"] if first["seq"] == 0 else f"{first['stream']}@{first['seq']}"
    used[name] = used.get(name, 0) + 1
    return name if used[name] == 1 else f"{name}#{used[name]}"


def _recording(path: Path, segment: _Segment, warnings: tuple[ReadingWarning, ...]) -> Recording:
    names = segment.hello.get("names") or {}
    plain = segment.hello["skeleton"]
    skeleton = Skeleton(
        animals=tuple(names.get(n, n) for n in plain["animals"]),
        keypoints=tuple(names.get(n, n) for n in plain["keypoints"]),
    )
    (a, k), first = skeleton.shape, segment.frames[0]["seq"]
    total = segment.frames[-1]["seq"] - first + 1
    keypoints = np.full((total, a, k, 2), np.nan, np.float32)
    confidence, absent = np.zeros((total, a, k), np.float32), np.ones(total, np.bool_)
    times = np.zeros(total, np.int64)
    for frame in segment.frames:
        t, conf = frame["seq"] - first, frame.get("conf")
        keypoints[t] = np.frombuffer(frame["kp"], "<f4").reshape(a, k, 2)
        confidence[t] = np.frombuffer(conf, "<f4").reshape(a, k) if conf else confidence_of_points(keypoints[t])
        absent[t], times[t] = False, frame["t_source_ns"]
    # Points that the model does not use were never checked, and no daemon computed anything with them.
    with np.errstate(invalid="ignore"):
        keypoints[(np.abs(keypoints) > MAX_COORDINATE_PX).any(axis=-1) | (confidence >= MAX_CONFIDENCE)] = np.nan
    if absent.any():
        warnings += (ReadingWarning("frames that never came are absent", int(absent.sum())),)
    if segment.hello.get("arena"):
        kind = f"recorded with the arena {segment.hello['arena']}; a pose file carries none"
        warnings += (ReadingWarning(kind, 1, "stream"),)
    source = f"{path}: {segment.name}"
    points, scores, found = read_points(path, keypoints, confidence, is_whole=False)  # what a stream sent is judged
    return Recording(
        name=segment.name,
        skeleton=skeleton,
        keypoints=points,
        confidence=scores,
        fps=float(segment.hello["fps"]),
        source=source,
        warnings=(*warnings, *found),
        absent=absent if absent.any() else None,
        first_seq=first,
        t_source_ns=times,
        px_per_mm=segment.hello.get("px_per_mm"),
    )


READER = PoseReader(
    "recordings of rtseg .mcap", (".mcap",), lambda probe: True, read_mcap, carries_rate=True, holds_several=True
)
