"""The contract of every engine: B streams one step further, each with its own phase.

An engine owns the memory of its slots, because that lies where it computes; nothing else touches it. To add one:
subclass `Engine` in a file of its own, name it in `select`, and it is held to tests/engine/test_contract.py.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from rtseg.bundle.architecture import Architecture
from rtseg.compiled.ahead import Kernel


class Engine(ABC):
    """One model on one backend, for `capacity` slots.

    exact: whether a stream's outputs are bit for bit the same whatever other streams are in the batch; where not, they
    differ by rounding only, within the bundle's tolerance. kernels: what numba compiles for it (`compiled.ahead`).
    """

    name: str
    exact: bool = True
    kernels: tuple[Kernel, ...] = ()

    def __init__(self, spec: Architecture, capacity: int) -> None:
        self.spec, self.capacity = spec, capacity

    @abstractmethod
    def step(self, features: NDArray[np.float32], slots: NDArray[np.int32], out: NDArray[np.float32]) -> None:
        """One frame for each row.

        Features (B, F) raw with NaN = not known, slots (B,) -> probabilities into out (B, P).

        Rows are taken in order; a slot that comes twice is stepped twice.
        """

    @abstractmethod
    def reset(self, slots: NDArray[np.int32]) -> None:
        """Start these slots again: as if nothing had come before, which is what zero padding means offline."""

    @abstractmethod
    def snapshot(self, slot: int) -> bytes:
        """Everything that a slot remembers."""

    @abstractmethod
    def restore(self, slot: int, data: bytes) -> None:
        """Put a snapshot into a slot; the outputs that follow have the bits of an uninterrupted stream.

        Raises EngineError for a snapshot of another size, and the slot stays as it was.
        """

    def run(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probabilities (T, P) of a whole recording's features (T, F) from a fresh state, in slot 0: the same step."""
        # One call: an engine steps a slot that comes again one frame further.
        out = np.empty((len(features), self.spec.n_outputs), np.float32)
        self.reset(np.zeros(1, np.int32))
        self.step(features, np.zeros(len(features), np.int32), out)
        return out
