"""How the daemon waits for messages: asleep until one comes, or looking for them without ever sleeping (`busy_poll`).

A loop that never sleeps has time to keep the caches warm (`cache_warming`). Takes no message.
"""

from __future__ import annotations

import time
from typing import Any, cast

import zmq

from rtseg.config import ServeSettings
from rtseg.serve.loop.cache_warming import CacheWarmer
from rtseg.serve.publish.outlet import POLLIN

SPINS = 20
"""Looks at the frames' socket for each look at the clock and the subscribers' socket, which cost more."""
WARM_UP_FRAMES = 100


class LoopPoller:
    """Waits at a daemon's two sockets.

    cache_warmer: steps frames of the daemon's own while nothing comes, None where none is to. worked_ns: when the loop
    last did something, on the monotonic clock. stopped: ends a wait that does not sleep.
    """

    def __init__(self, settings: ServeSettings, router: zmq.Socket[bytes], xpub: zmq.Socket[bytes]) -> None:
        self._router, self._xpub = router, xpub
        self._busy_poll, self._warm_after_ns = settings.busy_poll, settings.rehearse_us * 1000
        self._poller = zmq.Poller()
        self._poller.register(router, zmq.POLLIN)
        self._poller.register(xpub, zmq.POLLIN)
        self.cache_warmer: CacheWarmer | None = None
        self.worked_ns, self.stopped = 0, False

    def warm_up(self) -> None:
        """Step the daemon's own frames until code and weights are in the caches."""
        if self.cache_warmer is not None:
            for _ in range(WARM_UP_FRAMES):
                self.cache_warmer.step_own_frame()

    def wait_for_messages(self, timeout_ms: int) -> dict[Any, int]:
        """The sockets at which a message waits, as soon as one does; none after the time."""
        # A time of 0 means that frames are queued already: the sockets are only looked at.
        if not timeout_ms or not self._busy_poll:
            return dict(self._poller.poll(timeout_ms))
        return self._spin(time.monotonic_ns() + timeout_ms * 1_000_000)

    def _spin(self, end_ns: int) -> dict[Any, int]:
        """The same without ever sleeping; steps a frame of the daemon's own after each `rehearse_us` without work."""
        clock, warm_after_ns = time.monotonic_ns, self._warm_after_ns
        while True:
            for _ in range(SPINS):
                if cast(int, self._router.getsockopt(zmq.EVENTS)) & POLLIN:
                    return {self._router: zmq.POLLIN}
            if cast(int, self._xpub.getsockopt(zmq.EVENTS)) & POLLIN:
                return {self._xpub: zmq.POLLIN}
            now_ns = clock()
            if now_ns >= end_ns or self.stopped:
                return {}
            if self.cache_warmer is not None and now_ns - self.worked_ns > warm_after_ns:
                self.cache_warmer.step_own_frame()
                self.worked_ns = clock()
