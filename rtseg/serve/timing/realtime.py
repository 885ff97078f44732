"""What the operating system and Python grant the hot loop: cores, a priority, and when garbage may be collected.

Nothing here is needed to serve. What is not granted is logged at the start and shown in the status; serving goes on.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
from collections.abc import Iterator
from typing import Any

import zmq

from rtseg.config import ServeSettings
from rtseg.errors import ServeError
from rtseg.serve.timing.periodic import Periodic

LOG = logging.getLogger("rtseg.serve")
YOUNG_NS, OLD_NS = 1_000_000_000, 60_000_000_000
"""How often garbage is collected while no frame waits: the young objects, and all of them."""
_RESET_ON_FORK = getattr(os, "SCHED_RESET_ON_FORK", 0)
_BATCH: int = getattr(os, "SCHED_BATCH", -1)
OVERDUE = 100_000
"""After this many new objects garbage is collected even while frames wait: memory must not grow without end."""


class LoopPrivileges:
    """Applies `cpus`, `priority` and `busy_poll`: to a context's threads at once, to the loop by `apply_to_loop`.

    To be made before the context has sockets. Raises ServeError for a core that is not there or not allowed; a priority
    that is not allowed is a warning, for the loop runs without it.
    """

    def __init__(self, settings: ServeSettings, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        self._settings = settings
        self._cores_before: set[int] | None = None
        self._is_applied = False
        self._cores, self._priority = self._request_cores(context), self._request_priority(context)

    def describe(self) -> dict[str, Any]:
        """What was granted, for the ready line and the status."""
        rehearsal = f", rehearsing after {self._settings.rehearse_us} us" if self._settings.rehearse_us else ""
        return {
            "cores": self._cores,
            "priority": self._priority,
            "polling": f"busy{rehearsal}" if self._settings.busy_poll else "asleep until a message comes",
            "garbage": "collected between frames",
        }

    def apply_to_loop(self) -> None:
        """Apply them to this thread, the loop's. Processes and threads that were started before keep what they have."""
        self._is_applied = True
        if self._cores.startswith("loop"):
            self._cores_before = os.sched_getaffinity(0)
            os.sched_setaffinity(0, {self._settings.cpus[0]})
        if self._priority.startswith("fifo"):
            os.sched_setscheduler(0, os.SCHED_FIFO | _RESET_ON_FORK, os.sched_param(self._settings.priority))
        LOG.info("hot loop: %s", ", ".join(f"{name} {granted}" for name, granted in self.describe().items()))

    def release(self) -> None:
        """Undo that, for a daemon that runs inside another program."""
        if self._cores_before is not None:
            os.sched_setaffinity(0, self._cores_before)
            self._cores_before = None
        if self._is_applied and self._priority.startswith("fifo"):
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        self._is_applied = False

    def _request_cores(self, context: zmq.Context[zmq.Socket[bytes]]) -> str:
        cpus = self._settings.cpus
        if not cpus:
            return "any"
        if not hasattr(os, "sched_setaffinity"):
            return f"any: cpus = {list(cpus)} cannot be had on this system"
        allowed = os.sched_getaffinity(0)
        if not allowed.issuperset(cpus):
            raise ServeError(f"cpus = {list(cpus)}: this process may use the cores {sorted(allowed)}")
        for cpu in cpus[1:] or cpus:
            context.set(zmq.THREAD_AFFINITY_CPU_ADD, cpu)
        return f"loop on {cpus[0]}, network on {', '.join(map(str, cpus[1:] or cpus))}"

    def _has_one_core(self) -> bool:
        """Whether loop and network share a core."""
        cpus = self._settings.cpus
        return len(cpus or (os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else (0, 1))) == 1

    def _request_priority(self, context: zmq.Context[zmq.Socket[bytes]]) -> str:
        wanted = self._settings.priority
        if not wanted:
            if self._settings.busy_poll or not self._has_one_core() or not _allows(_BATCH, 0):
                return "normal"
            # The network's thread would take the core away from the loop for every message. Under SCHED_BATCH it waits
            # until the loop waits, and then takes many messages at once.
            context.set(zmq.THREAD_SCHED_POLICY, _BATCH)
            return "normal, network when the loop waits"
        if not hasattr(os, "sched_setscheduler"):
            return f"normal: priority = {wanted} cannot be had on this system"
        # The network's threads get one more than the loop, which never lets them in when it polls without a pause.
        above = min(99, wanted + 1)
        if not _allows(os.SCHED_FIFO, above):
            LOG.warning("priority = %d is not granted: see `ulimit -r`, or LimitRTPRIO= of systemd", wanted)
            return f"normal: fifo {wanted} was not granted"
        context.set(zmq.THREAD_SCHED_POLICY, os.SCHED_FIFO)
        context.set(zmq.THREAD_PRIORITY, above)
        return f"fifo {wanted}, network {above}"


def _allows(policy: int, priority: int) -> bool:
    """Whether the system lets a thread of ours have it."""
    if policy < 0:
        return False
    before = os.sched_getscheduler(0)
    try:
        os.sched_setscheduler(0, policy, os.sched_param(priority))
        os.sched_setscheduler(0, before, os.sched_param(0))
    except OSError:
        return False
    return True


class GarbageCollector:
    """Garbage collection between two frames, in quiet moments. Reads no clock. collections: how often it was done."""

    def __init__(self) -> None:
        self._young, self._old = Periodic(YOUNG_NS), Periodic(OLD_NS)
        self.collections = 0

    @contextlib.contextmanager
    def between_frames(self) -> Iterator[None]:
        """While the loop runs nothing is collected but by `collect_garbage`; afterwards Python collects by itself."""
        gc.collect()
        gc.freeze()  # what is there is here to stay: later collections need not look at it
        gc.disable()
        try:
            yield
        finally:
            gc.unfreeze()
            gc.enable()

    def is_due(self, now_ns: int, *, quiet: bool) -> bool:
        """Whether to collect now. quiet: whether no frame waits."""
        return self._young.is_due(now_ns) and (quiet or gc.get_count()[0] > OVERDUE)

    def collect_garbage(self, now_ns: int) -> None:
        """Collect what is young, and now and then all that came since the loop began."""
        self._young.restart(now_ns)
        gc.collect(2 if self._old.restart_if_due(now_ns) else 0)
        self.collections += 1
