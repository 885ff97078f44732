"""Logging: to stderr, as text or as one JSON object a line, written by a thread of its own.

A terminal or a journal that doesn't read must not delay the loop that logs, so lines go through a queue; where it is
full they are dropped and counted. Nor must whoever causes lines in a loop fill the disk: of each kind some are written,
the others are counted, and the count is written (`log_limits`). Set up by the commands and nowhere else.
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

from rtseg.system.log_limits import BURST_LINES, LineLimiter, clip_record

QUEUE_LINES = 10_000
CLOSE_S = 1.0
REPORT_S = 10.0
"""How often it is said which lines were left out."""
TEXT = "%(asctime)s %(levelname)s %(message)s"
WORKER_TEXT = "%(asctime)s %(levelname)s worker {worker}: %(message)s"
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """One object a record: time (UTC, ISO 8601), level, logger, message, what `extra` gave, and `exception`.

    worker: the number of the worker that logs, as a field of its own; None where there is none.
    """

    def __init__(self, worker: int | None = None) -> None:
        super().__init__()
        self._worker = {} if worker is None else {"worker": worker}

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "time": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **self._worker,
        }
        line |= {key: value for key, value in vars(record).items() if key not in _OWN}
        if record.exc_text:
            line["exception"] = record.exc_text
        elif record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        # `extra` may hold anything: what JSON does not know is written as text.
        return json.dumps(line, default=str)


class _QueueHandler(logging.Handler):
    """Passes records to a thread that formats and writes them; never waits."""

    def __init__(self, write: Callable[[bytes], object], formatter: logging.Formatter, burst: int) -> None:
        super().__init__()
        self.dropped = 0
        self._write, self._formatter, self._limiter = write, formatter, LineLimiter(burst)
        self._records: queue.Queue[logging.LogRecord | None] = queue.Queue(QUEUE_LINES)
        self._thread = threading.Thread(target=self._run, name="rtseg log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record; count it where there were too many of its kind, or as dropped where the queue is full."""
        if not self._limiter.admit_line(record):
            return
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
        report_s = time.monotonic() + REPORT_S
        while True:
            with contextlib.suppress(queue.Empty):
                record = self._records.get(timeout=max(0.0, report_s - time.monotonic()))
                if record is None:
                    break
                self._write_record(record)
            if time.monotonic() >= report_s:
                self._report_left_out()
                report_s = time.monotonic() + REPORT_S
        self._report_left_out()

    def _write_record(self, record: logging.LogRecord) -> None:
        try:
            clip_record(record, self._formatter)
            # In one call: workers write to the same file, and their lines must not run into each other.
            self._write((self._formatter.format(record) + "\n").encode(errors="backslashreplace"))
        except Exception:  # a closed pipe, a line that can't be formatted: the log must not end the process
            self.dropped += 1

    def _report_left_out(self) -> None:
        for (level, text), count in self._limiter.take_left_out().items():
            report = {"name": "rtseg", "levelno": level, "levelname": logging.getLevelName(level)}
            message = "%d more lines like this were left out: %s"
            self._write_record(logging.makeLogRecord({**report, "msg": message, "args": (count, text)}))


@contextmanager
def background(
    log_format: str = "text",
    write: Callable[[bytes], object] | None = None,
    *,
    worker: int | None = None,
    burst: int = BURST_LINES,
) -> Iterator[None]:
    """Within this, rtseg's log is written in this format by a thread; what is left is written at the end.

    log_format: `text` or `json`. write: takes a line; to stderr where None (past Python's own buffer, whose lock a
    blocked writer would hold at the end of the process). worker: number of the worker whose log it is, which shares its
    front's stderr. burst: how many lines of one kind are written at once.
    """
    text = TEXT if worker is None else WORKER_TEXT.format(worker=worker)
    formatter = JsonFormatter(worker) if log_format == "json" else logging.Formatter(text)
    handler = _QueueHandler(write or partial(os.write, 2), formatter, burst)
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
