"""Whose key a stream belongs to, seen from a front: it hands a hello on, a worker decides, and a key may be revoked
in between.

A stream belongs to the key that asked for it from the hello on, so that no other key can come between question and
answer.
"""

from __future__ import annotations

from typing import Any

from rtseg.serve.access.guard import Guard
from rtseg.wire.fields import MAX_NAME_CHARACTERS

REVOKED = "key revoked"


class StreamOwners:
    """Between a front and its guard; does nothing where there is no guard.

    ending: streams that a worker has been told to end, and why. A worker that is replaced meanwhile is told again.
    """

    def __init__(self, guard: Guard | None) -> None:
        self._guard = guard
        self._key_of_hello: dict[tuple[bytes, str], str] = {}  # (client, stream) -> public half of the key that asked
        self.ending: dict[str, str] = {}

    def check_message(self, kind: str, stream: str | None, now_ns: int) -> None:
        """Raises AccessError or LimitError where the sender's key does not cover its message."""
        if self._guard is not None:
            self._guard.check_message(kind, stream, now_ns)

    def hello_sent(self, client: bytes, stream: str) -> None:
        """A hello, from the sender of the message in hand, goes to a worker."""
        # A longer name is no stream's: a worker refuses it.
        if self._guard is not None and len(stream) <= MAX_NAME_CHARACTERS:
            # Kept beside the guard: by the time of the answer another message is the one in hand.
            self._key_of_hello[client, stream] = self._guard.sender_key()
            self._guard.stream_opened(stream)

    def record_answer(self, client: bytes, answer: dict[str, Any], *, is_open: bool) -> None:
        """A worker's answer to a client. is_open: whether there is a stream of this name."""
        stream = str(answer.get("stream") or "")
        is_about_hello = answer.get("type") in ("accepted", "refused")
        if self._guard is None or not (is_about_hello or (answer.get("type") == "error" and answer.get("seq") is None)):
            return
        key = self._key_of_hello.pop((client, stream), None)
        if key is not None and answer["type"] == "accepted":
            self._guard.stream_opened(stream, key)
        elif key is not None and not is_open:  # the hello was refused, and nobody else has a stream of this name
            self._guard.stream_closed(stream)

    def stream_ended(self, stream: str) -> None:
        """A worker has closed a stream; it stays its key's where the next hello for it is on its way already."""
        self.ending.pop(stream, None)
        if self._guard is not None and not any(name == stream for _, name in self._key_of_hello):
            self._guard.stream_closed(stream)

    def revoked_streams(self) -> list[str]:
        """Streams whose key has been revoked since the last call: they are to be ended."""
        names = [] if self._guard is None else self._guard.revoked_streams()
        self.ending |= dict.fromkeys(names, REVOKED)
        return names

    def sender_note(self) -> str:
        """For the log: who sent the message in hand."""
        return "" if self._guard is None else f" by key {self._guard.sender_name()!r}"
