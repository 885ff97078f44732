"""How the daemon waits for messages: asleep until one comes, or looking for them without ever sleeping (`busy_poll`).

A loop that never sleeps has time to keep the caches warm (`cache_warming`). Takes no message.
"""

from __future__ import annotations

import select
import time
from collections.abc import Sequence
from typing import Any, cast

import zmq

from rtseg.config import ServeSettings
from rtseg.serve.loop.cache_warming import CacheWarmer
from rtseg.serve.publish.outlet import POLLIN

SPINS = 20
"""Looks at the frames' socket for each look at the clock and the subscribers' socket, which cost more."""
WARM_UP_FRAMES = 100


class LoopPoller:
    """Waits at a daemon's two sockets, and at the descriptors of sinks, if there are any.

    With `busy_poll` it never sleeps, and steps frames of the daemon's own while nothing comes (`set_cache_warmer`).
    """

    def __init__(
        self,
        settings: ServeSettings,
        router: zmq.Socket[bytes],
        xpub: zmq.Socket[bytes],
        descriptors: Sequence[int] = (),
    ) -> None:
        self._router, self._xpub = router, xpub
        self._busy_poll, self._warm_after_ns = settings.busy_poll, settings.rehearse_us * 1000
        self._poller = zmq.Poller()
        self._poller.register(router, zmq.POLLIN)
        self._poller.register(xpub, zmq.POLLIN)
        self._sinks = select.poll() if descriptors else None
        for descriptor in descriptors:
            self._poller.register(descriptor, zmq.POLLIN)
            cast(select.poll, self._sinks).register(descriptor, select.POLLIN)
        self._cache_warmer: CacheWarmer | None = None
        self._stopped, self._warmed_ns = False, 0

    def set_cache_warmer(self, cache_warmer: CacheWarmer) -> None:
        """Step this one's frames from now on, and close the one before."""
        if self._cache_warmer is not None:
            self._cache_warmer.close()
        self._cache_warmer = cache_warmer

    def warm_up(self) -> None:
        """Step the daemon's own frames until code and weights are in the caches."""
        if self._cache_warmer is not None:
            for _ in range(WARM_UP_FRAMES):
                self._cache_warmer.step_own_frame()

    def stop(self) -> None:
        """End a wait that does not sleep. May be called from a signal handler."""
        self._stopped = True

    def wait_for_messages(self, timeout_ms: int, worked_ns: int) -> dict[Any, int]:
        """The sockets at which a message waits, and the descriptors of sinks, as soon as one does; none after the time.

        worked_ns: when the loop last did something, on the monotonic clock.
        """
        # A time of 0 means that frames are queued already: the sockets are only looked at.
        # Once stopped, the loop sleeps: the network threads may need its core for what they still have to bring.
        if not timeout_ms or not self._busy_poll or self._stopped:
            return dict(self._poller.poll(timeout_ms))
        return self._spin(time.monotonic_ns() + timeout_ms * 1_000_000, worked_ns)

    def _spin(self, end_ns: int, worked_ns: int) -> dict[Any, int]:
        """The same without ever sleeping; steps a frame of the daemon's own after each `rehearse_us` without work."""
        clock, warm_after_ns = time.monotonic_ns, self._warm_after_ns
        idle_since_ns = max(worked_ns, self._warmed_ns)  # an idle loop waits many times without working in between
        while True:
            # Asking a socket for its events also makes ZeroMQ take in what its threads have received since.
            for _ in range(SPINS):
                if cast(int, self._router.getsockopt(zmq.EVENTS)) & POLLIN:
                    return {self._router: zmq.POLLIN}
            if cast(int, self._xpub.getsockopt(zmq.EVENTS)) & POLLIN:
                return {self._xpub: zmq.POLLIN}
            if self._sinks is not None and (waiting := self._sinks.poll(0)):
                return dict(waiting)
            now_ns = clock()
            if now_ns >= end_ns or self._stopped:
                return {}
            if self._cache_warmer is not None and now_ns - idle_since_ns > warm_after_ns:
                self._cache_warmer.step_own_frame()
                idle_since_ns = self._warmed_ns = clock()
