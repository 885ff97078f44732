"""What is healthy, what is ready, and which metrics there are."""

from __future__ import annotations

from rtseg.serve.monitoring.prometheus import Metrics, health, readiness

S = 1_000_000_000


def test_what_is_healthy_and_what_is_ready() -> None:
    about = {"ready": True, "started_ns": 0, "fresh_s": 2.0, "streams": {"a": [1 * S, 0]}}
    assert health(10 * S, about, 11 * S) == (True, {"alive": True, "reason": "", "uptime_s": 11.0})
    assert not health(10 * S, about, 16 * S)[0]
    assert health(0, {}, 100 * S)[0]  # it still compiles
    assert not readiness(0, {}, 100 * S)[0]
    assert readiness(10 * S, about, 10 * S)[0]
    # How old what is written is does not count: it takes seconds to write all of a thousand streams.
    assert readiness(13 * S, about, 13 * S)[0]
    assert readiness(10 * S, about | {"streams": {"a": [3 * S, 0]}}, 10 * S)[1]["stale"] == ["a"]
    assert readiness(10 * S, about | {"stopping": True}, 10 * S)[1]["reasons"] == ["the daemon is stopping"]
    assert [f.name for f in Metrics(0, {}, 0).collect()] == ["rtseg_ready"]
