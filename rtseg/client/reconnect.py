"""What a publisher does when its daemon is lost: which frames are sent again, and when another hello is sent.

Holds no socket and never waits: `rtseg.client.publisher.Publisher` asks it what to do with every frame.
"""

from __future__ import annotations

from collections import deque

HELLO_AGAIN_S = 3.0
"""A hello without an answer is sent again after this long; sent too soon, its answer comes twice."""


class Reconnection:
    """One publisher's connection, as far as it can be lost.

    patience_s: how long a daemon may be away; 0 = a lost daemon is an error at once, inf = it never is. keep_frames:
    how many of the last frames are sent again to a daemon that has not seen them. count: how often the stream came
    back. dropped: frames that no daemon has seen and that are not kept any more.
    """

    def __init__(self, patience_s: float, keep_frames: int) -> None:
        self.patience_s = patience_s
        self.count = self.dropped = 0
        # A publisher that never reconnects need not hold the frames in memory.
        self._sent: deque[tuple[int, bytes]] = deque(maxlen=keep_frames if patience_s > 0 else 0)
        self._lost_s: float | None = None
        self._hello_s: float | None = None
        self._unseen_from = 0
        self._probing = False  # a hello though nothing is known to be lost

    @property
    def lost(self) -> bool:
        """Whether the daemon is away, or does not know this stream."""
        return self._lost_s is not None

    @property
    def is_away(self) -> bool:
        """Whether it is lost, and not only asked what it has seen."""
        return self._lost_s is not None and not self._probing

    @property
    def hello_sent(self) -> bool:
        """Whether a hello is on its way."""
        return self._hello_s is not None

    def keep_frame(self, seq: int, data: bytes) -> None:
        """Keep a frame that is being sent, in place of the oldest."""
        if self.is_away and len(self._sent) == self._sent.maxlen:
            oldest = self._sent[0][0] if self._sent else seq
            self.dropped += oldest >= self._unseen_from
        self._sent.append((seq, data))

    def mark_lost(self, now_s: float, seq: int) -> bool:
        """The daemon took no frame, or said that it knows no such stream; `seq` is the first that it did not take.

        False where that is to be an error.
        """
        if self.patience_s <= 0:
            return False
        # The first loss counts: patience runs from there, and so do the frames that were not taken.
        if self._lost_s is None:
            self._lost_s, self._unseen_from = now_s, seq
        # A daemon that has been lost again has not read the last hello.
        self._hello_s, self._probing = None, False
        return True

    def probe(self, now_s: float, seq: int) -> None:
        """Ask for a hello although nothing is wrong: its answer tells what has arrived. seq: of the newest frame."""
        if self._lost_s is None:
            self._lost_s, self._unseen_from, self._probing = now_s, seq, True

    def mark_frame_lost(self, seq: int) -> None:
        """A complaint from before the hello: the daemon did not know the stream when `seq` came."""
        self._probing, self._unseen_from = False, min(self._unseen_from, seq)

    def patience_over(self, now_s: float) -> bool:
        """Whether the daemon has been away for too long."""
        return self._lost_s is not None and not self._probing and now_s - self._lost_s > self.patience_s

    def take_hello(self, now_s: float) -> bool:
        """Whether it is time for a hello, which the caller then sends; counts as sent from now on."""
        if self._lost_s is None or (self._hello_s is not None and now_s - self._hello_s < HELLO_AGAIN_S):
            return False
        self._hello_s = now_s
        return True

    def away_s(self, now_s: float) -> float:
        """For how long it has been lost."""
        return 0.0 if self._lost_s is None else now_s - self._lost_s

    def forget(self) -> None:
        """The stream begins afresh: nothing of it is sent again."""
        self._sent.clear()
        self._lost_s = self._hello_s = None
        self._probing = False

    def accept(self, resumed: int | None) -> list[bytes]:
        """The daemon has accepted the stream; the frames that it has not seen, to be sent again.

        resumed: the last that it knows. None: the stream began afresh there, and frames from before the loss would only
        be old.
        """
        # A probe is not counted: the stream was never lost.
        self.count += not self._probing
        self._lost_s = self._hello_s = None
        self._probing = False
        first = self._unseen_from if resumed is None else resumed + 1
        return [data for seq, data in self._sent if seq >= first]
