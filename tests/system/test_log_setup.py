"""Logs: as JSON, and where nobody reads them."""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
from pathlib import Path

from rtseg.system.log_setup import background
from tests.live import HELLO, Raw, daemon


def test_the_log_as_json(tiny_bundle: Path) -> None:
    with daemon(tiny_bundle, log_format="json") as child:
        with Raw(child.frames) as raw:
            raw.ask(HELLO)
        child.signal(signal.SIGTERM)
        _, err, code = child.rest()
    assert code == 0
    lines = [json.loads(line) for line in err.splitlines()]
    messages = [line["message"] for line in lines]
    assert messages[-2:] == ["stream 'cage1' opened", "stream 'cage1' closed: stopping"]
    assert {(line["level"], line["logger"]) for line in lines[-2:]} == {("INFO", "rtseg.serve")}
    assert lines[0]["time"].endswith("Z")


def test_a_log_that_nobody_reads_holds_nobody_up() -> None:
    reading, writing = os.pipe()
    written: list[bytes] = []
    go = threading.Event()

    def write(line: bytes) -> None:
        go.wait(30)
        written.append(line)

    logger = logging.getLogger("rtseg.serve")
    level = logging.getLogger("rtseg").level
    logging.getLogger("rtseg").setLevel(logging.INFO)
    try:
        with background("json", write, burst=20_000):
            for number in range(20_000):  # twice the room there is
                logger.info("line %d", number, extra={"stream": "cage1"})
            try:
                raise ValueError("broken")
            except ValueError:
                go.set()
                while len(written) < 10_000:
                    pass
                logger.exception("an error")
    finally:
        logging.getLogger("rtseg").setLevel(level)
        os.close(reading)
        os.close(writing)
    first = json.loads(written[0])
    assert (first["message"], first["stream"]) == ("line 0", "cage1")
    assert "ValueError: broken" in json.loads(written[-1])["exception"]
    assert 10_000 <= len(written) <= 10_003
