"""Which lines are on, beside an obvious account of it: whatever is late, lost, repeated or out of step."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rtseg.client.line_follower import LEASE_OVER, RESTARTED, WINDOW_NS, LineFollower
from rtseg.wire.line_messages import LineMessage

MS = 1_000_000
BOOT = "this start of this machine"
KINDS = st.sampled_from(["on", "on", "renew", "off"])


def message(kind: str, sent_ms: int, event: int = 1, hold_ms: int = 0, *, n: int = 0, run: str = "r") -> LineMessage:
    return LineMessage(kind, run, n, sent_ms * MS, hold_ms * MS, "attack", 8, "cage1", event, 17)


def beat(sent_ms: int, *, run: str = "r", boot: str = "") -> LineMessage:
    return LineMessage("beat", run, 0, sent_ms * MS, boot=boot, heartbeat_s=0.25)


@given(st.lists(st.tuples(KINDS, st.integers(1, 5), st.integers(0, 30), st.integers(0, 12), st.integers(0, 12))))
def test_a_line_is_on_only_within_its_lease_and_once(messages: list[tuple[str, int, int, int, int]]) -> None:
    """Both on one machine. Messages come in order, each after a delay of its own."""
    follower, now = LineFollower(BOOT), 1000
    follower.take(beat(now, boot=BOOT), now * MS)
    on: dict[int, int] = {}
    newest = 0
    for kind, event, hold, delay, pause in messages:
        sent = now - delay
        changes = follower.take(message(kind, sent, event, hold), now * MS)
        expected: list[tuple[bool, int]] = []
        if kind == "on" and event > newest:
            newest = event
            if sent + hold > now:
                on[event] = sent + hold
                expected = [(True, event)]
        elif kind == "renew" and event in on and sent <= on[event]:
            on[event] = max(on[event], sent + hold)
        elif kind == "off" and on.pop(event, None) is not None:
            expected = [(False, event)]
        assert [(change.is_on, change.event) for change in changes] == expected
        now += pause
        over = [event for event, until in on.items() if until <= now]
        for event in over:
            del on[event]
        ended = follower.expire(now * MS)
        assert [(change.event, change.is_on, change.reason) for change in ended] == [
            (e, False, LEASE_OVER) for e in over
        ]
        assert {change.event for change in follower.on} == set(on)
        assert follower.next_end_ns() == (min(on.values()) * MS if on else None)


@given(st.integers(-(10**9), 10**9), st.lists(st.integers(0, 20), min_size=1, max_size=20), st.integers(0, 200))
def test_the_clock_of_another_machine_is_taken_from_what_comes_fastest(
    ahead: int, delays: list[int], late: int
) -> None:
    """All that is known of the other clock is the smallest delay, which counts as none."""
    follower, now = LineFollower(BOOT), 10**10
    for delay in delays:
        follower.take(beat(now - delay + ahead, boot="another"), now * MS)
        now += 10
    fastest = min([*delays, late])
    changes = follower.take(message("on", now - late + ahead, 1, 50), now * MS)
    is_in_time = late - fastest < 50
    assert [change.is_on for change in changes] == [True] * is_in_time
    assert follower.late == (not is_in_time)
    if is_in_time:
        assert follower.next_end_ns() == (now - late + fastest + 50) * MS


def test_a_clock_that_drifts_is_followed() -> None:
    follower, ahead_us = LineFollower(), 0
    for second in range(300):
        ahead_us -= 100  # the other clock loses 0.1 ms a second
        now_ns = second * 1_000_000_000
        follower.take(LineMessage("beat", "r", 0, now_ns + ahead_us * 1000), now_ns)
    now_ns += 1
    follower.take(LineMessage("on", "r", 0, now_ns + ahead_us * 1000, 20 * MS, "a", 8, "c", 1, 0), now_ns)
    end_ns = follower.next_end_ns()
    assert end_ns is not None
    # Never later than it should be, and earlier by what the clock has lost within two windows at the most.
    assert -2 * WINDOW_NS * 1e-4 <= end_ns - (now_ns + 20 * MS) <= 0


def test_a_restart_of_the_sink_turns_off_and_begins_anew() -> None:
    follower = LineFollower(BOOT)
    follower.take(beat(0, boot=BOOT), 0)
    follower.take(message("on", 0, 9, 100, n=5), 0)
    (off,) = follower.take(beat(1, run="s", boot=BOOT), MS)
    assert (off.is_on, off.event, off.reason) == (False, 9, RESTARTED)
    (on,) = follower.take(message("on", 2, 1, 100, n=1, run="s"), 2 * MS)
    assert (on.is_on, on.event, on.run) == (True, 1, "s")
    assert not follower.missed


def test_lost_messages_are_counted_by_their_numbers() -> None:
    follower = LineFollower(BOOT)
    for n in (3, 4, 7, 8):
        follower.take(message("renew", 0, n=n), 0)
    assert follower.missed == 2
    assert [change.reason for change in follower.end_all("closed")] == []
