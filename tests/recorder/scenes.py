"""What the tests of recordings share: numbered frames put into a recorder, and read from its file."""

from __future__ import annotations

from pathlib import Path

import msgpack

from rtseg.config import ServeSettings
from rtseg.recorder.reading import RecordingFile, unpacked
from rtseg.recorder.recorder import Recorder

SMALL = ServeSettings(record_buffer_mb=1, record_snapshot_s=1000.0)
PADDING = bytes(1000)


def put(recorder: Recorder, numbers: range, size: int = 0) -> None:
    for n in numbers:
        recorder.record_frame(msgpack.packb({"n": n, "padding": bytes(size)}), n)


def numbers_in(path: Path) -> list[int]:
    with RecordingFile(path) as file:
        read = [unpacked(path, message.data)["n"] for message in file.messages() if message.topic == "frames"]
        assert not file.problem
    return read
