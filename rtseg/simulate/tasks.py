"""Simulated sequences with the labels of CalMS21's three tasks, in memory; `files` writes them.

Every recording says `simulated`. A sequence's random numbers depend on the seed and on its own name alone, so that
asking for more sequences leaves the others as they were.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rtseg.errors import SettingError
from rtseg.frames.skeleton import MICE7
from rtseg.recordings.recording import Labels, Recording
from rtseg.simulate.annotators import ANNOTATORS, TASK3_BEHAVIOURS, label_task1, label_task2, label_task3
from rtseg.simulate.behaviour import AGGRESSIVE, ATTACK, CALM, TASK1_CLASSES, Temperament, temperament_of
from rtseg.simulate.body import FPS, Motion, simulate_motion
from rtseg.simulate.plan import Plan, draw_plan
from rtseg.simulate.tracker import Tracks, drop_unsure, track_points

TASK1_GROUP = "annotator-id_0"
TRIES = 60
"""How often a plan is drawn again while it lacks the behaviour that its sequence must show."""


class Scene(NamedTuple):
    """One simulated sequence: the plan, the true motion, and what a tracker makes of it."""

    plan: Plan
    motion: Motion
    tracks: Tracks


def simulate_sequence(
    seed: int,
    n_frames: int,
    *,
    name: str = "simulated",
    aggressive: bool = False,
    missing: bool = False,
) -> tuple[Recording, Labels]:
    """One recording of T frames with Task 1 labels, in memory.

    aggressive: a resident that attacks and hardly mounts. missing: points of which the tracker is unsure are NaN;
    CalMS21's files have none. Raises SettingError without a frame. The same arguments give the same bytes.
    """
    if n_frames < 1:
        raise SettingError(f"a simulated sequence needs at least one frame, got n_frames={n_frames}")
    rng = sequence_rng(seed, name)
    scene = act_out_plan(rng, draw_plan(rng, n_frames, AGGRESSIVE if aggressive else CALM))
    labels = label_task1(rng, scene.plan)
    tracks = drop_unsure(scene.tracks) if missing else scene.tracks
    return _recording(name, seed, tracks), Labels("task1", TASK1_CLASSES, labels.astype(np.int16))


def simulate_group(
    task: int, split: str, group: str, n_sequences: int, *, seed: int, minutes: float
) -> Iterator[tuple[Recording, Labels]]:
    """One group's share of the n sequences of a task's file, one after the other.

    Sequences go to the task's groups in turn; `split` is part of the names, so that splits differ.
    """
    groups = GROUPS[task]
    for i in range(groups.index(group), n_sequences, len(groups)):
        name = f"simulated/task{task}/{split}/sequence{i + 1:03d}"
        rng = sequence_rng(seed, name)
        classes, labels, tracks = _LABELLERS[task](rng, round(minutes * 60 * FPS), group, i)
        yield _recording(name, seed, tracks), Labels(group, classes, labels.astype(np.int16))


def sequence_rng(seed: int, name: str) -> np.random.Generator:
    """The random numbers of one sequence. A checksum of the name, because Python's hash differs between processes."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def act_out_plan(rng: np.random.Generator, plan: Plan) -> Scene:
    """The plan's motion, tracked."""
    motion = simulate_motion(rng, plan)
    return Scene(plan, motion, track_points(rng, motion.keypoints))


_Labelled = tuple[tuple[str, ...], NDArray[np.int8], Tracks]


def _task1(rng: np.random.Generator, n_frames: int, group: str, index: int) -> _Labelled:
    temperament = temperament_of(index)

    def shows_behaviour(plan: Plan) -> bool:
        return temperament is CALM or bool((plan.behaviour == ATTACK).any())

    scene = act_out_plan(rng, _draw_plan_that(rng, n_frames, (temperament,), shows_behaviour))
    return TASK1_CLASSES, label_task1(rng, scene.plan), scene.tracks


def _task2(rng: np.random.Generator, n_frames: int, group: str, index: int) -> _Labelled:
    """A calm and an aggressive half, so that few sequences show each annotator every class."""
    annotator = next(one for one in ANNOTATORS if one.name == group)

    def shows_behaviour(plan: Plan) -> bool:
        return bool((np.bincount(plan.behaviour, minlength=4) >= 0.02 * n_frames).all())

    scene = act_out_plan(rng, _draw_plan_that(rng, n_frames, (CALM, AGGRESSIVE), shows_behaviour))
    return TASK1_CLASSES, label_task2(rng, scene.plan, scene.motion, annotator), scene.tracks


def _task3(rng: np.random.Generator, n_frames: int, group: str, index: int) -> _Labelled:
    animal, action = TASK3_BEHAVIOURS[group]

    def shows_behaviour(plan: Plan) -> bool:
        return float((plan.action[:, animal] == action).mean()) >= 0.01

    scene = act_out_plan(rng, _draw_plan_that(rng, n_frames, (CALM,), shows_behaviour))
    return ("other", group), label_task3(rng, scene.plan, group), scene.tracks


GROUPS: dict[int, tuple[str, ...]] = {
    1: (TASK1_GROUP,),
    2: tuple(annotator.name for annotator in ANNOTATORS),
    3: tuple(TASK3_BEHAVIOURS),
}
_LABELLERS = {1: _task1, 2: _task2, 3: _task3}


def _recording(name: str, seed: int, tracks: Tracks) -> Recording:
    source = f"simulated with seed {seed}"
    # `simulated` travels with the recording, so that every score of it says so.
    return Recording(name, MICE7, tracks.keypoints, tracks.scores, FPS, source=source, simulated=True)


def _draw_plan_that(
    rng: np.random.Generator,
    n_frames: int,
    temperaments: tuple[Temperament, ...],
    shows_behaviour: Callable[[Plan], bool],
) -> Plan:
    """A plan for which `shows_behaviour` holds; after TRIES, as for very short sequences, the last one drawn."""
    for _ in range(TRIES):
        plan = draw_plan(rng, n_frames, *temperaments)
        if shows_behaviour(plan):
            break
    return plan
