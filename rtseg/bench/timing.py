"""The pieces of a benchmark: rows of percentiles, ratios with their aims, and cases that are timed in turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

ROUNDS = 20
"""How often the cases of a part take turns, so that other load on the machine slows all of them alike."""
SETTLE_CALLS = 10
"""Calls at the beginning of a turn that are not counted: the caches still hold the case before."""
WARM_UP_CALLS = 200
WARM_UP_S = 0.3

Role = Literal["measured", "floor", "comparison", "share"]
"""floor: the least that it could be; comparison: another way of doing it; share: part of what was measured."""


@dataclass(frozen=True)
class TimingRow:
    """Percentiles of one case, in microseconds."""

    name: str
    role: Role
    count: int
    p50_us: float
    p99_us: float
    p999_us: float
    max_us: float

    @classmethod
    def of(cls, name: str, role: Role, values_ns: NDArray[np.int64]) -> TimingRow:
        """From single durations."""
        assert len(values_ns), f"{name}: nothing was timed"
        p50, p99, p999 = np.percentile(values_ns, (50, 99, 99.9)) / 1e3
        return cls(name, role, len(values_ns), float(p50), float(p99), float(p999), float(values_ns.max()) / 1e3)


@dataclass(frozen=True)
class Ratio:
    """A number that an aim is set for: met where value <= at_most."""

    name: str
    value: float
    at_most: float
    unit: str = ""

    @property
    def met(self) -> bool:
        """Whether the aim is reached; a NaN reaches none."""
        return self.value <= self.at_most


@dataclass
class BenchPart:
    """One part of the benchmark. notes: what was left out, and why. counts: frames sent, answered and lost, by row."""

    title: str
    rows: list[TimingRow] = field(default_factory=list)
    ratios: list[Ratio] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)

    def p50(self, name: str) -> float:
        """The median of the row of that name."""
        return next(row.p50_us for row in self.rows if row.name == name)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "ratios": [{**asdict(ratio), "met": ratio.met} for ratio in self.ratios]}


def interleaved(cases: Mapping[str, Callable[[], object]], seconds: float) -> dict[str, NDArray[np.int64]]:
    """Durations in ns of single calls of every case: A B A B ..., for about `seconds` in all, warm-up apart.

    A turn lasts the same time for each case, so that fast ones are called more often.
    """
    clock = time.perf_counter_ns
    for case in cases.values():
        end = clock() + int(WARM_UP_S * 1e9)
        for _ in range(WARM_UP_CALLS):
            case()
            if clock() > end:
                break
    times_ns: dict[str, list[int]] = {name: [] for name in cases}
    turn_ns = int(seconds / (ROUNDS * len(cases)) * 1e9)
    for _ in range(ROUNDS):
        for name, case in cases.items():
            for _ in range(SETTLE_CALLS):
                case()
            # Looked up here, so that the timed loop does little beside the case.
            append = times_ns[name].append
            end = clock() + turn_ns
            started = 0
            while started < end:
                started = clock()
                case()
                append(clock() - started)
    return {name: np.array(values, np.int64) for name, values in times_ns.items()}
