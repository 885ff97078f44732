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

    def record(self, stream: Stream, message: dict[str, Any]) -> None:
        """Record what has happened, also where most else finds no room, and tell subscribers; `tell` follows."""
        packed, recording = self._packed(stream, message), self._outlet.recording
        if recording is not None:
            recording.record_trigger_end(packed, time.monotonic_ns())
        self.untold.append((stream.topic, packed))

    def record_decision(self, stream: Stream, message: dict[str, Any]) -> None:
        """Record what was decided and changes nothing, as far as there is room, and tell subscribers."""
        packed = self._packed(stream, message)
        self._has_recorded(packed)
        self.untold.append((stream.topic, packed))

    def record_beginning(self, stream: Stream, message: dict[str, Any]) -> bool:
        """Record what is about to happen. False, and nobody is told, where there was no room: it must not happen."""
        packed = self._packed(stream, message)
        if not self._has_recorded(packed):
            return False
        self.untold.append((stream.topic, packed))
        return True

    def record_memory(self, stream: Stream, message: dict[str, Any]) -> None:
        """Record what only a replay needs; subscribers are not told."""
        self._has_recorded(self._packed(stream, message))

    def _packed(self, stream: Stream, message: dict[str, Any]) -> bytes:
        packed: bytes = self._packer.pack({"v": VERSION, "stream": stream.name, **message})
        return packed

    def _has_recorded(self, packed: bytes) -> bool:
        """True as well where the daemon records nothing."""
        recording = self._outlet.recording
        return recording is None or recording.record_trigger(packed, time.monotonic_ns())

    def tell(self) -> None:
        """Tell subscribers what was recorded since the last call. Answers that were published have left before."""
        if not self.untold:
            return
        self._outlet.flush()
        untold, self.untold = self.untold, []
        for topic, packed in untold:
            self._outlet.send_packed(topic, packed)
