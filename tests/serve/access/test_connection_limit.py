"""Subscribers are let in as fast as the loop gets done with them, and none behind a flood until it has come round."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st

from rtseg.serve.access.connection_limit import AT_ONCE, BURST, RATE, ConnectionLimit, OpenAuthenticator

SECOND = 1_000_000_000
LOOK_NS = SECOND // 10


class Floods:
    """How many connections were ended for floods."""

    count = 0

    def __call__(self) -> int:
        return self.count


def take_all(limit: ConnectionLimit) -> int:
    taken = 0
    while limit.take_one():
        taken += 1
    return taken


def test_a_few_are_let_in_between_two_looks_and_many_over_several() -> None:
    limit = ConnectionLimit(Floods())
    assert take_all(limit) == AT_ONCE
    assert take_all(limit) == 0
    taken, now_ns = AT_ONCE, 5 * SECOND
    for _ in range(100):
        limit.grant(now_ns)
        taken += take_all(limit)
        now_ns += LOOK_NS
    # A burst, and what was added in ten seconds.
    assert taken == pytest.approx(BURST + 10 * RATE, abs=AT_ONCE)


def test_none_is_let_in_behind_a_flood_until_the_loop_has_come_round() -> None:
    floods = Floods()
    limit = ConnectionLimit(floods)
    limit.grant(5 * SECOND)
    assert limit.take_one()
    floods.count = 1
    assert not limit.take_one()
    limit.grant(9 * SECOND)  # held up for four seconds
    assert take_all(limit) <= AT_ONCE
    taken = 0
    for look in range(1, 51):
        limit.grant(9 * SECOND + look * LOOK_NS)
        taken += take_all(limit)
    assert 20 <= taken <= 30  # five a second
    for look in range(51, 300):
        limit.grant(9 * SECOND + look * LOOK_NS)
        taken = take_all(limit)
    assert taken == 2  # twenty a second again


def test_who_has_gone_takes_nobodys_place() -> None:
    limit = ConnectionLimit(Floods())
    for _ in range(1000):
        assert limit.take_one()
        limit.put_back()
    assert take_all(limit) == AT_ONCE


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 20 * SECOND), st.booleans()), max_size=60))
def test_no_look_lets_in_more_than_a_few(steps: list[tuple[int, int, bool]]) -> None:
    floods = Floods()
    limit, now_ns = ConnectionLimit(floods), SECOND
    for wanted, passed_ns, is_flood in steps:
        floods.count += is_flood
        now_ns += passed_ns
        limit.grant(now_ns)
        taken = sum(limit.take_one() for _ in range(wanted)) + take_all(limit)
        assert taken <= AT_ONCE


@pytest.fixture
def context() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    made: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    yield made
    made.destroy(linger=0)


def test_subscribers_wait_for_the_limit_and_none_is_lost(context: zmq.Context[zmq.Socket[bytes]]) -> None:
    limit = ConnectionLimit(Floods())
    with (
        closing(OpenAuthenticator(context, limit)) as authenticator,
        zmq.Context() as clients,
        closing(context.socket(zmq.XPUB)) as xpub,
    ):
        authenticator.secure(xpub, "predictions")
        port = xpub.bind_to_random_port("tcp://127.0.0.1")
        authenticator.start()
        heard: set[bytes] = set()
        subscribers = []
        for i in range(3 * AT_ONCE):
            subscriber = clients.socket(zmq.SUB)
            subscriber.linger = 0
            subscriber.subscribe(b"cage%d" % i)
            subscriber.connect(f"tcp://127.0.0.1:{port}")
            subscribers.append(subscriber)
        for look in range(3):
            while len(heard) < (look + 1) * AT_ONCE:
                assert xpub.poll(30_000)
                heard.add(xpub.recv())
            assert not xpub.poll(50)  # as many as were granted, and no more
            limit.grant((look + 1) * LOOK_NS)
        assert len(heard) == 3 * AT_ONCE
        for subscriber in subscribers:
            subscriber.close()
