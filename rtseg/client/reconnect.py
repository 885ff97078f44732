"""How a publisher comes back to its daemon: what it keeps of the frames it sent, and when it says hello again.

Holds no socket and never waits: `rtseg.client.publisher.Publisher` asks it what to do with every frame.
"""

from __future__ import annotations

from collections import deque

HELLO_AGAIN_S = 3.0
"""A hello that stays without an answer is said again after this long; said too soon, its answer comes twice."""


class Comeback:
    """One publisher's connection, as far as it can be lost.

    patience_s: how long a daemon may be away; 0 = a lost daemon is an error at once. keep_frames: how many of the last
    frames are sent again to a daemon that has not seen them. times: how often the stream came back.
    """

    def __init__(self, patience_s: float, keep_frames: int) -> None:
        self.patience_s = patience_s
        self.times = 0
        self._kept: deque[tuple[int, bytes]] = deque(maxlen=keep_frames if patience_s > 0 else 0)
        self._lost_s: float | None = None
        self._greeted_s: float | None = None
        self._unsent_from = 0
        self._asked = False

    @property
    def lost(self) -> bool:
        """Whether the daemon is away, or does not know this stream."""
        return self._lost_s is not None

    @property
    def greeted(self) -> bool:
        """Whether a hello is on its way."""
        return self._greeted_s is not None

    def keep(self, seq: int, data: bytes) -> None:
        """A frame that is being sent."""
        self._kept.append((seq, data))

    def lose(self, now_s: float, seq: int) -> bool:
        """The daemon took no frame, or said that it knows no such stream; `seq` is the first that it did not take.

        False where that is to be an error.
        """
        if self.patience_s <= 0:
            return False
        if self._lost_s is None:
            self._lost_s, self._unsent_from = now_s, seq
        self._greeted_s, self._asked = None, False
        return True

    def ask(self, now_s: float, seq: int) -> None:
        """Say hello though nothing is wrong: the answer tells what has arrived. seq: of the newest frame."""
        if self._lost_s is None:
            self._lost_s, self._unsent_from, self._asked = now_s, seq, True

    def was_lost(self, seq: int) -> None:
        """A complaint from before the hello: the daemon did not know the stream when `seq` came."""
        self._asked, self._unsent_from = False, min(self._unsent_from, seq)

    def hopeless(self, now_s: float) -> bool:
        """Whether the daemon has been away for too long."""
        return self._lost_s is not None and not self._asked and now_s - self._lost_s > self.patience_s

    def may_greet(self, now_s: float) -> bool:
        """Whether it is time for a hello; the caller says it then."""
        if self._lost_s is None or (self._greeted_s is not None and now_s - self._greeted_s < HELLO_AGAIN_S):
            return False
        self._greeted_s = now_s
        return True

    def back(self, resumed: int | None) -> list[bytes]:
        """The daemon has accepted the stream; the frames that it has not seen, to be sent again.

        resumed: the last that it knows. None: the stream began afresh there, and what was sent before it was lost
        would only be old.
        """
        self.times += not self._asked
        self._lost_s = self._greeted_s = None
        self._asked = False
        first = self._unsent_from if resumed is None else resumed + 1
        return [data for seq, data in self._kept if seq >= first]
