"""Reads the frames of a recording that `rtseg serve --record` wrote: one Recording for each stream that was open in it.

Frames that the camera dropped become frames without any point, as the daemon stepped them; where it started the stream
again after a longer gap, a new Recording begins.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rtseg.errors import RecordingError
from rtseg.frames.skeleton import Skeleton
from rtseg.recorder.reading import RecordedMessage, RecordingFile, unpacked
from rtseg.recordings.files.reading_warnings import ReadingWarning
from rtseg.recordings.poses.pose_file import PoseReader
from rtseg.recordings.recording import Recording, clean


@dataclass(eq=False)
class _Segment:
    """Frames of one stream without a gap beyond what the daemon fills."""

    name: str
    hello: dict[str, Any]
    frames: list[dict[str, Any]] = field(default_factory=list)


def read_mcap(path: Path, *, fps: float | None = None, name: str | None = None) -> Iterator[Recording]:
    """The recordings in a file, in the order in which they begin.

    fps: unused, because every stream declared its own. name: only the recording of this name. A recording is named
    after its stream, NAME@SEQ where it does not begin with frame 0, and NAME#2 where the name came before. Raises
    RecordingError where the file is no recording of the daemon's.
    """
    with RecordingFile(path) as file:
        fill_frames = int(file.session.get("fill_frames", "0"))
        segments = list(_segments(path, file.messages(), fill_frames))
        damage = (ReadingWarning(f"{file.problem}: what is there was read", 1, "file"),) if file.problem else ()
    for segment in segments:
        if segment.frames and name in (None, segment.name):
            yield _recording(path, segment, damage)


def _segments(path: Path, messages: Iterator[RecordedMessage], fill_frames: int) -> Iterator[_Segment]:
    segments: list[_Segment] = []
    at: dict[str, _Segment] = {}
    used: dict[str, int] = {}

    def begin(hello: dict[str, Any]) -> _Segment:
        segment = at[hello["stream"]] = _Segment("", hello)
        segments.append(segment)
        return segment

    for told in messages:
        if told.topic == "frames":
            frame = unpacked(path, told.data)
            segment = at.get(frame["stream"])
            if segment is None:
                continue  # without the hello the shape of its bytes is unknown
            if segment.frames and frame["seq"] <= segment.frames[-1]["seq"]:
                continue  # the daemon dropped it as late
            # The daemon started the stream again here, with fresh state: what follows is a recording of its own.
            if segment.frames and frame["seq"] - segment.frames[-1]["seq"] - 1 > fill_frames:
                segment = begin(segment.hello)
            if not segment.frames:
                segment.name = _named(frame, used)
            segment.frames.append(frame)
        elif told.topic == "snapshots":
            snapshot = unpacked(path, told.data)
            if snapshot["stream"] not in at:
                begin(snapshot["hello"])
        elif told.topic == "events":
            event = unpacked(path, told.data)
            if event["type"] == "hello":
                begin(event)
            elif event["type"] == "closed":
                at.pop(event.get("stream", ""), None)
    yield from segments


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
    confidence = np.zeros((total, a, k), np.float32)
    for frame in segment.frames:
        t, conf = frame["seq"] - first, frame.get("conf")
        try:
            keypoints[t] = np.frombuffer(frame["kp"], "<f4").reshape(a, k, 2)
            confidence[t] = 1.0 if conf is None else np.frombuffer(conf, "<f4").reshape(a, k)
        except ValueError as error:
            raise RecordingError(path, f"stream {segment.name!r}, seq {frame['seq']}: {error}") from None
    missing = total - len(segment.frames)
    if missing:
        warnings += (ReadingWarning("frames that never came are without points", missing),)
    if segment.hello.get("arena"):
        kind = f"recorded with the arena {segment.hello['arena']}; a pose file carries none"
        warnings += (ReadingWarning(kind, 1, "stream"),)
    points, scores = clean(keypoints, confidence, zero_is_missing=False)
    source = f"{path}: {segment.name}"
    return Recording(segment.name, skeleton, points, scores, float(segment.hello["fps"]), source, warnings)


READER = PoseReader("recordings of rtseg .mcap", (".mcap",), lambda probe: True, read_mcap, carries_rate=True)
