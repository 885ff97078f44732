"""How many lines of one kind are logged. A kind is what the code says, whatever a client has filled into it."""

from __future__ import annotations

import logging
import threading

BURST_LINES = 100
"""Of one kind at once: so many streams may be opened together and all be named."""
LINES_A_MINUTE = 10
"""Of one kind for ever: whoever causes lines in a loop fills no disk."""
MAX_KINDS = 256
"""There are some dozens. Lines whose text was put together before they were logged would make a kind each."""
MAX_MESSAGE_CHARACTERS = 1000
MAX_TRACEBACK_CHARACTERS = 8000

Kind = tuple[int, str]
"""Level, and the text before its arguments are filled in."""


class LineLimiter:
    """A token bucket for each kind of line. May be used by several threads."""

    def __init__(self, burst: int = BURST_LINES, lines_a_minute: float = LINES_A_MINUTE) -> None:
        self._burst, self._lines_a_second = burst, lines_a_minute / 60
        self._lock = threading.Lock()
        self._buckets: dict[Kind, tuple[float, float]] = {}  # lines left, and when that was (s)
        self._left_out: dict[Kind, int] = {}

    def admit_line(self, record: logging.LogRecord) -> bool:
        """Whether a line is to be written; one that is not is counted."""
        kind = record.levelno, str(record.msg)[:MAX_MESSAGE_CHARACTERS]
        with self._lock:
            if kind not in self._buckets and len(self._buckets) >= MAX_KINDS:
                kind = record.levelno, "(others)"
            left, then_s = self._buckets.get(kind, (float(self._burst), record.created))
            # The record's own time is the system's clock, which may be set back.
            left = min(self._burst, left + max(0.0, record.created - then_s) * self._lines_a_second)
            is_admitted = left >= 1.0
            self._buckets[kind] = left - is_admitted, record.created
            if not is_admitted:
                self._left_out[kind] = self._left_out.get(kind, 0) + 1
        return is_admitted

    def take_left_out(self) -> dict[Kind, int]:
        """How many lines of each kind were left out since the last call."""
        with self._lock:
            left_out, self._left_out = self._left_out, {}
        return left_out


def clip_record(record: logging.LogRecord, formatter: logging.Formatter) -> None:
    """Fill in a record's arguments, and shorten what is too long for a line; of a traceback the end is kept."""
    message = record.getMessage()
    if len(message) > MAX_MESSAGE_CHARACTERS:
        message = f"{message[:MAX_MESSAGE_CHARACTERS]}... ({len(message)} characters)"
    record.msg, record.args = message, None
    if record.exc_info and not record.exc_text:
        record.exc_text = formatter.formatException(record.exc_info)[-MAX_TRACEBACK_CHARACTERS:]
