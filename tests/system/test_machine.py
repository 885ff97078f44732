from __future__ import annotations

import time
from pathlib import Path

import pytest

from rtseg.system import machine


@pytest.mark.skipif(not Path("/proc/cpuinfo").is_file(), reason="read from /proc")
def test_a_linux_system_tells_the_processors_features_and_caches() -> None:
    assert machine.cpu_flags()
    assert all(size > 0 for size in machine.caches_kb().values())


def test_a_run_is_described_by_date_commit_machine_and_versions() -> None:
    found = machine.describe_run(("rtseg", "no-such-package"))
    assert set(found) == {"date", "commit", "machine", "versions"}
    assert found["machine"]["cores_usable"] >= 1
    assert found["versions"]["rtseg"]
    assert found["versions"]["no-such-package"] is None


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="the system has no clock that counts while suspended")
def test_a_process_that_stood_still_between_two_clocks_is_no_suspended_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    real, stood_ns = time.monotonic_ns, 0

    def read_and_stand_still(clock: int) -> int:
        nonlocal stood_ns
        now_ns, stood_ns = real() + stood_ns, 5_000_000_000
        return now_ns

    monkeypatch.setattr(time, "clock_gettime_ns", read_and_stand_still)
    monkeypatch.setattr(time, "monotonic_ns", lambda: real() + stood_ns)
    assert abs(machine.suspended_ns()) < 1_000_000_000
