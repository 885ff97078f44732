"""Fields of a message that nobody has checked: what they should be, or an error that names the field and what came.

Shows nothing that could be long or deep, whatever was sent.
"""

from __future__ import annotations

from typing import Any

import msgpack

from rtseg.errors import ServeError

MAX_NAME_CHARACTERS = 200


class MessageError(ServeError):
    """Bytes that are not a message of this protocol."""


def check_fields(message: dict[str, Any], required: tuple[str, ...], optional: tuple[str, ...], what: str = "") -> None:
    """Raise MessageError for fields that are missing or unknown. what: names the map, where it has no type."""
    where = f"{what or message.get('type', 'frame')!s}"[:50]
    # Unknown fields are errors: a misspelt optional one would otherwise be ignored without a word.
    missing = [f for f in required if f not in message]
    unknown = [shown(f) for f in message if f not in required and f not in optional]
    if missing or unknown:
        may_have = f"may have {', '.join(sorted(optional)) or 'no other'}"
        known = f"needs the fields {', '.join(required)} and {may_have}" if required else may_have
        raise MessageError(
            f"{where} {known}; missing: {', '.join(missing) or 'none'}; unknown: {', '.join(unknown[:5]) or 'none'}"
        )


def check_fields_once(data: bytes, kind: str, message: dict[str, Any]) -> None:
    """Raise MessageError where a map in `data` has a field twice, of which msgpack keeps the last one.

    kind, message: as `messages.parse_to_daemon` gave them.
    """
    # A frame's fields are no maps, so its own number of entries says all: this is passed by every frame that compiled
    # code leaves to the general rules.
    if kind != "frame" or _entries(data) > len(message):
        msgpack.unpackb(data, raw=False, object_pairs_hook=_map_of)


def _entries(data: bytes) -> int:
    """How many entries the map has that `data` begins with: a fixmap, map16 or map32."""
    if data[0] & 0xF0 == 0x80:
        return data[0] & 0x0F
    return int.from_bytes(data[1:3] if data[0] == 0xDE else data[1:5], "big")


def _map_of(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for name, value in pairs:
        if name in found:
            raise MessageError(f"field {shown(name)}: expected once, got twice: {shown(found[name])}, {shown(value)}")
        found[name] = value
    return found


def check_name(name: str, where: str) -> None:
    """Raise MessageError for a name that is empty, too long or not printable."""
    if not 1 <= len(name) <= MAX_NAME_CHARACTERS or not name.isprintable():
        raise MessageError(
            f"field {where!r}: expected 1 to {MAX_NAME_CHARACTERS} printable characters, got {shown(name)}"
        )


def text_of(value: Any, where: str) -> str:
    """The value where it is a string. Raises MessageError."""
    if type(value) is not str:
        raise MessageError(f"field {where!r}: expected a string, got {shown(value)}")
    return value


def list_of(value: Any, where: str) -> list[Any]:
    """The value where it is a list. Raises MessageError."""
    if type(value) is not list:
        raise MessageError(f"field {where!r}: expected a list, got {shown(value)}")
    return value


def numbers_of(value: Any, count: int, where: str) -> list[float]:
    """The value where it is a list of so many numbers. Raises MessageError."""
    numbers = list_of(value, where)
    if len(numbers) != count or any(type(n) not in (int, float) for n in numbers):
        raise MessageError(f"field {where!r}: expected {count} number{'s' * (count > 1)}, got {shown(value)}")
    return [float(n) for n in numbers]


def shown(value: Any) -> str:
    """A value as an error shows it: short, whatever was sent."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    nested = any(isinstance(item, list | dict) for item in inside)  # perhaps as deep as no repr can go
    if nested or (isinstance(value, str | bytes | list | dict) and len(value) > 40):
        return f"{type(value).__name__} of length {len(value)}"
    return repr(value)[:80]
