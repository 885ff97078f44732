"""Lines of one kind in a loop: some are written, the others counted, and what is written is short."""

from __future__ import annotations

import logging
import sys

from rtseg.system.log_limits import MAX_KINDS, LineLimiter, clip_record
from rtseg.system.log_setup import background


def record_of(text: str, *args: object, at_s: float = 1000.0) -> logging.LogRecord:
    record = logging.LogRecord("rtseg.serve", logging.INFO, __file__, 1, text, args, None)
    record.created = at_s
    return record


def test_a_kind_is_what_the_code_says_whatever_is_filled_in() -> None:
    limiter = LineLimiter(burst=5, lines_a_minute=6)
    admitted = [limiter.admit_line(record_of("stream %r opened", f"s{i}")) for i in range(20)]
    assert admitted == [True] * 5 + [False] * 15
    assert limiter.admit_line(record_of("stream %r closed", "s0"))
    assert limiter.take_left_out() == {(logging.INFO, "stream %r opened"): 15}
    assert limiter.take_left_out() == {}
    assert limiter.admit_line(record_of("stream %r opened", "late", at_s=1010.0))
    assert not limiter.admit_line(record_of("stream %r opened", "late", at_s=1010.0))
    assert not limiter.admit_line(record_of("stream %r opened", "the clock was set back", at_s=10.0))


def test_lines_that_are_put_together_before_fill_no_table() -> None:
    limiter = LineLimiter(burst=5, lines_a_minute=0)
    assert sum(limiter.admit_line(record_of(f"line {i}")) for i in range(10_000)) == MAX_KINDS + 5


def test_long_lines_are_shortened() -> None:
    record = record_of("hello refused: %s", "x" * 100_000)
    try:
        raise ValueError("y" * 100_000)
    except ValueError:
        record.exc_info = sys.exc_info()
    clip_record(record, logging.Formatter())
    line = logging.Formatter().format(record)
    assert line.startswith("hello refused: xxx")
    assert "... (100015 characters)" in line
    assert len(line) < 10_000


def test_what_was_left_out_is_said_and_a_worker_names_itself() -> None:
    written: list[str] = []
    logger = logging.getLogger("rtseg.serve")
    with background("text", lambda line: written.append(line.decode()), worker=3, burst=2):
        for i in range(10):
            logger.warning("connection %d refused", i)
    assert [line.partition(" WARNING ")[2] for line in written] == [
        "worker 3: connection 0 refused\n",
        "worker 3: connection 1 refused\n",
        "worker 3: 8 more lines like this were left out: connection %d refused\n",
    ]
