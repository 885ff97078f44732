"""What a recording holds: its channels with their schemas, and the metadata between the messages.

The maps are the wire's (docs/wire.md), as they came and as they were published, byte for byte.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rtseg.recorder import mcap_records

LIBRARY = "rtseg"
"""What a file's header says of who wrote it."""
FRAMES, PREDICTIONS, EVENTS, SNAPSHOTS, TRIGGERS = 1, 2, 3, 4, 5
SESSION = "rtseg.session"
"""The metadata record at a file's beginning: who wrote it, with which model, engine, versions and settings."""
MARK = "rtseg.mark"
"""The metadata record that says where to begin reading for every stream that is open here; one each MARK_EVERY_S."""
MARK_EVERY_S = 1.0
FIRST_FIELD = "session"
"""A mark's first field, the session's random name: what a search from the file's end looks for."""

_TEXT, _WHOLE, _MAP = {"type": "string"}, {"type": "integer"}, {"type": "object"}
_VERSION = {"const": 1, "description": "version of the wire"}
_FLOATS = {"contentEncoding": "msgpack bin", "contentMediaType": "application/x-float32-le"}
_BYTES = {"contentEncoding": "msgpack bin"}


def _schema(title: str, about: str, fields: Mapping[str, Any], required: str, *, more: bool = False) -> dict[str, Any]:
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        "description": about,
        "type": "object",
        "properties": {"v": _VERSION, "stream": _TEXT, **fields},
        "required": required.split(),
        "additionalProperties": more,
    }


_TIMES = {"t_recv_ns": _WHOLE, "t_pub_ns": _WHOLE}
CHANNELS = {
    FRAMES: (
        "frames",
        _schema(
            "rtseg.Frame",
            "A frame as it came and was accepted; the log time is its receipt.",
            {"seq": _WHOLE, "t_source_ns": _WHOLE, "kp": _FLOATS, "conf": _FLOATS},
            "v stream seq t_source_ns kp",
        ),
    ),
    PREDICTIONS: (
        "predictions",
        _schema(
            "rtseg.Prediction",
            "A prediction as it was published.",
            {
                **{"seq": _WHOLE, "t_source_ns": _WHOLE, **_TIMES, "quality": _WHOLE, "model": _TEXT},
                "probs": {"type": "object", "additionalProperties": _FLOATS},
                **{"label": _MAP, "event": _MAP, "unsure": {"type": "array", "items": _TEXT}},
            },
            "v stream seq t_source_ns t_recv_ns t_pub_ns probs label event quality model",
            more=True,
        ),
    ),
    EVENTS: (
        "events",
        _schema(
            "rtseg.Event",
            "Stream events as published; `hello` as accepted; `lost`: records that found no room.",
            {"type": _TEXT},
            "v type",
            more=True,
        ),
    ),
    SNAPSHOTS: (
        "snapshots",
        _schema(
            "rtseg.Snapshot",
            "All that a stream remembers between two frames, and its hello.",
            {
                **{"hello": _MAP, "state": _BYTES, "opened_ns": _WHOLE, "triggers": _BYTES},
                "answers": {**_WHOLE, "description": "number of the last answer before it"},
            },
            "v stream hello state",
        ),
    ),
    TRIGGERS: (
        "triggers",
        _schema("rtseg.Trigger", "What triggers decided, and what they were told.", {"type": _TEXT}, "v", more=True),
    ),
}
"""Number of a channel -> its topic and schema."""


def beginning(library: str, session: Mapping[str, str]) -> bytes:
    """The bytes that a file begins with: header, schemas, channels and the session's metadata."""
    return description(library) + mcap_records.metadata(SESSION, session)


def description(library: str = LIBRARY) -> bytes:
    """What every file of this version begins with, before its session's metadata: header, schemas and channels."""
    parts = [mcap_records.MAGIC, mcap_records.header("", library)]
    for number, (topic, schema) in CHANNELS.items():
        plain = json.dumps(schema).encode()
        parts.append(mcap_records.schema(number, schema["title"], "jsonschema", plain))
        parts.append(mcap_records.channel(number, number, topic, "msgpack"))
    return b"".join(parts)


def mark(session: str, start: int) -> bytes:
    """A mark. start: offset from which on the last snapshot (or hello) of every open stream is found."""
    return mcap_records.metadata(MARK, {FIRST_FIELD: session, "start": f"{start:020d}"})


def mark_pattern(session: str) -> bytes:
    """The bytes of a mark from after its record's prefix to the end of the session's name: what a search looks for."""
    # The record's length is left out, for a search cannot know it; the session's name comes first in the map.
    whole = mark(session, 0)
    return whole[mcap_records.PREFIX.size : whole.index(session.encode()) + len(session)]
