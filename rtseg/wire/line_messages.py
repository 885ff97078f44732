"""What a `zmq` sink publishes about its lines, and what their receivers acknowledge (docs/sinks/zmq.md).

Maps in msgpack, or in JSON for receivers that have no msgpack; a reader takes either. Knows no socket and no clock.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import msgpack

from rtseg.wire.fields import MessageError
from rtseg.wire.messages import VERSION, unpack

BEAT_TOPIC = b"beat"
LINE_ON, LINE_RENEW, LINE_OFF, LINE_BEAT, LINE_ACK = "on", "renew", "off", "beat", "ack"
_TEXTS = ("run", "type", "trigger", "stream", "reason", "boot", "acknowledgements")


class LineMessage(NamedTuple):
    """One message about a line, or a sign of life.

    type: `on`, `renew`, `off` or `beat`. run: another one after each start of the sink. n: counts up within a topic.
    sent_ns: when, on the sender's monotonic clock; hold_ns: of `on` and `renew`: the line goes off by itself so long
    after that. trigger, line, stream, event, seq: whose line, and which frame decided it. reason: of an `off`, "" where
    the rule ended it. boot: of a beat: a name of the sender's start of its machine; acknowledgements: where it takes
    them, "" = it does not; heartbeat_s: how often beats come.
    """

    type: str
    run: str
    n: int
    sent_ns: int
    hold_ns: int = 0
    trigger: str = ""
    line: int | str = ""
    stream: str = ""
    event: int = 0
    seq: int = 0
    reason: str = ""
    boot: str = ""
    acknowledgements: str = ""
    heartbeat_s: float = 0.0


class LineAck(NamedTuple):
    """That a receiver has acted. run, event: of the message. is_on: whether its line is on now."""

    run: str
    event: int
    is_on: bool


def line_topic(trigger: str) -> bytes:
    """The topic of a trigger's lines."""
    return b"line:" + trigger.encode()


def pack_fields(fields: dict[str, Any], text_format: str) -> bytes:
    """A map as bytes: `msgpack` or `json`."""
    packed: bytes = json.dumps(fields).encode() if text_format == "json" else msgpack.packb(fields)
    return packed


def pack_line(message: LineMessage, text_format: str) -> bytes:
    """As bytes, without what is at its default."""
    defaults = LineMessage._field_defaults
    given = {k: v for k, v in message._asdict().items() if k not in defaults or v != defaults[k]}
    return pack_fields({"v": VERSION, **given}, text_format)


def pack_line_ack(ack: LineAck) -> bytes:
    """As bytes."""
    return pack_fields({"v": VERSION, "type": LINE_ACK, **ack._asdict()}, "msgpack")


def parse_line(data: bytes) -> LineMessage:
    """From bytes in either format. Raises MessageError."""
    fields = _fields(data)
    known = {name: fields[name] for name in LineMessage._fields if name in fields}
    missing = [name for name in ("type", "run", "n", "sent_ns") if name not in known]
    if missing:
        raise MessageError(f"a message about a line: field {missing[0]!r} is missing")
    for name, value in known.items():
        accepted = {"line": (int, str), "heartbeat_s": (float, int)}.get(name, (str,) if name in _TEXTS else (int,))
        if type(value) not in accepted:
            wanted = " or ".join(kind.__name__ for kind in accepted)
            raise MessageError(f"a message about a line: field {name!r} must be {wanted}, got {type(value).__name__}")
    return LineMessage(**known)


def parse_line_ack(data: bytes) -> LineAck:
    """From bytes in either format. Raises MessageError."""
    fields = _fields(data)
    run, event, is_on = (fields.get(name) for name in LineAck._fields)
    if fields.get("type") != LINE_ACK or type(run) is not str or type(event) is not int or type(is_on) is not bool:
        raise MessageError("expected an acknowledgement: type 'ack', run (text), event (int), is_on (bool)")
    return LineAck(run, event, is_on)


def _fields(data: bytes) -> dict[str, Any]:
    # A map in msgpack begins with another byte.
    if data[:1] != b"{":
        return unpack(data)
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError):
        raise MessageError(f"expected JSON, got {len(data)} bytes that are none") from None
    if fields.get("v") != VERSION:
        raise MessageError(f"field 'v': expected protocol version {VERSION}")
    return dict(fields)
