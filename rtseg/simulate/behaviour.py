"""Sequences of behaviours: a semi-Markov process fitted to CalMS21's true Task 1 test labels.

It knows nothing of bodies. The constants are copied here so that nothing is read at run time; a test measures them
again on `calms21_task1_test_labels.csv` (19 sequences, 262,107 frames).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TASK1_CLASSES = ("attack", "investigation", "mount", "other")
ATTACK, INVESTIGATION, MOUNT, OTHER = range(4)

AGGRESSIVE_SHARE = 5 / 19
"""Attack occurs in 5 of the 19 sequences, and mount hardly ever in those: hence two kinds of resident."""


@dataclass(frozen=True)
class BoutLength:
    """Bout length in frames: log-normal with mean `mu` and deviation `sigma` of its logarithm, cut at `longest`."""

    mu: float
    sigma: float
    longest: int

    def draw(self, rng: np.random.Generator) -> int:
        """One length, at least one frame; lengths beyond `longest` are drawn again."""
        # Drawing again keeps the shape of the distribution; clipping would pile up bouts of the longest length.
        while True:
            length = rng.lognormal(self.mu, self.sigma)
            if length <= self.longest:
                return max(1, round(length))


@dataclass(frozen=True)
class Temperament:
    """One kind of resident: bout lengths and counted transitions from row to column, both in TASK1_CLASSES' order."""

    name: str
    lengths: tuple[BoutLength, BoutLength, BoutLength, BoutLength]
    transitions: tuple[tuple[int, int, int, int], ...]


AGGRESSIVE = Temperament(
    "aggressive",
    (
        BoutLength(3.483, 0.946, 277),
        BoutLength(2.996, 1.038, 669),
        BoutLength(3.497, 0.500, 150),  # a single mount of 33 frames was seen; its spread is a guess
        BoutLength(4.193, 1.376, 2605),
    ),
    ((0, 87, 0, 171), (240, 0, 1, 217), (1, 0, 0, 0), (17, 373, 0, 0)),
)
CALM = Temperament(
    "calm",
    (
        BoutLength(3.483, 0.946, 277),  # never entered
        BoutLength(3.588, 1.126, 1335),
        BoutLength(4.323, 1.209, 3654),
        BoutLength(4.570, 1.310, 1458),
    ),
    ((0, 0, 0, 0), (0, 0, 192, 413), (0, 107, 0, 85), (0, 501, 2, 0)),
)


def draw_labels(rng: np.random.Generator, n_frames: int, temperament: Temperament) -> NDArray[np.int8]:
    """Task 1 labels (T,) int8. As in all 19 true sequences the first bout is `other`, whole and not cut."""
    labels = np.empty(n_frames, np.int8)
    start, label = 0, OTHER
    # Semi-Markov: the length depends on the behaviour alone, the next behaviour on this one alone.
    while start < n_frames:
        stop = start + temperament.lengths[label].draw(rng)
        labels[start:stop] = label
        counts = np.asarray(temperament.transitions[label], np.float64)
        start, label = stop, int(rng.choice(4, p=counts / counts.sum()))
    return labels


def temperament_of(index: int) -> Temperament:
    """The temperament of the index-th sequence of a set: spread evenly, so that small sets hold attacks too."""
    # Rounding the running total spreads the aggressive ones evenly; chance would leave some small sets without attack.
    before, after = (np.floor(i * AGGRESSIVE_SHARE + 0.5) for i in (index, index + 1))
    return AGGRESSIVE if after > before else CALM
