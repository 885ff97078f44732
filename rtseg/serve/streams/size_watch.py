"""Which streams show animals that are larger or smaller than training's: told once, not with every frame.

The flag of every frame is set where features are computed; here it becomes an event that says what is wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from rtseg.features.body_size import describe_size
from rtseg.serve.streams.stream import Stream


def size_events(streams: Iterable[Stream]) -> Iterator[tuple[Stream, dict[str, Any]]]:
    """The streams whose animals have left training's sizes since the last look, or come back to them, and the event.

    reason: what is wrong and what to do; None for a stream that is back.
    """
    for stream in streams:
        # Nearly all streams, at the price of a comparison: no frame of theirs was out of range since the last look.
        out_of_range = stream.session.counters.out_of_range
        if out_of_range == stream.size.out_of_range and not stream.size.is_out:
            continue
        stream.size.out_of_range = out_of_range
        found = stream.session.size()
        reason = describe_size(found)
        if bool(reason) != stream.size.is_out:
            stream.size.is_out = bool(reason)
            about = {key: found.get(key) for key in ("ratio", "low", "high")}
            yield stream, {"type": "scale", "seq": stream.queued.newest_seq, **about, "reason": reason or None}
