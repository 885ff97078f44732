"""What a front keeps so that a worker can be replaced: every stream's last state, its frames since, open questions.

Bounded: of a stream as many frames as come between two states while nothing is wrong, and `backlog_frames` besides.
Knows no socket and reads no clock.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from typing import Any

from rtseg.config import ServeSettings
from rtseg.serve.workers import worker_protocol
from rtseg.wire.messages import clip_name

MAX_ASKED = 4096
"""Hellos and byes that wait for their answer; beyond that the oldest are not asked again when a worker is replaced."""


class StreamBackup:
    """One open stream. told: what its worker last said of it. most: frames that are kept at most."""

    def __init__(self, told: dict[str, Any], settings: ServeSettings) -> None:
        self.owner: bytes = told["owner"]
        self.fps = float(told["hello"]["fps"])
        # States come every `worker_snapshot_s`, twice as late under load, and not at all from a worker that hangs.
        held_s = 2 * settings.worker_snapshot_s + settings.worker_silence_s
        self.most = settings.backlog_frames + math.ceil(held_s * self.fps)
        self.told = told
        # seq, when it came, as it came; at first those that a worker has from a recording.
        self._frames: deque[tuple[int, int, bytes]] = deque(map(tuple, told.pop("waiting", ())))

    def keep(self, seq: int, now_ns: int, data: bytes) -> bool:
        """A frame on its way; whether the oldest one was left out for it."""
        self._frames.append((seq, now_ns, data))
        if len(self._frames) <= self.most:
            return False
        self._frames.popleft()
        return True

    def follow(self, told: dict[str, Any]) -> None:
        """A newer state, maybe of another owner; what it covers need not be kept."""
        self.told, self.owner = told, told["owner"]
        done = -1 if told["seq"] is None else told["seq"]
        while self._frames and self._frames[0][0] <= done:
            self._frames.popleft()

    def restored(self, published: int) -> bytes:
        """For the worker that goes on with it. published: the number of its newest answer that went out."""
        return worker_protocol.restore(
            self.told, self.owner, [(t_ns, data) for _, t_ns, data in self._frames], published
        )


class StreamBackups:
    """Of all streams of a front."""

    def __init__(self, settings: ServeSettings) -> None:
        self._settings = settings
        self._streams: dict[str, StreamBackup] = {}
        self._published: dict[bytes, int] = {}  # topic -> number of the newest answer that went out
        self._pending_status: dict[tuple[bytes, str, str], bytes] = {}

    def find(self, name: str, owner: bytes | None = None) -> StreamBackup | None:
        """The stream of this name, and of this owner where one is named."""
        kept = self._streams.get(name)
        return kept if kept is not None and owner in (None, kept.owner) else None

    def names(self) -> list[str]:
        """Of all that are open."""
        return list(self._streams)

    @property
    def declared_fps(self) -> float:
        """Frames per second of all streams together, as their hellos said."""
        return sum(kept.fps for kept in self._streams.values())

    def note(self, told: dict[str, Any]) -> None:
        """What a worker says of a stream, or that it lives (`relay`)."""
        if told["type"] == "alive":
            return
        name = told["stream"]
        if told["type"] == "ended":
            self._streams.pop(name, None)
            self._published.pop(name.encode(), None)
            return
        kept = self._streams.get(name)
        if kept is None or kept.told["opened_ns"] != told["opened_ns"]:
            self._streams[name] = StreamBackup(told, self._settings)
        else:
            kept.follow(told)

    def restored(self) -> Iterator[tuple[str, bytes]]:
        """Each stream's name and what the worker that goes on with it must be told."""
        for name, kept in self._streams.items():
            yield name, kept.restored(self._published.get(name.encode(), 0))

    def is_news(self, topic: bytes, number: int) -> bool:
        """Whether an answer has not gone out yet; it does now. Numbers only grow, whoever gives them."""
        if number <= self._published.get(topic, 0):
            return False
        if topic.decode(errors="replace") in self._streams:  # nothing comes twice of a stream that is over
            self._published[topic] = number
        return True

    def ask(self, owner: bytes, kind: str, name: str, data: bytes) -> None:
        """A hello or a bye is on its way."""
        if len(self._pending_status) >= MAX_ASKED:
            del self._pending_status[next(iter(self._pending_status))]
        self._pending_status[owner, kind, clip_name(name)] = data

    def answered(self, owner: bytes, answer: dict[str, Any]) -> None:
        """A worker's answer to a client: what was asked need not be asked again."""
        kind, name = answer.get("type"), clip_name(str(answer.get("stream") or ""))
        complaint = kind == "error" and answer.get("seq") is None
        if complaint or kind in ("accepted", "refused"):
            self._pending_status.pop((owner, "hello", name), None)
        if complaint or kind == "goodbye":
            self._pending_status.pop((owner, "bye", name), None)

    def unanswered(self) -> Iterator[tuple[bytes, str, str, bytes]]:
        """Owner, kind, stream and message of what is still to be answered, in the order in which it came."""
        for (owner, kind, name), data in list(self._pending_status.items()):
            yield owner, kind, name, data
