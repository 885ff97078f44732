"""Scales of int8 from recordings: how large the input of each product of a step gets, and where to clip it.

Post-training calibration. Several recordings are stepped at once through the float32 step in ONNX Runtime, which also
outputs the input of every product; nothing is trained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.bundle.bundle import Bundle
from rtseg.engine.onnx import onnx_graph, step_interface
from rtseg.engine.onnx.onnx_nodes import INT8_MAX
from rtseg.errors import needs_extra

F32 = NDArray[np.float32]
BINS = 2048
CANDIDATES = 128
"""Clipping values that are compared, evenly spaced up to the largest value seen."""
CHUNK_FRAMES = 64
"""Frames of which all inputs are held before they are counted."""


class Histogram:
    """Counts of absolute values in BINS bins from 0 to `largest`, which doubles whenever a value lies beyond."""

    def __init__(self) -> None:
        self.counts, self.largest, self.zeros = np.zeros(BINS, np.int64), 0.0, 0
        self._reach = 0.0

    def count_values(self, values: F32) -> None:
        """Count values of any shape; zeros apart, since every scale gives them exactly."""
        # float64: float32 has not numbers enough for the bins where values are as small as 1e-42.
        sizes = np.abs(values[values != 0]).astype(np.float64)
        self.zeros += values.size - sizes.size
        if not sizes.size:
            return
        self.largest = max(self.largest, float(sizes.max()))
        # The first values set the width of the bins.
        self._reach = self._reach or self.largest
        # Bins are merged in pairs: what was counted stays right, and no value has to be seen again.
        while self.largest > self._reach:
            self._reach *= 2
            self.counts = np.concatenate((self.counts.reshape(-1, 2).sum(1), np.zeros(BINS // 2, np.int64)))
        self.counts += np.histogram(sizes, BINS, (0.0, self._reach))[0]

    def scale(self) -> float:
        """What one int8 step is worth so that the mean squared error over all values is least; 1 where all were 0.

        Within the cut a value is off by up to half a step, beyond it by its distance from the cut.
        """
        if self.largest == 0:
            return 1.0
        # A value counts as its bin's middle, which is finer than the steps of int8 that are looked for.
        middles = (np.arange(BINS) + 0.5) * self._reach / BINS
        cuts = self.largest * np.arange(1, CANDIDATES + 1) / CANDIDATES
        beyond = np.maximum(middles - cuts[:, None], 0.0)
        within = np.where(beyond > 0, 0.0, (cuts[:, None] / INT8_MAX) ** 2 / 12)
        errors = ((beyond**2 + within) * self.counts).sum(1)
        return float(cuts[errors.argmin()]) / INT8_MAX


def int8_scales(
    bundle: Bundle, features: Sequence[F32], progress: Callable[[str], None] = lambda _: None
) -> dict[str, float]:
    """A product's name -> what one int8 step of its input is worth, from recordings' features (T, F) each.

    The recordings run together, each from a fresh state; those that are shorter begin again. Raises RtsegError for a
    missing package.
    """
    histograms: dict[str, Histogram] = {}
    for number, seen in enumerate(_product_inputs(bundle, features)):
        for name, values in seen.items():
            histograms.setdefault(name, Histogram()).count_values(values)
        progress(f"ranges: {(number + 1) * CHUNK_FRAMES} frames of {len(features)} recordings")
    return {name: histogram.scale() for name, histogram in histograms.items()}


def _product_inputs(bundle: Bundle, features: Sequence[F32]) -> Iterator[dict[str, F32]]:
    """What enters each product, by its name, for CHUNK_FRAMES frames at a time of all recordings."""
    try:
        import onnxruntime
    except ImportError:
        raise needs_extra("onnxruntime", "onnx", "finding the ranges of int8") from None
    spec, batch, n_frames = bundle.network, len(features), max(map(len, features))
    model, products = onnx_graph.instrumented_model(spec, bundle.weights, batch)
    # One thread: the sums' order, and with it the scales, then does not depend on the machine's cores.
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    tensors = sorted({tensor for some in products.values() for tensor in some})
    shapes = step_interface.cache_shapes(spec, "in_place", batch)
    caches: list[NDArray[Any]] = [
        np.zeros(shape, dtype) for shape, dtype in zip(shapes, step_interface.cache_dtypes(spec), strict=True)
    ]
    names = [*(step_interface.present_name(i) for i in range(len(caches))), *tensors]
    frame, chunk = np.zeros(batch, np.int64), list[list[F32]]()
    for t in range(n_frames):
        # A shorter recording begins again rather than end: the batch's size is part of the compiled model.
        row = np.stack([recording[t % len(recording)] for recording in features])
        feeds = {step_interface.past_name(i): cache for i, cache in enumerate(caches)}
        answers = session.run(names, {**feeds, step_interface.FEATURES: row, step_interface.FRAME: frame})
        caches = answers[: len(caches)]
        chunk.append(answers[len(caches) :])
        frame += 1
        if len(chunk) == CHUNK_FRAMES or t == n_frames - 1:
            seen = {tensor: np.stack([one[i] for one in chunk]) for i, tensor in enumerate(tensors)}
            yield {name: np.concatenate([seen[x].ravel() for x in some]) for name, some in products.items()}
            chunk = []
