"""Which frame an answer is about: with a lookahead of k frames, the one k frames before the frame that was stepped.

The one rule for it, live and offline. The network's step knows nothing of it: a model with a lookahead was trained to
answer late, so only the names of frames move.
"""

from __future__ import annotations

Stepped = tuple[int, int, int]
"""Number, t_source_ns and flags of a frame that was stepped."""


class PendingFrames:
    """Frames of one stream that were stepped and are not answered yet, the oldest first; at most `lookahead`."""

    def __init__(self, lookahead: int) -> None:
        self.lookahead = lookahead
        self.frames: list[Stepped] = []

    def exchange_frames(self, stepped: list[Stepped]) -> list[Stepped]:
        """The frames that the answers of these steps are about.

        As long as the lookahead fills there are fewer, down to none; they belong to the last ones of the steps.
        """
        both = self.frames + stepped
        n_due = max(len(both) - self.lookahead, 0)
        self.frames = both[n_due:]
        return both[:n_due]
