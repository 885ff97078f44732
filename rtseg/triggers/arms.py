"""Which arm an event belongs to: `real`, or a control that is decided and recorded and does not reach the animal.

The arm of a stream's n-th event is a function of the seed, the stream, the trigger and n alone, so it is settled before
anybody knows when that event comes, and a replay draws the same. An event that is withheld does not use it up: blocks
stay as long as they say, and no arm is thinned out by what withholds events.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rtseg.config import ArmSettings

REAL = 0
"""The index of the arm whose events reach the animal, `real` or `yoked`; the others are controls."""
YOKED = "yoked"
REACHING = ("real", YOKED)
"""The names of the arm with that index."""
NOT_RECORDED = "not recorded"
"""Why an event of such an arm ended whose line never went on: the recording had no room for its beginning."""
RECORDS_LOST = "records lost"
"""In place of why it ended, where its end is not in the recording: nobody knows how long it was."""
_UNIT = 2.0**-53


def arm_names(settings: ArmSettings) -> tuple[str, ...]:
    """The arms by index: `real` first, whether it has a share or not, then the others as they are listed; `yoked` alone
    where a log says when events begin.
    """
    if settings.is_yoked:
        return (YOKED,)
    return ("real", *(name for name in settings.shares if name != "real"))


def arm_tables(settings: Sequence[ArmSettings]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Of R triggers with M arms at most: shares (R, M), added up, 1 from the last one on, and order (R, M), the arm at
    each place.
    """
    widest = max(len(arms.shares) for arms in settings)
    shares, order = np.ones((len(settings), widest)), np.zeros((len(settings), widest), np.int64)
    for r, arms in enumerate(settings):
        names, listed = arm_names(arms), np.array(list(arms.shares.values()))
        order[r, : len(listed)] = 0 if arms.is_yoked else [names.index(name) for name in arms.shares]
        # The last one stays exactly 1, whatever rounding makes of the sum.
        shares[r, : len(listed) - 1] = np.cumsum(listed / listed.sum())[:-1]
    return shares, order


def seed_of(seed: int, stream: str, trigger: str) -> int:
    """The seed of one stream's sequence of one trigger: 64 bits."""
    # Names apart, so that no two pairs of names share a text.
    text = f"{seed}\0{stream}\0{trigger}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little", signed=True)


@njit(cache=False)
def draw(seed: int, count: int) -> float:
    """A number in [0, 1) for the count-th event: SplitMix64 (Steele et al. 2014), reached without the ones before."""
    z = np.uint64(seed) + np.uint64(count + 1) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return float((z ^ (z >> np.uint64(31))) >> np.uint64(11)) * _UNIT


@njit(cache=False)
def arm_of(
    seed: int, count: int, shares: NDArray[np.float64], order: NDArray[np.int64], n_arms: int, block: int
) -> int:
    """The arm of a trigger's event number `count` (from 0), or of events in frame number `count` of a stream where
    blocks are stretches of time. block: events or frames of one; 0 = drawn one by one.
    """
    if block:
        return int(order[(count // block) % n_arms])
    place, number = 0, draw(seed, count)
    while number >= shares[place]:
        place += 1
    return int(order[place])
