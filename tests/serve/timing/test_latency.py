"""Histograms: right to 3.2 %, of fixed size, whatever is counted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtseg.serve.timing.latency import Histogram


@given(st.lists(st.integers(0, 2**39), min_size=1), st.sampled_from([0.0, 1.0, 50.0, 90.0, 99.0, 100.0]))
def test_percentiles_are_those_of_the_values_within_a_bucket(values: list[int], percent: float) -> None:
    histogram = Histogram()
    for value in values:
        histogram.count_latency(value)
    exact = int(np.percentile(values, percent, method="inverted_cdf"))
    assert exact <= histogram.percentile_ns(percent) <= exact * (1 + 1 / 32)
    assert (histogram.count, histogram.max_ns) == (len(values), max(values))


def test_no_values_give_zeros() -> None:
    assert Histogram().summary() == {"count": 0, "p50_us": 0.0, "p99_us": 0.0, "p99.9_us": 0.0, "max_us": 0.0}


@pytest.mark.parametrize("value", [-5, 0, 2**40, 2**62])
def test_values_beyond_the_edges_are_counted(value: int) -> None:
    histogram = Histogram()
    histogram.count_latency(value)
    assert histogram.count == 1
    assert histogram.summary()["max_us"] == max(value, 0) / 1e3
