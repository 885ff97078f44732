"""Which frame an answer is about: with a lookahead of k frames, the one k frames before the frame that was stepped.

The one rule for it, live and offline. The network's step knows nothing of it: a model with a lookahead was trained to
answer late, so only the names of frames move.
"""

from __future__ import annotations

from collections import deque

Stepped = tuple[int, int, int]
"""Number, t_source_ns and flags of a frame that was stepped."""


class PendingFrames:
    """Frames of one stream that were stepped and are not answered yet, the oldest first; at most `lookahead`."""

    def __init__(self, lookahead: int) -> None:
        self.lookahead = lookahead
        self.frames: deque[Stepped] = deque()

    def exchange_frame(self, stepped: Stepped) -> Stepped | None:
        """The frame that the answer of this step is about; None as long as the lookahead fills."""
        # Once for every frame of a live batch, so there is nothing here but the exchange.
        frames = self.frames
        frames.append(stepped)
        return frames.popleft() if len(frames) > self.lookahead else None
