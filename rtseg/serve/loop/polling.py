"""How the daemon waits for messages: asleep, without ever sleeping, or awake and warm shortly before a frame is due.

What happens to a message is somebody else's affair. Rehearses frames (`rehearsal`) where there is time for it.
"""

from __future__ import annotations

import select
import time
from typing import Any, cast

import zmq

from rtseg.config import ServeSettings
from rtseg.serve.loop.cache_warming import Rehearsal
from rtseg.serve.publish.outlet import POLLIN
from rtseg.serve.streams.stream import Streams
from rtseg.serve.timing.due_frames import Ahead

SPINS = 20
WARM_NS = 300_000
"""So soon after work the caches still hold the model."""
WARM_UP_FRAMES = 100


class Waiting:
    """Waits at a daemon's two sockets.

    rehearsal: what is rehearsed, None where nothing is. worked_ns: when the loop last did something, on the monotonic
    clock. stopped: ends a wait that does not sleep.
    """

    def __init__(
        self, settings: ServeSettings, router: zmq.Socket[bytes], xpub: zmq.Socket[bytes], streams: Streams
    ) -> None:
        self._router, self._xpub, self._streams = router, xpub, streams
        self._busy_poll, self._rehearse_ns = settings.busy_poll, settings.rehearse_us * 1000
        self._ahead = Ahead(settings.ahead_us) if settings.looks_ahead else None
        self._poller = zmq.Poller()
        self._poller.register(router, zmq.POLLIN)
        self._poller.register(xpub, zmq.POLLIN)
        self.rehearsal: Rehearsal | None = None
        self.worked_ns, self.stopped = 0, False

    def warm_up(self) -> None:
        """Rehearse until everything is where it will be needed."""
        if self.rehearsal is not None:
            for _ in range(WARM_UP_FRAMES):
                self.rehearsal.once()

    def wait(self, timeout_ms: int) -> dict[Any, int]:
        """The sockets at which something waits, as soon as it does; none after the time."""
        if not timeout_ms or (not self._busy_poll and self._ahead is None):
            return dict(self._poller.poll(timeout_ms))
        now_ns = time.monotonic_ns()
        end_ns = now_ns + timeout_ms * 1_000_000
        if self._ahead is None:
            return self._spin(end_ns, self._rehearse_ns)
        window = self._ahead.window(self._streams, now_ns)
        if window is None:
            return dict(self._poller.poll(timeout_ms))
        awake_ns, asleep_ns = window
        if now_ns < awake_ns:
            ready = self._sleep(min(awake_ns, end_ns) - now_ns)
            if ready or awake_ns >= end_ns:
                return ready
            now_ns = time.monotonic_ns()
        if now_ns - self.worked_ns > WARM_NS and self.rehearsal is not None:
            self.rehearsal.once()
            self.worked_ns = time.monotonic_ns()
        return self._spin(min(asleep_ns, end_ns))

    def _sleep(self, for_ns: int) -> dict[Any, int]:
        """The same as the poller, which knows whole milliseconds only."""
        ready = dict(self._poller.poll(0))  # must be asked first: the descriptors tell of news, not of what waits
        if not ready:
            select.select((self._router, self._xpub), (), (), for_ns / 1e9)
            ready = dict(self._poller.poll(0))
        return ready

    def _spin(self, end_ns: int, rehearse_ns: int = 0) -> dict[Any, int]:
        """The same without ever sleeping. rehearse_ns: after so long without work a frame is rehearsed; 0 = never."""
        clock = time.monotonic_ns
        while True:
            for _ in range(SPINS):
                if cast(int, self._router.getsockopt(zmq.EVENTS)) & POLLIN:
                    return {self._router: zmq.POLLIN}
            if cast(int, self._xpub.getsockopt(zmq.EVENTS)) & POLLIN:
                return {self._xpub: zmq.POLLIN}
            now_ns = clock()
            if now_ns >= end_ns or self.stopped:
                return {}
            if rehearse_ns and self.rehearsal is not None and now_ns - self.worked_ns > rehearse_ns:
                self.rehearsal.once()
                self.worked_ns = clock()
