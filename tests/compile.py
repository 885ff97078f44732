"""Compiles the kernels that nearly every test needs: `python -m tests.compile engine|features|simulate`.

On a fresh clone that takes minutes, one function after the other; `scripts/test` lets the parts do it side by side, and
numba keeps what they made. Once it is kept, this takes a moment. A part compiles files that no other part compiles.
"""

from __future__ import annotations

import sys

import numpy as np

from tests.conftest import REPO


def engine() -> None:
    """The network's step, for matrices in float32 and in float16."""
    from rtseg.engine.cpu.numba_engine import NumbaEngine
    from tests.engine.networks import SPECS, bundle_of, features_of

    spec = SPECS["small"]
    whole = bundle_of(spec).weights
    for weights in (whole, {name: w.astype(np.float16).astype(np.float32) for name, w in whole.items()}):
        NumbaEngine(spec, weights, 1).run(features_of(spec, 2))


def features() -> None:
    """Everything else on a frame's way: checks, identities, features, decoding."""
    import rtseg
    from tests.live import random_walk

    classifier = rtseg.load(REPO / "engines" / "rats58", engine="torch")
    classifier.run(random_walk(2, 1, classifier.bundle.skeleton))


def simulate() -> None:
    """The simulated mice."""
    from rtseg.simulate.tasks import simulate_sequence

    simulate_sequence(1, 40)


if __name__ == "__main__":
    {"engine": engine, "features": features, "simulate": simulate}[sys.argv[1]]()
