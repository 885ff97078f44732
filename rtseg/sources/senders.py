"""Whose messages a source takes: one program's at a time.

Two trackers that send to one port by mistake would be two cages in one stream, their animals jumping to and fro. Pure
bookkeeping; knows no socket, and reads no clock.
"""

from __future__ import annotations

from collections.abc import Hashable

from rtseg.errors import FrameError

HELD_S = 2.0
"""A sender that is silent for longer may be followed by another."""
MOST_KNOWN = 1000
"""Senders that are remembered: some programs take another port for every message."""


class OtherSenderError(FrameError):
    """A message of a program that is not the one whose frames are taken."""


class Senders:
    """The sender whose messages are taken, of those that send to one address."""

    def __init__(self) -> None:
        self._taken: Hashable = None
        self._heard_s = 0.0
        self._messages: dict[Hashable, int] = {}  # of each sender, how many have come

    def take(self, sender: Hashable, now_s: float) -> bool:
        """Whether a message begins afresh: it is of another sender than the ones before, whose program has ended or is
        silent. Raises OtherSenderError for a message of another while they go on.
        """
        if len(self._messages) >= MOST_KNOWN:
            self._messages = {self._taken: self._messages.get(self._taken, 0)}
        self._messages[sender] = self._messages.get(sender, 0) + 1
        # One message alone says nothing: the next one of the same program may come from another port.
        is_other = sender != self._taken and self._messages.get(self._taken, 0) > 1
        if is_other and now_s - self._heard_s < HELD_S:
            raise OtherSenderError(
                "two programs send to this address, and frames of both would be mixed: those of the second one are "
                "left out. Give each a stream and an address of its own"
            )
        self._taken, self._heard_s = sender, now_s
        return is_other

    def end(self, sender: Hashable) -> None:
        """A sender has gone: the next one need not wait."""
        if sender == self._taken:
            self._heard_s = float("-inf")
