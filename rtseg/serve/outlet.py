"""Everything that leaves the daemon: predictions and stream events to subscribers, answers and complaints to senders.

Owns no session and decides nothing about streams. Never waits for a peer that does not read.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import Any, cast

import msgpack
import zmq

from rtseg.errors import RtsegError
from rtseg.predictions import Prediction, Quality
from rtseg.serve.latency import Histogram
from rtseg.serve.messages import FLOAT32, VERSION, Served
from rtseg.serve.streams import Stream

COMPLAINT_EVERY_NS = 1_000_000_000
MAX_COMPLAINTS = 4096


class Outlet:
    """The sending ends of the daemon's two sockets.

    counters: what was sent and refused. total: receipt to publishing of every answered frame.
    """

    def __init__(self, router: zmq.Socket[bytes], xpub: zmq.Socket[bytes], served: Served) -> None:
        self._router, self._xpub, self._served = router, xpub, served
        self._packer = msgpack.Packer()
        self._late_ns = int(1e9 / served.fps * (1 + served.lookahead_frames))
        self._heads: list[tuple[str, tuple[str, ...], slice]] = []
        start = 0
        for name, classes in served.heads.items():
            self._heads.append((name, classes, slice(4 * start, 4 * (start + len(classes)))))
            start += len(classes)
        self._topics: set[bytes] = set()
        # (connection, stream, kind of error) -> when it was last answered, how many were silent since.
        self._complaints: dict[tuple[bytes, str, str], tuple[int, int]] = {}
        self.counters: Counter[str] = Counter()
        self.total = Histogram()

    def publish(self, stream: Stream, prediction: Prediction, t_recv_ns: int) -> None:
        """One prediction. t_recv_ns: when the frame came that brought it."""
        t_recv_ns = stream.received_ns(prediction.seq, t_recv_ns)
        labels, events = prediction.labels.tolist(), prediction.events.tolist()
        probs = prediction.probs.astype(FLOAT32, copy=False).tobytes()
        quality, event, unsure = int(prediction.quality), {}, []
        if True in events:
            event = {
                name: classes[label]
                for (name, classes, _), label, begins in zip(self._heads, labels, events, strict=True)
                if begins
            }
        if quality & Quality.UNSURE.value:
            unsure = [head[0] for head, doubted in zip(self._heads, prediction.unsure.tolist(), strict=True) if doubted]
        t_pub_ns = time.monotonic_ns()
        took_ns = t_pub_ns - t_recv_ns
        if took_ns > self._late_ns:
            quality |= Quality.LATE.value
        message = {
            "v": VERSION,
            "stream": stream.name,
            "seq": prediction.seq,
            "t_source_ns": prediction.t_source_ns,
            "t_recv_ns": t_recv_ns,
            "t_pub_ns": t_pub_ns,
            "probs": {name: probs[columns] for name, _, columns in self._heads},
            "label": {head[0]: head[1][label] for head, label in zip(self._heads, labels, strict=True)},
            "event": event,
            "unsure": unsure,
            "quality": quality,
            "model": self._served.model,
        }
        self._xpub.send(stream.topic, zmq.SNDMORE)
        self._xpub.send(self._packer.pack(message))
        self.total.add(took_ns)

    def announce(self, topic: bytes, message: dict[str, Any]) -> None:
        """Something other than a prediction to all subscribers of a topic."""
        stream = topic.decode(errors="replace")
        self._xpub.send_multipart([topic, self._packer.pack({"v": VERSION, "stream": stream, **message})])

    def hear_subscriptions(self) -> None:
        """Confirm new subscriptions: from here on everything published reaches them."""
        while cast(int, self._xpub.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            said = self._xpub.recv()
            topic = said[1:]
            if said[:1] == b"\x01":
                self._topics.add(topic)
                self.announce(topic, {"type": "subscribed", **self._served.to_fields()})
            elif said[:1] == b"\x00":
                self._topics.discard(topic)

    def announce_end(self) -> None:
        """The last word on every topic that somebody hears."""
        for topic in self._topics:
            self.announce(topic, {"type": "stopping"})

    def answer(self, owner: bytes, message: dict[str, Any]) -> bool:
        """Send to one connection; whether it was there to take it."""
        try:
            self._router.send_multipart([owner, self._packer.pack({"v": VERSION, **message})], zmq.NOBLOCK)
        except zmq.ZMQError:  # gone, or it reads nothing
            self.counters["unheard"] += 1
            return False
        return True

    def complain(
        self, owner: bytes, stream: str | None, seq: int | None, error: Exception, *, limited: bool = True
    ) -> bool:
        """Tell a sender what was wrong; whether it was said.

        limited: complaints of one kind about one stream once a second at most.
        """
        self.counters["errors"] += 1
        kind = type(error).__name__ if isinstance(error, RtsegError) else "internal"
        if len(self._complaints) >= MAX_COMPLAINTS:
            self._complaints.clear()
        now_ns, key = time.monotonic_ns(), (owner, stream or "", kind)
        last_ns, silent = self._complaints.get(key, (0, 0))
        if limited and last_ns and now_ns - last_ns < COMPLAINT_EVERY_NS:
            self._complaints[key] = last_ns, silent + 1
            return False
        self._complaints[key] = now_ns, 0
        reason = str(error)[:1000]
        self.answer(
            owner,
            {"type": "error", "stream": stream, "seq": seq, "kind": kind, "reason": reason, "repeated": silent},
        )
        return True
