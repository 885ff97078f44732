"""Scales of int8: the cut that costs least, and what was watched is what enters the products."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rtseg.engine.cpu.numba_engine import NumbaEngine
from rtseg.engine.onnx.onnx_engine import OnnxEngine
from rtseg.engine.onnx.onnx_graph import product_names
from rtseg.engine.onnx.onnx_nodes import INT8_MAX
from rtseg.precision.ranges import BINS, Histogram, int8_scales
from tests.engine.networks import SPECS, bundle_of, features_of

pytest.importorskip("onnx", reason="onnx is not installed: pip install 'rtseg[dev]'")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'rtseg[dev]'")


def error_of(values: np.ndarray, scale: float) -> float:
    rounded = np.clip(np.rint(values / scale), -INT8_MAX, INT8_MAX) * scale
    return float(((values - rounded) ** 2).mean())


@pytest.mark.parametrize("seed", range(3))
def test_the_clipping_value_is_close_to_the_best(seed: int) -> None:
    """Long tails; a brute-force search over scales is hardly better, and cutting nothing is worse."""
    values = np.random.default_rng(seed).laplace(size=20_000).astype(np.float32)
    histogram = Histogram()
    for part in np.split(values, 20):
        histogram.count_values(part)
    scale, largest = histogram.scale(), float(np.abs(values).max())
    best = min(error_of(values, s) for s in np.linspace(largest / 2000, largest / INT8_MAX, 400))
    assert error_of(values, scale) <= 1.02 * best
    assert error_of(values, scale) < 0.96 * error_of(values, largest / INT8_MAX)


@settings(max_examples=30, deadline=None)
@example([1.9029633145531016e-42], 1)
@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=50), st.integers(1, 5))
def test_every_value_is_counted_however_the_values_are_split(values: list[float], parts: int) -> None:
    histogram = Histogram()
    for part in np.array_split(np.array(values, np.float32), parts):
        histogram.count_values(part)
    assert histogram.counts.sum() + histogram.zeros == len(values)
    assert len(histogram.counts) == BINS
    assert histogram.largest == pytest.approx(np.abs(np.float32(values)).max())
    assert histogram.scale() > 0


def test_every_product_gets_a_scale_that_keeps_the_answers() -> None:
    """Recordings of unequal length; the scales are of this network's own products, and int8 is then close."""
    spec = SPECS["cells beside convolutions"]
    bundle = bundle_of(spec)
    told: list[str] = []
    scales = int8_scales(bundle, [features_of(spec, n, seed=n) for n in (150, 90)], told.append)
    assert list(scales) == product_names(spec)
    assert told[-1].startswith("ranges: ")
    features = features_of(spec, 200, seed=7)
    plain = NumbaEngine(spec, bundle.weights, 1).run(features)
    apart = np.abs(OnnxEngine(spec, bundle.weights, 1, precision="int8", scales=scales).run(features) - plain)
    assert 1e-4 < apart.max() < 0.15
    assert apart.mean() < 0.01
    coarse = {name: 8 * scale for name, scale in scales.items()}
    worse = np.abs(OnnxEngine(spec, bundle.weights, 1, precision="int8", scales=coarse).run(features) - plain)
    assert worse.mean() > 2 * apart.mean()
