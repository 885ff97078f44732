from __future__ import annotations

import json
import threading
import time

import pytest

from rtseg.system.json_parser import MAX_CONTAINERS, SHORT_BYTES, parse_json

LONG = {
    "numbers": [n / 7 for n in range(40_000)],
    "text": "ü\n" * 1000,
    "nested": [{"a": [None, True, -1, 1e300]}] * 99,
}


def test_long_texts_mean_the_same_as_short_ones() -> None:
    text = json.dumps(LONG, indent=1, ensure_ascii=False).encode()
    assert len(text) > SHORT_BYTES
    assert parse_json(text) == LONG
    assert parse_json(b' {"a": [1]} ') == {"a": [1]}


def test_other_threads_run_while_a_long_text_is_parsed() -> None:
    text = json.dumps(list(range(120_000))).encode()
    thread = threading.Thread(target=parse_json, args=(text,))
    turns = 0
    thread.start()
    while thread.is_alive():
        time.sleep(0.001)
        turns += 1
    # The parser in C would hold them all up: one or two.
    assert turns >= 5


@pytest.mark.parametrize(
    "text",
    [
        *(
            b"",
            b"{",
            b"\xff",
            b"\xef\xbb\xbf{}",
            b"[" + b"[]," * MAX_CONTAINERS + b"1]",
            b'{"a": 1}' + b" " * 99_999 + b"x",
        ),
        b"[1." + b"1" * SHORT_BYTES + b"]",
        b"[" + b"1" * SHORT_BYTES + b"]",
    ],
    ids=["empty", "cut", "no UTF-8", "BOM", "brackets", "more", "long float", "long integer"],
)
def test_what_is_no_json_or_too_much_is_a_value_error(text: bytes) -> None:
    with pytest.raises(ValueError):
        parse_json(text)


def test_what_is_too_deep_is_a_recursion_error() -> None:
    with pytest.raises(RecursionError):
        parse_json(b"[" * (MAX_CONTAINERS - 1) + b" " * SHORT_BYTES)
