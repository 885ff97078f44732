"""Who is armed when nobody is there: a stream that is opened later learns why it is not."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from rtseg.inference.classifier import load
from rtseg.serve.triggers.arming import TIME_OVER
from rtseg.sinks.link import IS_READY
from tests.serve.triggers.test_stage import Laboratory


@pytest.fixture
def laboratory(tiny_bundle: Path) -> Iterator[Laboratory]:
    context = zmq.Context[zmq.Socket[bytes]]()
    sockets = context.socket(zmq.ROUTER), context.socket(zmq.XPUB)
    laboratory = Laboratory(load(tiny_bundle, capacity=8), sockets, n=1)
    yield laboratory
    laboratory.close()
    context.destroy(linger=0)


def close_first(laboratory: Laboratory) -> None:
    stream = laboratory.open.pop()
    laboratory.stage.end_stream(stream, [])
    laboratory.stage.close_stream(stream)
    laboratory.streams.close_stream(stream)
    laboratory.recorded.entries.clear()


def open_again(laboratory: Laboratory) -> list[tuple[bool, str]]:
    """What is recorded of its arming."""
    laboratory.open.append(laboratory.open_stream("cage0"))
    return [(record["armed"], record["reason"]) for record in laboratory.records("arming")]


def test_a_sink_that_is_lost_while_no_stream_is_open_is_told_to_the_next_one(laboratory: Laboratory) -> None:
    laboratory.stage.arming.arm(None, None, "")
    close_first(laboratory)
    laboratory.sink.lose()
    laboratory.hear_sink()
    laboratory.sink.state = IS_READY  # it was started again meanwhile
    assert open_again(laboratory) == [(False, "sink laser: lost sink: unplugged")]
    laboratory.check()
    laboratory.stage.arming.arm(None, None, "")
    close_first(laboratory)
    assert open_again(laboratory) == [(True, "all are")]


def test_a_time_that_is_over_and_somebody_who_disarms_are_told_as_well(laboratory: Laboratory) -> None:
    laboratory.stage.arming.arm(None, 5.0, "")
    close_first(laboratory)
    laboratory.stage.watch.end_overdue(time.monotonic_ns() + 6 * 10**9)
    assert open_again(laboratory) == [(False, TIME_OVER)]
    laboratory.stage.arming.arm(None, None, "")
    close_first(laboratory)
    laboratory.stage.arming.disarm(None, " by ab")
    assert open_again(laboratory) == [(False, "asked to by ab")]


def test_where_nobody_ever_armed_nothing_is_told(laboratory: Laboratory) -> None:
    close_first(laboratory)
    assert open_again(laboratory) == []
