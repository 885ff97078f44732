"""Receive a daemon's predictions and events.

    for prediction in Subscriber("tcp://127.0.0.1:5758", "cage1"):
        print(prediction.seq, prediction.label["task1"], prediction.probs["task1"]["attack"])

Needs numpy, msgpack and pyzmq only: no model and no compiler. Not safe to share between threads.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import zmq

from rtseg.client.connection import Key, connect, key_of, milliseconds, no_daemon, reachable
from rtseg.wire.messages import NO_CLASSES, PredictionMessage, Served, StreamEvent, parse_published, unpack

LOG = logging.getLogger("rtseg.client")
QUIET_S = 5.0
"""Where no end is set, it is said after so long that nothing comes."""
LIFELESS_S = 3.0
"""A daemon that is alive sends something more often than this (`heartbeat_s`, 1 s)."""
GOES_ON = ("reopened", "taken over")
"""Reasons for which a stream closes and is opened again at once, under the same name."""
SAID = ("rate", "frozen", "unfrozen", "renumbered", "overload")
"""Events that are logged while predictions are iterated over: something is wrong with what they are about."""


class Subscriber:
    """Predictions of some streams, or of all.

    address: the daemon's predictions address. streams: names; none = all. timeout_s: how long iterating waits for the
    next message; None = for ever. Returns once the daemon has confirmed the subscription, so that nothing published
    after that is lost; raises ServeError where it does not within connect_timeout_s. served says what the
    predictions mean. key: your key file, where the daemon asks for one. heard_s: when anything last came, on
    `time.monotonic`; a daemon that is alive sends something every heartbeat_s (1 s), which is not passed on.
    ended: why iterating ended, "" while it has not; the log (`rtseg.client`) says so as well.
    """

    def __init__(
        self,
        address: str,
        streams: str | Sequence[str] = (),
        *,
        timeout_s: float | None = None,
        connect_timeout_s: float = 5.0,
        key: Key = None,
    ) -> None:
        self.address, self.timeout_s = address, timeout_s
        self.streams = frozenset([streams] if isinstance(streams, str) else streams)
        self._topics = frozenset(stream.encode() for stream in self.streams)
        self._early: deque[PredictionMessage | StreamEvent] = deque()  # came before the subscription was confirmed
        # Of streams with models of their own, too: a prediction names its model.
        self._classes: dict[str, Mapping[str, Sequence[str]]] = {}
        self._beats: dict[str, Mapping[str, Any]] = {}  # the newest of each topic
        self.ended = ""
        self.heard_s = time.monotonic()
        self._key = key_of(key)
        self._socket = connect(zmq.SUB, address, self._key)
        try:
            self.served = self._subscribe(connect_timeout_s)
        except BaseException:
            self.close()
            raise

    def receive(self, timeout_s: float | None = None) -> PredictionMessage | StreamEvent | None:
        """The next message; None where none comes within timeout_s (None = wait for ever)."""
        if self._early:
            return self._early.popleft()
        return self._receive(timeout_s)

    def __iter__(self) -> Iterator[PredictionMessage]:
        """Predictions as they come.

        Goes on where a camera comes back under its name. Ends where the daemon stops, all named streams have closed, or
        nothing comes for timeout_s; `ended` and the log say which. Without timeout_s silence is logged, and waited out.
        """
        # Without names there is no telling which streams are still to come: only silence or the daemon's end stops it.
        running, self.ended = set(self.streams), ""
        while not self.ended:
            message = self._next_message()
            if isinstance(message, PredictionMessage):
                yield message
            elif message is None:
                self._end(self._why_silent(self.timeout_s or 0.0))
            else:
                self._follow_event(message, running)

    def _next_message(self) -> PredictionMessage | StreamEvent | None:
        """The next one; None where timeout_s is set and over."""
        if self.timeout_s is not None:
            return self.receive(self.timeout_s)
        said: bool | None = None  # whether it was said that the daemon is lifeless, None before anything was
        while (message := self.receive(QUIET_S)) is None:
            if said is not self._is_lifeless():
                LOG.warning("%s; waiting on", self._why_silent(QUIET_S))
            said = self._is_lifeless()
        if said is not None:
            LOG.warning("%s: something comes again", self._about())
        return message

    def _follow_event(self, event: StreamEvent, running: set[str]) -> None:
        """What an event means for iterating. running: those of the named streams that have not ended."""
        reason = event.fields.get("reason")
        if event.type == "closed" and reason in GOES_ON:
            LOG.warning(
                "stream %r was %s: a camera goes on under its name, its state and bouts afresh", event.stream, reason
            )
        elif event.type == "closed":
            running.discard(event.stream)
            if self.streams and not running:
                self._end(f"stream {event.stream!r} was closed: {reason}", expected=reason == "bye")
        elif event.type == "opened" and event.stream in self.streams:
            running.add(event.stream)
        elif event.type == "stopping":
            self._end(f"the daemon at {self.address} is stopping")
        elif event.type in SAID:
            told = {key: value for key, value in event.fields.items() if key not in ("v", "type", "stream")}
            LOG.warning("stream %r: %s %s", event.stream, event.type, told)

    def _end(self, reason: str, *, expected: bool = False) -> None:
        self.ended = reason
        LOG.log(logging.INFO if expected else logging.WARNING, "no more predictions: %s", reason)

    def _why_silent(self, waited_s: float) -> str:
        """What is known of a silence, in one line."""
        nothing = f"{self._about()}: nothing came within {waited_s:g} s"
        if self._is_lifeless():
            silent_s = time.monotonic() - self.heard_s
            return f"{nothing}, not even a sign of life for {silent_s:.1f} s: the daemon has ended, hangs or is cut off"
        known = [(name, self._beats[name]) for name in sorted(self.streams) if name in self._beats]
        closed = [name for name, beat in known if "seq" not in beat]
        stale = [f"{name} since frame {beat['seq']}" for name, beat in known if beat.get("stale")]
        about = [f"not open: {', '.join(closed)}"] * bool(closed) + [f"no frame of {', '.join(stale)}"] * bool(stale)
        return f"{nothing}; the daemon is there{''.join(f', {part}' for part in about)}"

    def _is_lifeless(self) -> bool:
        return time.monotonic() - self.heard_s > LIFELESS_S

    def _about(self) -> str:
        named = ", ".join(map(repr, sorted(self.streams)))
        return f"predictions of {named or 'all streams'} from {self.address}"

    def close(self) -> None:
        """Close the socket."""
        self._socket.close(linger=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _subscribe(self, timeout_s: float) -> Served:
        """Subscribe and wait for the daemon's confirmation of every topic. Raises ServeError where one is missing."""
        # The daemon confirms topic by topic; the empty one stands for all streams.
        missing = set(self.streams) or {""}
        for topic in missing:
            self._socket.subscribe(topic)
        deadline = time.monotonic() + timeout_s
        while message := self._receive(deadline - time.monotonic()):
            if isinstance(message, StreamEvent) and message.type == "subscribed":
                missing.discard(message.stream)
                if not missing:
                    return reachable(Served.from_message(message.fields), self.address)
            else:
                self._early.append(message)
        raise no_daemon(self.address, timeout_s, self._key)

    def _receive(self, timeout_s: float | None) -> PredictionMessage | StreamEvent | None:
        deadline = math.inf if timeout_s is None else time.monotonic() + timeout_s
        while self._socket.poll(None if timeout_s is None else milliseconds(deadline - time.monotonic())):
            topic, data = self._socket.recv_multipart()
            self.heard_s = time.monotonic()
            # ZeroMQ matches topics by prefix: "cage1" would hear "cage10" as well.
            # Compared as bytes, for a prefix may also be the beginning of what is no text.
            if not self._topics or topic in self._topics:
                fields = unpack(data)
                message = parse_published(fields, self._classes.get(str(fields.get("model")), NO_CLASSES))
                if isinstance(message, PredictionMessage):
                    return message
                if message.type == "beat":
                    self._beats[message.stream] = fields
                    continue
                if message.type in ("subscribed", "model"):
                    served = Served.from_message(fields)
                    self._classes[served.model] = served.heads
                return message
        return None
