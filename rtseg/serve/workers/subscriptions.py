"""What a front tells subscribers itself: that they are subscribed, and that all is well.

Workers publish everything, and know nothing of topics: the front's own socket picks what each subscriber wants.
"""

from __future__ import annotations

from typing import Any

import msgpack

from rtseg.serve.publish.outlet import Outlet
from rtseg.serve.timing.periodic import Periodic
from rtseg.serve.workers.stream_backups import StreamBackups
from rtseg.wire.messages import Served


class Subscriptions:
    """Confirms subscriptions, once the workers serve, and sends heartbeats on topics that are no open stream."""

    def __init__(self, outlet: Outlet, backups: StreamBackups, heartbeat_s: float) -> None:
        self._outlet, self._backups = outlet, backups
        self._served: Served | None = None
        self._heartbeat = Periodic(int(heartbeat_s * 1e9))

    def set_served(self, fields: dict[str, Any]) -> None:
        """Another bundle answers all streams from now on, or the first one. fields: what a worker says of it."""
        self._served = Served.from_message(fields)

    def receive_changes(self, now_ns: int) -> None:
        """Subscriptions and cancels that wait at the socket."""
        self._outlet.subscribers.receive_changes(now_ns)
        self._confirm()

    def publish_event(self, topic: bytes, data: bytes) -> None:
        """What a worker publishes besides answers. It gives a sign of life of each of its streams, whoever listens."""
        if topic in self._outlet.subscribers or msgpack.unpackb(data)["type"] != "beat":
            self._outlet.send_packed(topic, data)

    def send_due(self, now_ns: int) -> None:
        """Confirmations that had to wait, and heartbeats.

        Those of an open stream are its worker's: while that one is replaced, there is nothing to be said of it.
        """
        outlet = self._outlet
        self._confirm()
        if self._heartbeat.restart_if_due(now_ns):
            outlet.subscribers.forget_absent(now_ns)
            topics = outlet.subscribers.topics()
            outlet.begin_heartbeats([topic for topic in topics if self._backups.find(topic.decode()) is None])
        if outlet.beats_due:
            outlet.send_heartbeats(lambda _: {})

    def _confirm(self) -> None:
        served = self._served
        if served is not None and self._outlet.subscribers.unconfirmed:
            self._outlet.confirm_subscriptions(lambda _: served)
