"""Latency histograms of fixed size: counting one value costs a few integer operations and no memory.

Buckets are logarithmic with 32 steps per octave (error below 3.2 %; the layout of HdrHistogram). The daemon keeps one
for each stage of a frame's way. Reads no clock: values come as nanoseconds.
"""

from __future__ import annotations

import numpy as np

_STEPS = 5
"""Binary digits kept of a value."""
_OCTAVES = 35
"""Values from 2^40 ns (18 minutes) on share the last bucket."""
_LAST = (_OCTAVES << _STEPS) + (2 << _STEPS) - 1
_POWERS = range(10, 34)
MANY = 12
"""From this many values on numpy counts them quicker than a loop."""
BOUNDS_NS = tuple((1 << power) - 1 for power in _POWERS)
"""Edges of `cumulative`: 1 us to 8.6 s, doubling."""


class Histogram:
    """How often which latency was seen."""

    __slots__ = ("_counts", "count", "max_ns")

    def __init__(self) -> None:
        self._counts = [0] * (_LAST + 1)
        self.count = 0
        self.max_ns = 0

    def count_latency(self, value_ns: int) -> None:
        """Count one value; one below 0 counts as 0."""
        shift = value_ns.bit_length() - _STEPS - 1
        if value_ns <= 0:
            bucket = 0
        elif shift <= 0:
            bucket = value_ns
        else:
            bucket = min((shift << _STEPS) + (value_ns >> shift), _LAST)
        self._counts[bucket] += 1
        self.count += 1
        if value_ns > self.max_ns:
            self.max_ns = value_ns

    def count_latencies(self, values_ns: list[int]) -> None:
        """Count several values."""
        if len(values_ns) < MANY:
            for value_ns in values_ns:
                self.count_latency(value_ns)
            return
        values = np.maximum(np.array(values_ns, np.int64), 0)
        shifts = np.maximum(np.frexp(values.astype(np.float64))[1] - _STEPS - 1, 0)  # bits, for values below 2^53
        counts = self._counts
        for bucket in np.minimum((shifts << _STEPS) + (values >> shifts), _LAST).tolist():
            counts[bucket] += 1
        self.count += len(values_ns)
        self.max_ns = max(self.max_ns, *values_ns)

    def percentile_ns(self, percent: float) -> int:
        """The upper edge of the bucket in which this share of the values is reached; 0 for no values."""
        wanted = max(1.0, self.count * percent / 100)
        seen = 0
        for bucket, count in enumerate(self._counts):
            seen += count
            if count and seen >= wanted:
                return min(_upper_edge(bucket), self.max_ns)
        return self.max_ns

    def cumulative(self) -> list[int]:
        """How many values lie at or below each of BOUNDS_NS, and how many there are: Prometheus's form."""
        counts, edge, seen, below = self._counts, 0, 0, []
        for power in _POWERS:
            last, edge = edge, (power - _STEPS + 1) << _STEPS
            seen += sum(counts[last:edge])
            below.append(seen)
        return [*below, self.count]

    def summary(self) -> dict[str, float]:
        """count, and p50, p99, p99.9 and max in microseconds."""
        return {
            "count": self.count,
            "p50_us": self.percentile_ns(50) / 1e3,
            "p99_us": self.percentile_ns(99) / 1e3,
            "p99.9_us": self.percentile_ns(99.9) / 1e3,
            "max_us": self.max_ns / 1e3,
        }


def _upper_edge(bucket: int) -> int:
    shift = max((bucket >> _STEPS) - 1, 0)
    return ((bucket - (shift << _STEPS) + 1) << shift) - 1
