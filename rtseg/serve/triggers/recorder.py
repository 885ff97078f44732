"""Messages about triggers on their way out: recorded at once, told to subscribers after the answers they are about."""

from __future__ import annotations

import time
from typing import Any

import msgpack

from rtseg.serve.publish.outlet import Outlet
from rtseg.serve.streams.stream import Stream
from rtseg.wire.messages import VERSION


class TriggerRecorder:
    """What the trigger stage says. outlet: where it leaves; its counters count what triggers do. untold: topics and
    messages that subscribers have not got yet.
    """

    def __init__(self, outlet: Outlet) -> None:
        self._outlet, self._packer = outlet, msgpack.Packer()
        self.untold: list[tuple[bytes, bytes]] = []
        self.counters = outlet.counters

    def record(self, stream: Stream, message: dict[str, Any], *, is_told: bool = True) -> None:
        """Record it now; `tell` follows. is_told: whether subscribers get it."""
        packed = self._packer.pack({"v": VERSION, "stream": stream.name, **message})
        recording = self._outlet.recording
        if recording is not None:
            recording.record_trigger(packed, time.monotonic_ns())
        if is_told:
            self.untold.append((stream.topic, packed))

    def tell(self) -> None:
        """Tell subscribers what was recorded since the last call. Answers that were published have left before."""
        if not self.untold:
            return
        self._outlet.flush()
        untold, self.untold = self.untold, []
        for topic, packed in untold:
            self._outlet.send_packed(topic, packed)
