"""How much one key, and one stream of it, may ask of the daemon. Reads no clock: times come with the messages."""

from __future__ import annotations

from rtseg.config import ServeSettings
from rtseg.errors import ServeError

BURST_S = 1.0
"""A stream may send this much of its rate at once: frames that the network delayed come together."""
HELLOS_PER_S = 10.0
"""Of one key, and openings of one name; each opening writes a line to the log and some kilobytes to a recording."""
HELLO_BURST = 100.0
OPENINGS_PER_S = 50.0
OPENING_BURST = 1000.0
"""Of all streams together; all places may be taken, given up and taken again some times at once."""
MAX_BUCKETS = 4096


class LimitError(ServeError):
    """More than a key or a stream may have."""


Bucket = tuple[float, int]
"""Frames that are left in it, and when that was (ns)."""


class Buckets:
    """Token buckets, one for each name. rate: how many a second. full: how many at once."""

    def __init__(self, rate: float, full: float) -> None:
        self._rate, self._full = rate, full
        self._buckets: dict[str | bytes, Bucket] = {}

    def take_one(self, name: str | bytes, now_ns: int, amount: float = 1.0) -> bool:
        """Take one, or another amount, out of a bucket; False where there is not so much in it."""
        if len(self._buckets) >= MAX_BUCKETS and name not in self._buckets:
            # One that is full again is as good as none. Where none is, the oldest go.
            full = [each for each, bucket in self._buckets.items() if self._level(bucket, now_ns) >= self._full]
            for each in full or list(self._buckets)[: MAX_BUCKETS // 2]:
                del self._buckets[each]
        left = self._level(self._buckets.get(name, (self._full, now_ns)), now_ns)
        is_enough = left >= amount
        self._buckets[name] = left - amount if is_enough else left, now_ns
        return is_enough

    def has_one(self, name: str | bytes, now_ns: int) -> bool:
        """Whether there is one to take."""
        return self._level(self._buckets.get(name, (self._full, now_ns)), now_ns) >= 1.0

    def _level(self, bucket: Bucket, now_ns: int) -> float:
        return min(self._full, bucket[0] + max(0, now_ns - bucket[1]) * 1e-9 * self._rate)


class OpeningLimits:
    """How often streams are opened, whoever asks. capacity: how many may be open at once."""

    def __init__(self, capacity: int) -> None:
        self._of_name = Buckets(HELLOS_PER_S, HELLO_BURST)
        self._of_all = Buckets(OPENINGS_PER_S, max(8.0 * capacity, OPENING_BURST))

    def count_opening(self, stream: str, now_ns: int) -> None:
        """A stream was opened."""
        self._of_name.take_one(stream, now_ns)
        self._of_all.take_one("", now_ns)

    def check_opening(self, stream: str, now_ns: int) -> None:
        """Raises LimitError where a stream of this name, or any, has been opened too often of late."""
        if not self._of_name.has_one(stream, now_ns):
            raise LimitError(f"stream {stream!r} was opened more than {HELLOS_PER_S:g} times a second: wait a moment")
        if not self._of_all.has_one("", now_ns):
            raise LimitError(f"more than {OPENINGS_PER_S:g} streams a second were opened: wait a moment")


class RateLimits:
    """Streams per key, and frames per second and stream.

    A stream's bucket outlives it: neither a hello nor another name gives a key more frames. A key has as many buckets
    as it may have streams; once it has them all, a new stream gets that of the stream which ended longest ago.
    """

    def __init__(self, settings: ServeSettings) -> None:
        self._max_streams, self._rate = settings.max_streams_per_key, settings.max_frames_per_s
        self._streams: dict[str, set[str]] = {}  # key -> its open streams
        self._buckets: dict[str, Bucket] = {}  # open stream -> its bucket
        self._hellos = Buckets(HELLOS_PER_S, max(HELLO_BURST, 2.0 * settings.max_streams_per_key))
        self._left_buckets: dict[
            str, dict[str, Bucket]
        ] = {}  # key -> ended stream -> its bucket, in order of their ends

    def check_new_stream(self, key: str, stream: str) -> None:
        """Raises LimitError where `key` has as many streams as it may have."""
        has = self._streams.get(key, set())
        if stream not in has and len(has) >= self._max_streams:
            raise LimitError(
                f"stream {stream!r}: this key has {len(has)} open streams, the most that a key may have "
                "(max_streams_per_key): close one first"
            )

    def count_hello(self, key: str, now_ns: int) -> None:
        """Raises LimitError for a hello beyond the rate."""
        if not self._hellos.take_one(key, now_ns):
            raise LimitError(f"more than {HELLOS_PER_S:g} hellos a second from one key: wait a moment")

    def stream_opened(self, key: str, stream: str) -> None:
        """Count a stream of `key`. One that is open already keeps its bucket."""
        streams, left = self._streams.setdefault(key, set()), self._left_buckets.get(key, {})
        if stream in streams:
            return
        streams.add(stream)
        stream_before = stream
        if stream not in left and len(streams) + len(left) > self._max_streams:
            stream_before = next(iter(left), stream)
        if stream_before in left:
            self._buckets[stream] = left.pop(stream_before)

    def stream_closed(self, key: str, stream: str) -> None:
        """Count it no more."""
        self._streams.get(key, set()).discard(stream)
        bucket = self._buckets.pop(stream, None)
        if bucket is not None:
            self._left_buckets.setdefault(key, {})[stream] = bucket

    def count_frame(self, stream: str, now_ns: int) -> None:
        """Raises LimitError for a frame beyond the rate (a token bucket of BURST_S, full at first)."""
        rate = self._rate
        if not rate:
            return
        full = max(1.0, rate * BURST_S)
        left, then_ns = self._buckets.get(stream, (full, now_ns))
        left = min(full, left + (now_ns - then_ns) * 1e-9 * rate)
        if left < 1.0:
            self._buckets[stream] = left, now_ns
            raise LimitError(f"stream {stream!r}: more than {rate:g} frames per second (max_frames_per_s): send fewer")
        self._buckets[stream] = left - 1.0, now_ns
