"""Whose key a stream belongs to, seen from a front: it asks, a worker decides, and keys may be revoked in between.

A stream is its asker's from the hello on, so that no other key can come between question and answer.
"""

from __future__ import annotations

from typing import Any

from rtseg.serve.access.guard import Guard

MAX_NAME = 200
"""A longer name is no stream's, and its hello is refused."""
REVOKED = "key revoked"


class StreamOwners:
    """Between a front and its guard; does nothing where there is none. ending: streams that are to end, and why."""

    def __init__(self, guard: Guard | None) -> None:
        self._guard = guard
        self._pending_status: dict[tuple[bytes, str], str] = {}  # hello on its way -> the public half of who asked
        self.ending: dict[str, str] = {}

    def check(self, kind: str, stream: str | None, now_ns: int) -> None:
        """Raises AccessError or LimitError where the sender's key does not cover its message."""
        if self._guard is not None:
            self._guard.check_message(kind, stream, now_ns)

    def asked(self, owner: bytes, stream: str) -> None:
        """A hello, from the sender of the message in hand, goes to a worker."""
        if self._guard is not None and len(stream) <= MAX_NAME:
            self._pending_status[owner, stream] = self._guard.sender_key()
            self._guard.stream_opened(stream)

    def answered(self, owner: bytes, answer: dict[str, Any], *, is_open: bool) -> None:
        """A worker's answer to a client. is_open: whether there is a stream of this name."""
        stream = str(answer.get("stream") or "")
        about_hello = answer.get("type") in ("accepted", "refused")
        if self._guard is None or not (about_hello or (answer.get("type") == "error" and answer.get("seq") is None)):
            return
        key = self._pending_status.pop((owner, stream), None)
        if key is not None and answer["type"] == "accepted":
            self._guard.stream_opened(stream, key)
        elif key is not None and not is_open:
            self._guard.stream_closed(stream)

    def ended(self, stream: str) -> None:
        """A worker has closed a stream; one that opens it again has asked already."""
        self.ending.pop(stream, None)
        if self._guard is not None and not any(name == stream for _, name in self._pending_status):
            self._guard.stream_closed(stream)

    def revoked(self) -> list[str]:
        """Streams that are to end from now on."""
        names = [] if self._guard is None else self._guard.revoked_streams()
        self.ending |= dict.fromkeys(names, REVOKED)
        return names

    def by(self) -> str:
        """For the log: who sent the message in hand."""
        return "" if self._guard is None else f" by key {self._guard.sender_name()!r}"
