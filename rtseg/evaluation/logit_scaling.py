"""Scaling of a head's logits that makes its probabilities calibrated: p = softmax(z * scale + shift).

`temperature`: one scale, no shift (Guo et al. 2017), so that the order of a frame's classes stays as it is. `vector`: a
scale and a shift per class (ibid.). Both minimise the log loss of labelled frames.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rtseg.errors import needs_extra

F64 = NDArray[np.float64]
METHODS = ("temperature", "vector")
LARGEST = 20.0
"""Largest scale; one over this is the smallest."""
PENALTY = 1e-3
"""Weight of a vector scaling's squared distance from the temperature's: matters only for classes with few frames."""


class Scaling(NamedTuple):
    """scale and shift, (n classes,) each."""

    scale: F64
    shift: F64

    def probabilities(self, logits: F64) -> NDArray[np.float32]:
        """softmax(logits (N, n) * scale + shift) as float32."""
        return np.exp(_log_softmax(logits * self.scale + self.shift)).astype(np.float32)


def log_probabilities(probs: NDArray[np.floating[Any]]) -> F64:
    """Logits (..., n) up to a constant that the classes of a row share; NaN stays NaN.

    A probability may have become 0 in float32, whose logarithm is infinite: it is taken for the smallest that is not.
    """
    return np.log(np.maximum(probs.astype(np.float64), np.finfo(np.float32).tiny))


def fit_scaling(logits: F64, labels: NDArray[np.int16], method: str = "temperature") -> Scaling:
    """The scaling with the least log loss on logits (N, n) and labels (N,). Deterministic.

    Classes without a frame among the labels keep the temperature's scale and no shift.
    """
    try:
        from scipy.optimize import minimize, minimize_scalar
    except ImportError:
        raise needs_extra("scipy", "score", "calibrating") from None
    n, rows, edge = logits.shape[1], np.arange(len(labels)), np.log(LARGEST)
    one_hot = np.zeros(logits.shape)
    one_hot[rows, labels] = 1

    # In its logarithm a scale cannot become negative, and halving it is as far as doubling it.
    def loss(log_scale: float) -> float:
        return float(-_log_softmax(logits * np.exp(log_scale))[rows, labels].mean())

    temperature = float(minimize_scalar(loss, bounds=(-edge, edge), method="bounded", options={"xatol": 1e-7}).x)
    if method == "temperature":
        return Scaling(np.full(n, np.exp(temperature)), np.zeros(n))
    # Nothing but the penalty would decide about the others, and the loss would fall without end as their shift does.
    seen = np.flatnonzero(one_hot.any(0))

    def penalised(free: F64) -> tuple[float, F64]:
        """Loss and gradient. free: log scale less the temperature's, then shift, of the classes that have frames."""
        scaling = _unpacked(free, seen, temperature, n)
        log_p = _log_softmax(logits * scaling.scale + scaling.shift)
        wrong = (np.exp(log_p) - one_hot) / len(labels)
        by_scale = (wrong * logits).sum(0) * scaling.scale
        gradient = np.concatenate([by_scale[seen], wrong.sum(0)[seen]]) + 2 * PENALTY * free
        return float(-log_p[rows, labels].mean() + PENALTY * (free**2).sum()), gradient

    # Around the temperature: the scale itself, not the difference, stays within 1 / LARGEST and LARGEST.
    bounds = [(-edge - temperature, edge - temperature)] * len(seen) + [(None, None)] * len(seen)
    found = minimize(penalised, np.zeros(2 * len(seen)), jac=True, method="L-BFGS-B", bounds=bounds)
    return _unpacked(found.x, seen, temperature, n)


def _unpacked(free: F64, seen: NDArray[np.intp], temperature: float, n: int) -> Scaling:
    log_scale, shift = np.full(n, temperature), np.zeros(n)
    log_scale[seen] += free[: len(seen)]
    shift[seen] = free[len(seen) :]
    return Scaling(np.exp(log_scale), shift)


def _log_softmax(z: F64) -> F64:
    # The same result; without it exp() would overflow.
    z = z - z.max(-1, keepdims=True)
    result: F64 = z - np.log(np.exp(z).sum(-1, keepdims=True))
    return result
