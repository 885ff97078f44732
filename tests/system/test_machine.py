from __future__ import annotations

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
