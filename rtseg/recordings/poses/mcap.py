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
from rtseg.recordings.recording import Recording, clean


@dataclass(eq=False)
class _Part:
    """Frames of one stream that follow each other."""

    name: str
    hello: dict[str, Any]
    frames: list[dict[str, Any]] = field(default_factory=list)
    late: int = 0


def read_mcap(path: Path, *, name: str | None = None) -> Iterator[Recording]:
    """The recordings in a file, in the order in which they began.

    name: only the one of this name. A recording is named after its stream, NAME@SEQ where it does not begin with frame
    0, and NAME#2 where the name came before. Raises RecordingError where the file is no recording of the daemon's.
    """
    with RecordingFile(path) as file:
        fill_frames = int(file.session.get("fill_frames", "0"))
        parts = list(_parts(path, file.messages(), fill_frames))
        torn = (f"{file.problem}: what is there was read",) if file.problem else ()
    for part in parts:
        if part.frames and name in (None, part.name):
            yield _recording(path, part, torn)


def _parts(path: Path, messages: Iterator[RecordedMessage], fill_frames: int) -> Iterator[_Part]:
    parts: list[_Part] = []
    at: dict[str, _Part] = {}
    used: dict[str, int] = {}

    def begin(hello: dict[str, Any]) -> _Part:
        part = at[hello["stream"]] = _Part("", hello)
        parts.append(part)
        return part

    for told in messages:
        if told.topic == "frames":
            frame = unpacked(path, told.data)
            part = at.get(frame["stream"])
            if part is None:
                continue  # its hello is missing: nobody knows what its bytes mean
            if part.frames and frame["seq"] <= part.frames[-1]["seq"]:
                part.late += 1
                continue
            if part.frames and frame["seq"] - part.frames[-1]["seq"] - 1 > fill_frames:
                part = begin(part.hello)
            if not part.frames:
                part.name = _named(frame, used)
            part.frames.append(frame)
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
    yield from parts


def _named(first: dict[str, Any], used: dict[str, int]) -> str:
    name = first["stream"] if first["seq"] == 0 else f"{first['stream']}@{first['seq']}"
    used[name] = used.get(name, 0) + 1
    return name if used[name] == 1 else f"{name}#{used[name]}"


def _recording(path: Path, part: _Part, warnings: tuple[str, ...]) -> Recording:
    names = part.hello.get("names") or {}
    plain = part.hello["skeleton"]
    skeleton = Skeleton(
        animals=tuple(names.get(n, n) for n in plain["animals"]),
        keypoints=tuple(names.get(n, n) for n in plain["keypoints"]),
    )
    (a, k), first = skeleton.shape, part.frames[0]["seq"]
    total = part.frames[-1]["seq"] - first + 1
    keypoints = np.full((total, a, k, 2), np.nan, np.float32)
    confidence = np.zeros((total, a, k), np.float32)
    for frame in part.frames:
        t, conf = frame["seq"] - first, frame.get("conf")
        try:
            keypoints[t] = np.frombuffer(frame["kp"], "<f4").reshape(a, k, 2)
            confidence[t] = 1.0 if conf is None else np.frombuffer(conf, "<f4").reshape(a, k)
        except ValueError as error:
            raise RecordingError(path, f"stream {part.name!r}, seq {frame['seq']}: {error}") from None
    missing = total - len(part.frames)
    if missing:
        warnings += (f"{missing} frames that never came are without points",)
    if part.hello.get("arena"):
        warnings += (f"recorded with the arena {part.hello['arena']}; a pose file carries none",)
    points, scores = clean(keypoints, confidence, zero_is_missing=False)
    source = f"{path}: {part.name}"
    return Recording(part.name, skeleton, points, scores, float(part.hello["fps"]), source, warnings)
