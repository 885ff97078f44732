"""A task that comes round at an interval: when it was last done, and whether it is due again. Reads no clock."""

from __future__ import annotations


class Periodic:
    """One periodic task. every_ns: its interval. last_ns: when it was last done; 0 = so long ago that it is due now."""

    __slots__ = ("every_ns", "last_ns")

    def __init__(self, every_ns: int, last_ns: int = 0) -> None:
        self.every_ns, self.last_ns = every_ns, last_ns

    def is_due(self, now_ns: int) -> bool:
        """Whether the interval has passed."""
        return now_ns - self.last_ns >= self.every_ns

    def restart(self, now_ns: int) -> None:
        """The task is done: it is due again one interval from now."""
        self.last_ns = now_ns

    def restart_if_due(self, now_ns: int) -> bool:
        """Whether the task is due; if so the caller does it now, and the interval begins again."""
        if now_ns - self.last_ns < self.every_ns:
            return False
        self.last_ns = now_ns
        return True
