"""Logging: to stderr, as text or as one JSON object a line, written by a thread of its own.

A terminal or a journal that doesn't read must not delay the loop that logs, so lines go through a queue; where it is
full they are dropped and counted. Set up by the commands and nowhere else.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

QUEUE_LINES = 10_000
CLOSE_S = 1.0
TEXT = "%(asctime)s %(levelname)s %(message)s"
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """One object a record: time (UTC, ISO 8601), level, logger, message, what `extra` gave, and `exception`."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "time": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {key: value for key, value in vars(record).items() if key not in _OWN}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        elif record.exc_text:
            line["exception"] = record.exc_text
        # `extra` may hold anything: what JSON does not know is written as text.
        return json.dumps(line, default=str)


class _QueueHandler(logging.Handler):
    """Passes records to a thread that formats and writes them; never waits."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        super().__init__()
        self.dropped = 0
        self._write = write
        self._records: queue.Queue[logging.LogRecord | None] = queue.Queue(QUEUE_LINES)
        self._thread = threading.Thread(target=self._run, name="rtseg log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record; count it as dropped where the queue is full."""
        try:
            self._records.put_nowait(record)
        except queue.Full:
            self.dropped += 1

    def close(self) -> None:
        """Write what is left, if its reader takes it within CLOSE_S."""
        with contextlib.suppress(queue.Full):
            self._records.put(None, timeout=CLOSE_S)
            self._thread.join(CLOSE_S)
        super().close()

    def _run(self) -> None:
        while (record := self._records.get()) is not None:
            try:
                self._write((self.format(record) + "\n").encode(errors="backslashreplace"))
            except Exception:  # a closed pipe, a line that can't be formatted: the log must not end the process
                self.dropped += 1


@contextmanager
def background(log_format: str = "text", write: Callable[[bytes], object] | None = None) -> Iterator[None]:
    """Within this, rtseg's log is written in this format by a thread; what is left is written at the end.

    log_format: `text` or `json`. write: takes a line; to stderr where None (past Python's own buffer, whose lock a
    blocked writer would hold at the end of the process).
    """
    handler = _QueueHandler(write or partial(os.write, 2))
    handler.setFormatter(JsonFormatter() if log_format == "json" else logging.Formatter(TEXT))
    logger = logging.getLogger("rtseg")
    before, propagates = logger.handlers[:], logger.propagate
    # Not also to the root's handler, which would write from the thread that logs.
    logger.handlers, logger.propagate = [handler], False
    try:
        yield
    finally:
        logger.handlers, logger.propagate = before, propagates
        handler.close()
        if handler.dropped:
            logger.warning("%d lines of the log were dropped: whoever reads it is too slow", handler.dropped)
