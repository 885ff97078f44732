"""Whose messages are taken where several programs send to one address."""

from __future__ import annotations

import pytest

from rtseg.sources.senders import HELD_S, MOST_KNOWN, OtherSenderError, Senders


def test_a_second_one_is_left_out_until_the_first_is_silent_or_has_ended() -> None:
    senders = Senders()
    assert [senders.take("a", t) for t in (0.0, 0.1, 0.2)] == [False] * 3
    with pytest.raises(OtherSenderError):
        senders.take("b", 0.2 + 0.9 * HELD_S)
    assert senders.take("b", 0.2 + HELD_S)  # silent
    assert not senders.take("b", 0.3 + HELD_S)
    with pytest.raises(OtherSenderError):  # whoever comes back is the second one now
        senders.take("a", 0.4 + HELD_S)
    senders.end("a")  # which is not the one that is taken
    with pytest.raises(OtherSenderError):
        senders.take("a", 0.5 + HELD_S)
    senders.end("b")
    assert senders.take("a", 0.6 + HELD_S)


def test_two_that_begin_together_are_told_apart_at_the_third_message() -> None:
    senders = Senders()
    assert not any(senders.take(name, 0.0) for name in "aba")
    with pytest.raises(OtherSenderError):
        senders.take("b", 0.0)
    assert not senders.take("a", 0.0)


def test_one_that_takes_another_port_for_every_message_is_one() -> None:
    senders = Senders()
    assert not any(senders.take(port, port / 30) for port in range(3 * MOST_KNOWN))
    assert len(senders._messages) <= MOST_KNOWN
