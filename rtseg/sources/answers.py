"""The way back of a plain ZeroMQ source: a stream's answers and events, for programs without msgpack.

Runs in a thread of its own beside the bridge, so that no answer waits for a frame. Publishes on this machine alone, as
the source listens.
"""

from __future__ import annotations

import json
import struct
import threading
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import zmq

from rtseg.client import Subscriber
from rtseg.config import QUALITY_FLAGS
from rtseg.errors import ServeError
from rtseg.sources.zeromq import FORMATS, open_socket
from rtseg.wire.messages import PredictionMessage, Served, StreamEvent

LOOK_S = 0.05
"""How often it is looked for new receivers, and for the end."""


class AnswerRelay:
    """Publishes what a daemon says of one stream, from `with` on; its first part is the stream's name.

    form: of answers. `float32`: number, quality flags (8 bytes each, little-endian), the probabilities of all heads one
    after the other, and the labels, `task1=attack,task2=other`. `json`: one text (`answer_json`). Events are JSON in
    both. Each new receiver is told `{"type": "subscribed", "heads": {head: [classes]}}`, after which it misses nothing.
    A receiver that does not read for a thousand messages loses what follows. address: it is bound to this one; raises
    ServeError for one that cannot be had, and for one that reaches beyond this machine.
    """

    def __init__(self, subscriber: Subscriber, stream: str, address: str, form: str = "float32") -> None:
        if form not in FORMATS:
            raise ServeError(f"format: expected one of {', '.join(FORMATS)}, got {form!r}")
        self._subscriber, self._topic, self._is_json = subscriber, stream.encode(), form == "json"
        self._set_heads(subscriber.served.heads)
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.XPUB)
        # Each receiver is told, and not only the first of a topic.
        self._socket.setsockopt(zmq.XPUB_VERBOSE, 1)
        self.address = open_socket(self._socket, address, bind=True)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rtseg answers", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stopping.set()
        self._thread.join()
        self._socket.close(linger=1000)  # ms, for what has been said

    def _run(self) -> None:
        while not self._stopping.is_set():
            message = self._subscriber.receive(LOOK_S)
            # Before the message: whoever has subscribed gets it, and knows by then that it missed none.
            while self._socket.poll(0):
                if self._socket.recv() == b"\1" + self._topic:
                    self._socket.send_multipart([self._topic, self._welcome])
            if isinstance(message, PredictionMessage):
                packed = [answer_json(message)] if self._is_json else answer_parts(message)
                self._socket.send_multipart([self._topic, *packed])
            elif message is not None:
                if message.type in ("model", "subscribed"):  # another bundle, or a daemon that is back, maybe with one
                    self._set_heads(Served.from_message(message.fields).heads)
                self._socket.send_multipart([self._topic, event_json(message)])

    def _set_heads(self, heads: Mapping[str, Sequence[str]]) -> None:
        """What a new receiver is told: how the probabilities that come are to be read."""
        told = {head: list(classes) for head, classes in heads.items()}
        self._welcome = json.dumps({"type": "subscribed", "stream": self._topic.decode(), "heads": told}).encode()


def answer_parts(answer: PredictionMessage) -> list[bytes]:
    """Number, quality flags, probabilities (P,) float32 and labels, little-endian."""
    probs = b"".join(values.astype("<f4").tobytes() for values in answer.probs.values())
    labels = ",".join(f"{head}={label}" for head, label in answer.label.items())
    return [struct.pack("<q", answer.seq), struct.pack("<q", answer.quality), probs, labels.encode()]


def answer_json(answer: PredictionMessage) -> bytes:
    """`{"seq", "label": {head: class}, "probs": {head: {class: p}}, "event", "unsure", "quality": [flags],
    "t_source_ns"}`; every probability is the float32, exactly."""
    probs: dict[str, Any] = {}
    for head, values in answer.probs.items():
        numbers = [float(p) for p in values]
        probs[head] = dict(zip(values.classes, numbers, strict=True)) if values.classes else numbers
    flags = [name for bit, name in enumerate(QUALITY_FLAGS) if answer.quality >> bit & 1]
    about = {"seq": answer.seq, "label": answer.label, "probs": probs, "event": answer.event}
    about |= {"unsure": answer.unsure, "quality": flags, "t_source_ns": answer.t_source_ns}
    return json.dumps(about).encode()


def event_json(event: StreamEvent) -> bytes:
    """All fields of an event (docs/wire.md) but the protocol's version."""
    return json.dumps({name: value for name, value in event.fields.items() if name != "v"}, default=str).encode()
