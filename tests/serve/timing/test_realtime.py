"""What the loop asks of the system: granted or said, and never a reason for other answers."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import Any

import pytest
import zmq

from rtseg.client import ask_status
from rtseg.config import ServeSettings
from rtseg.errors import ServeError
from rtseg.inference.classifier import load
from rtseg.playback.replay import replay
from rtseg.serve.timing.realtime import OLD_NS, OVERDUE, YOUNG_NS, GarbageCollector, LoopPrivileges
from tests.live import daemon, random_walk

CORES = sorted(os.sched_getaffinity(0))


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores cannot be chosen on this system")
def test_busy_pinned_and_rehearsing_it_gives_the_same_answers(tiny_bundle: Path) -> None:
    walk = random_walk(300, 50)
    with daemon(tiny_bundle, busy_poll=True, cpus=CORES[:1], priority=1, rehearse_us=50, capacity=1) as child:
        told = child.about["loop"]
        assert told["cores"].startswith(f"loop on {CORES[0]}, network on")
        assert told["polling"] == "busy, rehearsing after 50 us"
        assert told["priority"].startswith(("fifo 1, network 2", "normal: fifo 1 was not granted"))
        assert os.sched_getaffinity(child.process.pid) == {CORES[0]}
        live = replay(walk, child.frames, speed=None)
        status = ask_status(child.frames)
        assert (status["loop"], status["capacity"]) == (told, 1)
        assert status["counters"]["frames"] == 300  # rehearsals are not counted
    assert live.predictions.probs.tobytes() == load(tiny_bundle).run(walk).probs.tobytes()


@pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="this system knows no SCHED_BATCH")
@pytest.mark.parametrize(
    ("changes", "shared"), [({"cpus": CORES[:1]}, True), ({"cpus": CORES[:1], "busy_poll": True}, False)]
)
def test_on_a_shared_core_the_network_waits_for_the_loop(
    tiny_bundle: Path, changes: dict[str, Any], shared: bool
) -> None:
    with daemon(tiny_bundle, **changes) as child:
        assert (child.about["loop"]["priority"] == "normal, network when the loop waits") is shared
        tasks = Path(f"/proc/{child.process.pid}/task").iterdir()
        network = [int(task.name) for task in tasks if (task / "comm").read_text().startswith("ZMQbg/IO")]
        assert network
        policies = {os.sched_getscheduler(thread) for thread in network}
        assert policies == {os.SCHED_BATCH if shared else os.SCHED_OTHER}
        walk = random_walk(40, 51)
        live = replay(walk, child.frames, speed=None)
    assert live.predictions.probs.tobytes() == load(tiny_bundle).run(walk).probs.tobytes()


def test_a_core_that_is_not_there(tiny_bundle: Path) -> None:
    with zmq.Context() as context, pytest.raises(ServeError, match=r"cpus = \[100000\]: this process may use"):
        LoopPrivileges(ServeSettings(cpus=(100_000,)), context)


def test_garbage_waits_for_a_quiet_moment_but_not_for_ever() -> None:
    collector = GarbageCollector()
    with collector.between_frames():
        assert not gc.isenabled()
        assert not collector.is_due(YOUNG_NS - 1, quiet=True)
        assert collector.is_due(YOUNG_NS, quiet=True)
        assert not collector.is_due(YOUNG_NS, quiet=False)
        kept = [[] for _ in range(OVERDUE + 1)]  # type: ignore[var-annotated]
        assert collector.is_due(YOUNG_NS, quiet=False)
        del kept
        cycle: list[object] = []
        cycle.append(cycle)
        del cycle
        collector.collect_garbage(OLD_NS + 1)
        assert collector.collections == 1
        assert not collector.is_due(OLD_NS + 2, quiet=True)
    assert gc.isenabled()
