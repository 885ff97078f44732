"""Hellos and byes on their way to a worker, kept by the front until they are answered.

A client waits for the answer. Where the worker dies first, its replacement is asked the same again, so the client hears
of it only by the delay. Asking twice does no harm: the first worker's answer, had it come, would have been read before.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from rtseg.wire.messages import clip_name

MAX_PENDING = 4096
"""Beyond that the oldest ones are not asked again when a worker is replaced."""


class Request(NamedTuple):
    """A hello or a bye: who sent it, which of the two (`kind`), the name of the stream, the message as it came."""

    client: bytes
    kind: str
    stream: str
    data: bytes


class PendingRequests:
    """Of all clients of a front."""

    def __init__(self) -> None:
        self._open: dict[tuple[bytes, str, str], Request] = {}

    def add_request(self, client: bytes, kind: str, stream: str, data: bytes) -> None:
        """It is on its way. Sent again, it takes the place of the one before."""
        if len(self._open) >= MAX_PENDING:
            del self._open[next(iter(self._open))]
        stream = clip_name(stream)
        self._open[client, kind, stream] = Request(client, kind, stream, data)

    def record_answer(self, client: bytes, answer: dict[str, Any]) -> None:
        """A worker's answer to a client: what it answers need not be asked again."""
        kind, stream = answer.get("type"), clip_name(str(answer.get("stream") or ""))
        # An error with a `seq` is about a frame.
        is_request_error = kind == "error" and answer.get("seq") is None
        if is_request_error or kind in ("accepted", "refused"):
            self._open.pop((client, "hello", stream), None)
        if is_request_error or kind == "goodbye":
            self._open.pop((client, "bye", stream), None)

    def unanswered(self) -> Iterator[Request]:
        """In the order in which they came."""
        return iter(list(self._open.values()))
