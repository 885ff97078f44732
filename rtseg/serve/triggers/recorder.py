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

    def record(
        self, stream: Stream, message: dict[str, Any], *, is_told: bool = True, only_recorded: bool = False
    ) -> bool:
        """Record it now; `tell` follows. False where the daemon records and there was no room for it.

        is_told: whether subscribers get it. only_recorded: not where it found no room.
        """
        packed = self._packer.pack({"v": VERSION, "stream": stream.name, **message})
        recording = self._outlet.recording
        is_recorded = recording is None or recording.record_trigger(packed, time.monotonic_ns())
        if is_told and (is_recorded or not only_recorded):
            self.untold.append((stream.topic, packed))
        return is_recorded

    def tell(self) -> None:
        """Tell subscribers what was recorded since the last call. Answers that were published have left before."""
        if not self.untold:
            return
        self._outlet.flush()
        untold, self.untold = self.untold, []
        for topic, packed in untold:
            self._outlet.send_packed(topic, packed)
