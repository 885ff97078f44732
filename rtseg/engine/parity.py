"""Comparing an engine with the CPU engine before it serves its first frame: same frames, same resets, close answers.

Drivers, compilers and plans differ from machine to machine, and a wrong one may raise no error. No experiment should
be the first to show it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rtseg.bundle.bundle import Bundle
from rtseg.engine.base import Engine
from rtseg.errors import EngineError

F32 = NDArray[np.float32]

STREAMS = 5
"""Slots that are compared, or the engine's capacity where that is smaller."""
FRAMES_AFTER_WRAP = 24
"""Frames beyond the deepest ring, so that every ring has wrapped around."""
STAGGER = 7
"""Stream s starts this many batches after stream s - 1, so that all streams are at different phases of their rings."""
NAN_SHARE = 0.1
"""Share of the features that are NaN."""
MARGIN = 2.0
"""Allowed difference in tolerances: both engines may be one tolerance from the reference, in opposite directions."""


def require_parity(
    engine: Engine, bundle: Bundle, tolerance: float | None = None, n_batches: int | None = None
) -> float:
    """The largest difference of any probability from the numba engine's, if it is small enough.

    tolerance: of one engine from the reference; None = the bundle's. n_batches: None = until every ring has wrapped
    around. Resets the engine's first slots before and after. Raises EngineError where the difference is more than two
    tolerances or an answer is NaN.
    """
    allowed = MARGIN * (bundle.tolerance if tolerance is None else tolerance)
    worst = largest_difference(engine, bundle, n_batches)
    if not worst <= allowed:  # also where it is NaN
        raise EngineError(
            f"the {engine.name} engine's answers differ from the CPU engine's by {worst:.2g}, allowed are {allowed:.2g}"
        )
    return worst


def largest_difference(engine: Engine, bundle: Bundle, n_batches: int | None = None, seed: int = 0) -> float:
    """The largest difference of any probability from the numba engine's; NaN if an answer is.

    Random frames of several streams that start one after the other, in shuffled order; halfway one of them is reset.
    """
    from rtseg.engine.cpu.numba_engine import NumbaEngine

    n_streams = min(STREAMS, engine.capacity)
    n_batches = _batches_until_wrapped(bundle) if n_batches is None else n_batches
    reference = NumbaEngine(bundle.network, bundle.weights, n_streams)
    rng = np.random.default_rng(seed)
    all_slots = np.arange(n_streams, dtype=np.int32)
    engine.reset(all_slots)
    worst = 0.0
    for batch in range(n_batches):
        started = all_slots[all_slots * STAGGER <= batch]
        if batch == n_batches // 2:
            # The stream that began last: the others go on, and must not be touched by its reset.
            for each in (engine, reference):
                each.reset(started[-1:])
        # Shuffled, so that an engine that takes rows for slots is found out.
        slots = rng.permutation(started).astype(np.int32)
        features = _random_features(bundle, len(slots), rng)
        # NaN beforehand: an answer that an engine does not write is then seen as a difference.
        answers = np.full((2, len(slots), bundle.network.n_outputs), np.nan, np.float32)
        engine.step(features, slots, answers[0])
        reference.step(features, slots, answers[1])
        difference = float(np.abs(answers[0] - answers[1]).max())
        worst = difference if not difference <= worst else worst  # a NaN is kept, where max() might lose it
        if np.isnan(worst):
            break
    engine.reset(all_slots)
    return worst


def _batches_until_wrapped(bundle: Bundle) -> int:
    spec = bundle.network
    depths = [(spec.kernel - 1) * d + 1 for d in (*spec.dilations, *spec.head_dilations)]
    return max([*depths, *(cell.period for cell in spec.cells), 1]) + STREAMS * STAGGER + FRAMES_AFTER_WRAP


def _random_features(bundle: Bundle, n_rows: int, rng: np.random.Generator) -> F32:
    """Raw features (N, F), normally distributed with the mean and spread that the scaler learned from training."""
    scale = bundle.weights["scaler.scale"].astype(np.float64)
    spread = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale != 0)
    features = bundle.weights["scaler.shift"] + rng.normal(size=(n_rows, len(scale))) * spread
    features[rng.random(features.shape) < NAN_SHARE] = np.nan
    return features.astype(np.float32)
