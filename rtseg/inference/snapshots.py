"""A session's snapshot as bytes, and back: read as carefully as a message from outside, since it comes from a file.

The bytes are a msgpack map of plain values without a checksum. What is checked is that they can be a session's, so that
no kernel looks up what is not there and no loop runs without end.
"""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any, NamedTuple

import msgpack

from rtseg.errors import SnapshotError
from rtseg.frames.frame import MAX_SEQ
from rtseg.inference.gap_rule import Counters
from rtseg.inference.lookahead import Stepped

_MAX_FLAGS = 2**16 - 1
"""Quality flags travel as 16 bits."""


class SessionSnapshot(NamedTuple):
    """What a session remembers beside its slot. last: seq and t_source_ns. resampler: `Resampler.state`, unchecked."""

    model: str
    engine: str
    last: tuple[int, int] | None
    since_reset: int
    pending: list[Stepped]
    counters: Counters
    resampler: object


def pack_snapshot(session: SessionSnapshot, slot: dict[str, Any]) -> bytes:
    """Session and slot in one map. slot: `ModelSlots.snapshot`. The keys have the same order in all recordings."""
    plain = session._asdict()
    # `replay --verify` compares snapshots byte by byte, so their order may not change.
    named = {"model": plain.pop("model"), "engine": plain.pop("engine"), **slot, **plain}
    packed: bytes = msgpack.packb(named | {"counters": asdict(session.counters)})
    return packed


def unpack_snapshot(data: bytes) -> tuple[SessionSnapshot, dict[str, Any]]:
    """The inverse of `pack_snapshot`; the slot's part is not checked yet. Raises SnapshotError."""
    try:
        plain = msgpack.unpackb(data, strict_map_key=True)
    # No limits on sizes: msgpack allows no container larger than the data that it is given.
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise SnapshotError(f"the snapshot is damaged: {type(error).__name__} {error}"[:200]) from None
    if not isinstance(plain, dict):
        raise SnapshotError(f"the snapshot is damaged: it should be a map, got {type(plain).__name__}")
    last, pending, counters = plain.get("last"), plain.get("pending"), plain.get("counters")
    _check(all(isinstance(plain.get(name), str) for name in ("model", "engine")), "model and engine")
    _check(last is None or _are_counts(last, 2), "last frame")
    _check(_is_count(plain.get("since_reset")), "frames since the reset")
    if not isinstance(pending, list) or not isinstance(counters, dict):
        raise SnapshotError("the snapshot is damaged: it has no frames or no counters")
    # Flags beyond 16 bits would be cut when an answer is packed, and then say something else.
    _check(all(_are_counts(p, 3) and p[2] <= _MAX_FLAGS for p in pending), "frames")
    # Fewer counters are allowed: a recording may be older than one of them.
    names = {field.name for field in fields(Counters)}
    _check(names.issuperset(counters) and all(map(_is_count, counters.values())), "counters")
    session = SessionSnapshot(
        model=plain["model"],
        engine=plain["engine"],
        last=None if last is None else (last[0], last[1]),
        since_reset=plain["since_reset"],
        pending=[(seq, t_source_ns, flags) for seq, t_source_ns, flags in pending],
        counters=Counters(**counters),
        resampler=plain.get("resampler"),
    )
    return session, plain


def model_of(data: bytes) -> str:
    """The hash of the model whose state it is. Raises SnapshotError."""
    return unpack_snapshot(data)[0].model


def is_same_state(recorded: bytes, here: bytes) -> bool:
    """Whether two snapshots are the same bit for bit, but for what an older rtseg did not record yet."""
    if recorded == here:
        return True
    before, now = msgpack.unpackb(recorded, strict_map_key=True), msgpack.unpackb(here, strict_map_key=True)
    before["counters"] = now["counters"] | before["counters"]
    return bool(now | before == now)


def _check(valid: bool, what: str) -> None:
    if not valid:
        raise SnapshotError(f"the snapshot is damaged: its {what} cannot be")


def _is_count(value: object) -> bool:
    # Not isinstance: True is an int.
    return type(value) is int and 0 <= value <= MAX_SEQ


def _are_counts(value: object, n: int) -> bool:
    return isinstance(value, list) and len(value) == n and all(map(_is_count, value))
