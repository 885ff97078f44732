"""Messages about lines through both formats, and what is none."""

from __future__ import annotations

import json

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtseg.wire.fields import MessageError
from rtseg.wire.line_messages import LineAck, LineMessage, pack_line, pack_line_ack, parse_line, parse_line_ack

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
NUMBER = st.integers(0, 2**63 - 1)
MESSAGES = st.builds(
    LineMessage,
    *(TEXT, TEXT, NUMBER, NUMBER, NUMBER, TEXT),
    st.one_of(TEXT, st.integers(0, 255)),
    *(TEXT, NUMBER, NUMBER, TEXT, TEXT, TEXT),
    st.floats(0, 100),
)
MINIMAL = {"v": 1, "type": "beat", "run": "r", "n": 1, "sent_ns": 5}


@given(MESSAGES, st.sampled_from(["msgpack", "json"]))
def test_a_message_comes_out_as_it_went_in(message: LineMessage, text_format: str) -> None:
    assert parse_line(pack_line(message, text_format)) == message


@given(TEXT, NUMBER, st.booleans())
def test_an_acknowledgement_in_either_format(run: str, event: int, is_on: bool) -> None:
    ack = LineAck(run, event, is_on)
    assert parse_line_ack(pack_line_ack(ack)) == ack
    # As a receiver without msgpack sends it.
    text = json.dumps({"v": 1, "type": "ack", "run": run, "event": event, "is_on": is_on})
    assert parse_line_ack(text.encode()) == ack


@given(st.binary(max_size=60))
def test_no_bytes_do_more_than_raise(data: bytes) -> None:
    for parse in (parse_line, parse_line_ack):
        try:
            parse(data)
        except MessageError:
            continue
        assert {"v", "type"} <= set(msgpack.unpackb(data) if data[:1] != b"{" else json.loads(data))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"v": 2}, "protocol version 1"),
        ({"run": None}, "'run' must be str"),
        ({"event": True}, "'event' must be int"),
        ({"event": 1.0}, "'event' must be int"),
        ({"line": [1]}, "'line' must be int or str"),
        ({"heartbeat_s": "1"}, "'heartbeat_s' must be float or int"),
    ],
)
def test_a_field_of_another_kind(changes: dict[str, object], reason: str) -> None:
    for data in (msgpack.packb(MINIMAL | changes), json.dumps(MINIMAL | changes).encode()):
        with pytest.raises(MessageError, match=reason):
            parse_line(data)


def test_what_is_missing_and_what_is_more() -> None:
    assert parse_line(msgpack.packb(MINIMAL | {"of a newer sink": 1})).sent_ns == 5
    for name in ("type", "run", "n", "sent_ns"):
        with pytest.raises(MessageError, match=f"'{name}' is missing"):
            parse_line(msgpack.packb({k: v for k, v in MINIMAL.items() if k != name}))
    with pytest.raises(MessageError, match="expected JSON"):
        parse_line(b"{")
    with pytest.raises(MessageError, match="expected an acknowledgement"):
        parse_line_ack(msgpack.packb(MINIMAL))
