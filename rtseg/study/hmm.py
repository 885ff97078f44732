"""An online hidden Markov model over a network's probabilities: the alternative to hysteresis that the study weighs.

The states are a head's classes; how they follow one another is counted in training labels; what is seen of a frame is
its probabilities over the classes' shares. Only the forward filter: the answer at t knows frames up to t. Plain numpy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rtseg.recordings.recording import IGNORE

F64 = NDArray[np.float64]
FLOOR = 1e-6
"""No probability counts for less: one frame must never forbid a class for ever."""


@dataclass(frozen=True, eq=False)
class Markov:
    """transition: (n, n), row = from. prior: (n,), the classes' shares of the labelled frames."""

    transition: F64
    prior: F64


def counted(labels: Sequence[NDArray[np.int16]], n_classes: int) -> Markov:
    """How the classes follow one another in label tracks (T,); every transition counts once more than it was seen.

    Frames labelled IGNORE break a track in two.
    """
    follows = np.ones((n_classes, n_classes))
    frames = np.ones(n_classes)
    for track in labels:
        known = track != IGNORE
        both = known[1:] & known[:-1]
        np.add.at(follows, (track[:-1][both], track[1:][both]), 1.0)
        frames += np.bincount(track[known], minlength=n_classes)
    return Markov(follows / follows.sum(axis=1, keepdims=True), frames / frames.sum())


def filtered(probs: Sequence[NDArray[np.float32]], model: Markov, weight: float, prior_power: float) -> list[F64]:
    """State probabilities (T, n) of every video, from its probabilities (T, n).

    A frame's evidence is (p / prior ** prior_power) ** weight: neighbouring frames say nearly the same thing, so that
    each counts for less than one.
    """
    longest = max((len(p) for p in probs), default=0)
    evidence = np.ones((longest, len(probs), len(model.prior)))
    for v, p in enumerate(probs):
        evidence[: len(p), v] = (np.maximum(p, FLOOR) / model.prior**prior_power) ** weight
    belief = np.tile(model.prior, (len(probs), 1))  # (V, n)
    states = np.empty_like(evidence)
    for t in range(longest):
        belief = (belief @ model.transition if t else belief) * evidence[t]
        belief /= belief.sum(axis=1, keepdims=True)
        states[t] = belief
    return [states[: len(p), v] for v, p in enumerate(probs)]
