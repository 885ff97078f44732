"""An engine held against the CPU engine before it serves its first frame: same frames, same resets, close answers.

Drivers, compilers and plans differ from machine to machine; a wrong answer must not be the first thing that shows it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rtseg.bundle.bundle import Bundle
from rtseg.engine.base import Engine
from rtseg.errors import EngineError

F32 = NDArray[np.float32]

STREAMS = 5
"""Slots that are tried, as far as the engine has so many."""
PAST_RINGS = 24
"""Frames beyond the deepest ring, so that every ring wraps around."""
STAGGER = 7
"""Stream s begins so many batches after stream s - 1: all are at phases of their own."""
UNKNOWN = 0.1
"""Share of the features that are NaN."""
MARGIN = 2.0
"""Both engines may be a tolerance away from the reference, in different directions."""


def require(engine: Engine, bundle: Bundle, tolerance: float | None = None, n_batches: int | None = None) -> float:
    """The largest difference of any probability from the numba engine's, if it is small enough.

    tolerance: of one engine to the truth; None = the bundle's. n_batches: None = until every ring has wrapped around.
    The engine's first slots are reset before and after. Raises EngineError where the difference is more than two
    tolerances, or an answer is no number.
    """
    allowed = MARGIN * (bundle.tolerance if tolerance is None else tolerance)
    worst = largest_difference(engine, bundle, n_batches)
    if not worst <= allowed:  # also where it is NaN
        raise EngineError(
            f"the {engine.name} engine's answers differ from the CPU engine's by {worst:.2g}, allowed are {allowed:.2g}"
        )
    return worst


def largest_difference(engine: Engine, bundle: Bundle, n_batches: int | None = None, seed: int = 0) -> float:
    """What `require` compares: random frames of several streams, begun one after the other, one reset on the way."""
    from rtseg.engine.cpu.numba_engine import NumbaEngine

    n_streams = min(STREAMS, engine.capacity)
    n_batches = _enough(bundle) if n_batches is None else n_batches
    reference = NumbaEngine(bundle.network, bundle.weights, n_streams)
    rng = np.random.default_rng(seed)
    everyone = np.arange(n_streams, dtype=np.int32)
    engine.reset(everyone)
    worst = 0.0
    for batch in range(n_batches):
        begun = everyone[everyone * STAGGER <= batch]
        if batch == n_batches // 2:
            for each in (engine, reference):
                each.reset(begun[-1:])
        slots = rng.permutation(begun).astype(np.int32)
        features = _features(bundle, len(slots), rng)
        answers = np.full((2, len(slots), bundle.network.n_outputs), np.nan, np.float32)
        engine.step(features, slots, answers[0])
        reference.step(features, slots, answers[1])
        difference = float(np.abs(answers[0] - answers[1]).max())
        worst = difference if not difference <= worst else worst
        if np.isnan(worst):
            break
    engine.reset(everyone)
    return worst


def _enough(bundle: Bundle) -> int:
    spec = bundle.network
    depths = [(spec.kernel - 1) * d + 1 for d in (*spec.dilations, *spec.head_dilations)]
    return max([*depths, *(cell.period for cell in spec.cells), 1]) + STREAMS * STAGGER + PAST_RINGS


def _features(bundle: Bundle, n_rows: int, rng: np.random.Generator) -> F32:
    """Raw features (N, F) as far from the training mean as real ones are; the scaler's own numbers say how far."""
    scale = bundle.weights["scaler.scale"].astype(np.float64)
    spread = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale != 0)
    features = bundle.weights["scaler.shift"] + rng.normal(size=(n_rows, len(scale))) * spread
    features[rng.random(features.shape) < UNKNOWN] = np.nan
    return features.astype(np.float32)
