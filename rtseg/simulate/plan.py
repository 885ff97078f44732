"""The action of each animal in each frame: the bouts of `behaviour` filled with actions.

An action is a goal for a body (`body` pursues it) and the ground truth that annotators see. Task 3's behaviours are
actions here, so that they occur in every sequence. Some actions look alike on purpose: a PASS looks like a short sniff.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from rtseg.recordings.bouts import Bout, bouts_of
from rtseg.simulate.behaviour import ATTACK, INVESTIGATION, MOUNT, OTHER, Temperament, draw_labels

RESIDENT, INTRUDER = 0, 1


class Action(IntEnum):
    """A goal of a body; the value is its row in `body.ACTION_LIMITS`."""

    WANDER = 0
    REST = 1
    GROOM = 2
    WALL = 3
    PASS = 4
    APPROACH = 5
    DISENGAGE = 6
    SNIFF_FACE = 7
    SNIFF_BODY = 8
    SNIFF_REAR = 9
    FOLLOW = 10
    MOUNT_ATTEMPT = 11
    MOUNT = 12
    INTROMISSION = 13
    ATTACK = 14
    REAR = 15
    FLEE = 16
    STILL = 17
    STRUGGLE = 18


@dataclass(frozen=True, eq=False)
class Plan:
    """behaviour: (T,) int8 Task 1 class. action: (T, 2) int8. style: (T, 2, 3) float64: vigour (scales speed),
    standoff (px that a nose stays short of its goal), frames left until the action ends.
    """

    behaviour: NDArray[np.int8]
    action: NDArray[np.int8]
    style: NDArray[np.float64]


Mix = tuple[tuple[Action, float, float], ...]
"""(action, weight, median length in frames); a length's logarithm deviates by 0.5."""

ALONE: Mix = (
    (Action.WANDER, 0.36, 70),
    (Action.REST, 0.20, 60),
    (Action.GROOM, 0.09, 55),
    (Action.WALL, 0.18, 70),
    (Action.PASS, 0.13, 22),
    (Action.FOLLOW, 0.05, 25),
    (Action.REAR, 0.09, 28),
)
INTRUDER_ALONE: Mix = (
    (Action.WANDER, 0.32, 60),
    (Action.REST, 0.28, 80),
    (Action.GROOM, 0.08, 60),
    (Action.WALL, 0.14, 70),
    (Action.PASS, 0.08, 30),
    (Action.REAR, 0.12, 30),
)
INVESTIGATING: Mix = (
    (Action.SNIFF_FACE, 0.32, 36),
    (Action.SNIFF_BODY, 0.24, 32),
    (Action.SNIFF_REAR, 0.32, 48),
    (Action.FOLLOW, 0.12, 25),
)


def draw_plan(rng: np.random.Generator, n_frames: int, *temperaments: Temperament) -> Plan:
    """A plan for T frames of both animals; several temperaments share the frames equally, one after the other."""
    edges = np.linspace(0, n_frames, len(temperaments) + 1).astype(int)
    stretches = zip(np.diff(edges), temperaments, strict=True)
    behaviour = np.concatenate([draw_labels(rng, int(n), temper) for n, temper in stretches])
    action = np.empty((n_frames, 2), np.int8)
    style = np.empty((n_frames, 2, 3))
    bouts = bouts_of(behaviour)
    _fill_with_actions(rng, action[:, INTRUDER], Bout(0, n_frames, 0), INTRUDER_ALONE)
    # The intruder acts on its own first; a social bout then overwrites what it does there.
    for i, bout in enumerate(bouts):
        before = bouts[i - 1].label if i else OTHER
        after = bouts[i + 1].label if i + 1 < len(bouts) else OTHER
        _FILL_BY_BEHAVIOUR[bout.label](rng, action, bout, before, after)
    for animal in (RESIDENT, INTRUDER):
        for start, stop, code in bouts_of(action[:, animal]):
            style[start:stop, animal, 0] = np.clip(rng.lognormal(0.0, 0.3), 0.4, 1.8)
            style[start:stop, animal, 1] = _standoff_px(rng, Action(code))
            style[start:stop, animal, 2] = np.arange(stop - start, 0, -1)
    return Plan(behaviour, action, style)


def _standoff_px(rng: np.random.Generator, action: Action) -> float:
    if action == Action.APPROACH:
        return float(rng.uniform(30, 80))
    if action == Action.PASS:
        return float(rng.uniform(0, 60))
    return float(rng.gamma(1.2, 9.0))  # most sniffs touch, a few stay an ear's length off


def _fill_with_actions(rng: np.random.Generator, track: NDArray[np.int8], span: Bout, mix: Mix) -> None:
    """Fill track[start:stop] with actions drawn from a mix."""
    weights = np.array([weight for _, weight, _ in mix])
    weights /= weights.sum()
    start = span.start
    while start < span.stop:
        action, _, median = mix[int(rng.choice(len(mix), p=weights))]
        stop = min(span.stop, start + max(4, round(median * rng.lognormal(0.0, 0.5))))
        track[start:stop] = action
        start = stop


def _fill_other(rng: np.random.Generator, action: NDArray[np.int8], bout: Bout, before: int, after: int) -> None:
    start, stop, _ = bout
    _fill_with_actions(rng, action[:, RESIDENT], bout, ALONE)
    # A social bout rarely starts or ends at a distance: the resident comes closer before it and leaves after it.
    if before != OTHER and rng.random() < 0.6:
        action[start : min(stop, start + int(rng.integers(10, 40))), RESIDENT] = Action.DISENGAGE
    if after != OTHER and rng.random() < 0.9:
        lead = min((stop - start + 1) // 2, int(rng.integers(12, 45)))
        action[stop - lead : stop, RESIDENT] = Action.APPROACH


def _fill_investigation(
    rng: np.random.Generator, action: NDArray[np.int8], bout: Bout, before: int, after: int
) -> None:
    start, stop, _ = bout
    _fill_with_actions(rng, action[:, RESIDENT], bout, INVESTIGATING)
    reaction = rng.random()
    if reaction < 0.45:
        action[start : min(stop, start + int(rng.integers(10, 90))), INTRUDER] = Action.STILL
    elif reaction < 0.62:
        action[start : min(stop, start + int(rng.integers(8, 40))), INTRUDER] = Action.FLEE


def _fill_mount(rng: np.random.Generator, action: NDArray[np.int8], bout: Bout, before: int, after: int) -> None:
    start, stop, _ = bout
    length = stop - start
    action[start:stop, RESIDENT] = Action.MOUNT
    attempt = length if length < 45 and rng.random() < 0.6 else min(length, int(rng.integers(12, 50)))
    action[start : start + attempt, RESIDENT] = Action.MOUNT_ATTEMPT
    settled = start + attempt + int(rng.integers(20, 60))
    while settled < stop:
        close = min(stop, settled + int(30 * rng.lognormal(0.4, 0.5)))
        action[settled:close, RESIDENT] = Action.INTROMISSION
        settled = close + int(rng.integers(20, 90))
    action[start:stop, INTRUDER] = Action.STILL
    if rng.random() < 0.35:  # it crawls out from under
        action[start + length // 2 : stop, INTRUDER] = Action.WANDER


def _fill_attack(rng: np.random.Generator, action: NDArray[np.int8], bout: Bout, before: int, after: int) -> None:
    start, stop, _ = bout
    action[start:stop, RESIDENT] = Action.ATTACK
    where = start
    while where < stop:
        until = min(stop, where + int(rng.integers(8, 30)))
        action[where:until, INTRUDER] = Action.FLEE if rng.random() < 0.4 else Action.STRUGGLE
        where = until
    # It flees beyond the bout's end; the bouts that follow are filled later and may overwrite this.
    if stop < len(action):
        action[stop : stop + int(rng.integers(5, 30)), INTRUDER] = Action.FLEE


_FILL_BY_BEHAVIOUR = {ATTACK: _fill_attack, INVESTIGATION: _fill_investigation, MOUNT: _fill_mount, OTHER: _fill_other}
