"""What is said and counted of sinks in trouble."""

from __future__ import annotations

import time

import pytest

from rtseg.sinks.base import NO_EVENT, READY, SinkReport
from rtseg.sinks.link import IS_READY
from tests.serve.triggers.test_stage import Laboratory, classifier, laboratory, sockets

__all__ = ["classifier", "laboratory", "sockets"]


def test_a_sink_that_stays_away_is_lost_once(laboratory: Laboratory, caplog: pytest.LogCaptureFixture) -> None:
    """Its process looks for it every few seconds, for as long as nobody plugs it in."""
    sink, counters = laboratory.sink, laboratory.stage.watch._recorder.counters
    before = counters["sinks lost"]
    for _ in range(5):
        sink.lose()
        laboratory.hear_sink()
    assert counters["sinks lost"] == before + 1
    assert caplog.text.count("sink 'laser': unplugged") == 1
    sink.state = IS_READY
    sink._reports.append(SinkReport(READY, NO_EVENT, 0, time.monotonic_ns(), "there"))
    laboratory.hear_sink()
    sink.lose()
    laboratory.hear_sink()
    assert counters["sinks lost"] == before + 2
    assert caplog.text.count("sink 'laser': unplugged") == 2
