"""Compiles the kernels that nearly every test needs: `python -m tests.compile`.

On a fresh clone that takes a minute on all cores (`rtseg.compiled.ahead`), and numba keeps what it made. Once it is
kept, this takes a moment.
"""

from __future__ import annotations

import rtseg
from rtseg.compiled.ahead import Kernel, compile_missing
from rtseg.config import ServeSettings
from rtseg.engine.cpu.numba_engine import advance_for
from rtseg.serve.kernels import kernels_of
from tests.conftest import REPO

SIMULATED = (
    Kernel(
        "rtseg.simulate.body",
        "integrate_motion",
        "int8[:,::1], float64[:,:,::1], float64[:,:,::1], float64[:,:,::1], float64[:,::1], float64[:,:,:,::1], "
        "float64[:,:,::1]",
    ),
)

if __name__ == "__main__":
    engine = rtseg.load(REPO / "engines" / "rats58", "numba", 1).pool.engine
    kernels = kernels_of(engine, ServeSettings(triggers="any"))
    # The tests' own networks have float32 weights.
    compile_missing([*kernels[:2], advance_for("float32"), *kernels[2:], *SIMULATED])
