"""Simulated human annotators: each has thresholds, delays and biases of its own.

They see the plan's actions and the true positions, never the tracked points, and no two of them place the onset of a
movement on the same frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rtseg.recordings.bouts import bouts_of
from rtseg.simulate.behaviour import ATTACK, INVESTIGATION, MOUNT, OTHER
from rtseg.simulate.body import Motion
from rtseg.simulate.plan import INTRUDER, RESIDENT, Action, Plan

Labels8 = NDArray[np.int8]

SNIFF_ACTIONS = (Action.SNIFF_FACE, Action.SNIFF_BODY, Action.SNIFF_REAR)
MOUNT_ACTIONS = (Action.MOUNT, Action.INTROMISSION)


@dataclass(frozen=True)
class Annotator:
    """How one person labels Task 1's classes.

    reach_px: a nose within this distance of the other animal can be an investigation. min_touch_frames: an unplanned
    touch (a PASS or the end of an APPROACH) counts from this length on. follow_label, attempt_label: the class given to
    following and to a mount attempt. chase_frames: how long an attack is still labelled while the other animal flees.
    min_bout_frames: shorter bouts are left out. delay_frames, jitter_frames: mean and standard deviation by which a
    boundary is shifted.
    """

    name: str
    reach_px: float
    min_touch_frames: int
    follow_label: int
    attempt_label: int
    chase_frames: int
    min_bout_frames: int
    delay_frames: float
    jitter_frames: float


ANNOTATORS = (
    Annotator("annotator-id_1", 40, 30, INVESTIGATION, MOUNT, 0, 5, 1, 2.0),
    Annotator("annotator-id_2", 30, 45, OTHER, MOUNT, 0, 8, 4, 3.0),  # strict: touches only, never following
    Annotator("annotator-id_3", 75, 8, INVESTIGATION, INVESTIGATION, 10, 3, -1, 2.5),  # generous and quick
    Annotator("annotator-id_4", 45, 20, OTHER, OTHER, 25, 15, 8, 5.0),  # slow; attempts and short bouts don't count
    Annotator("annotator-id_5", 50, 15, INVESTIGATION, MOUNT, 20, 2, 0, 1.0),  # notes every short thing
)
"""Task 2's five annotators. They differ enough that one network head each is worth having, as in CalMS21."""

TASK3_BEHAVIOURS: dict[str, tuple[int, Action]] = {
    "approach": (RESIDENT, Action.APPROACH),
    "disengaged": (RESIDENT, Action.DISENGAGE),
    "groom": (RESIDENT, Action.GROOM),
    "intromission": (RESIDENT, Action.INTROMISSION),
    "mount_attempt": (RESIDENT, Action.MOUNT_ATTEMPT),
    "sniff_face": (RESIDENT, Action.SNIFF_FACE),
    "whiterearing": (INTRUDER, Action.REAR),  # CalMS21's intruders are white, its residents black
}
"""Task 3's behaviours: the animal and its action."""


def label_task1(rng: np.random.Generator, plan: Plan) -> Labels8:
    """Task 1 labels (T,): the planned bouts with human boundaries."""
    return shift_boundaries(rng, plan.behaviour, delay_frames=1.5, jitter_frames=2.5)


def label_task2(rng: np.random.Generator, plan: Plan, motion: Motion, annotator: Annotator) -> Labels8:
    """Task 1's classes (T,) as one annotator sees them."""
    action = plan.action[:, RESIDENT]
    near = nose_gap_px(motion) < annotator.reach_px
    labels = np.full(len(action), OTHER, np.int8)
    labels[np.isin(action, SNIFF_ACTIONS) & near] = INVESTIGATION
    labels[(action == Action.FOLLOW) & near] = annotator.follow_label
    labels[np.isin(action, MOUNT_ACTIONS)] = MOUNT
    labels[action == Action.MOUNT_ATTEMPT] = annotator.attempt_label
    labels[action == Action.ATTACK] = ATTACK
    # Nobody planned these touches: an annotator calls one an investigation only once it has lasted for a while.
    for start, stop, touching in bouts_of((near & (labels == OTHER)).astype(np.int8)):
        if touching and stop - start > annotator.min_touch_frames:
            labels[start + annotator.min_touch_frames : stop] = INVESTIGATION
    fleeing = plan.action[:, INTRUDER] == Action.FLEE
    for _, stop, label in bouts_of(labels):
        if label == ATTACK:
            chase = slice(stop, stop + annotator.chase_frames)
            labels[chase] = np.where(fleeing[chase], ATTACK, labels[chase])
    labels = drop_short_bouts(labels, annotator.min_bout_frames)
    return shift_boundaries(rng, labels, annotator.delay_frames, annotator.jitter_frames)


def label_task3(rng: np.random.Generator, plan: Plan, behaviour: str) -> Labels8:
    """1 in frames of the behaviour, else 0. (T,)."""
    animal, action = TASK3_BEHAVIOURS[behaviour]
    done = (plan.action[:, animal] == action).astype(np.int8)
    return shift_boundaries(rng, done, delay_frames=2.0, jitter_frames=2.5)


def nose_gap_px(motion: Motion) -> NDArray[np.float64]:
    """Distance (T,) from the resident's nose to the nearest of the intruder's points, smoothed over 0.2 s."""
    nose = motion.keypoints[:, RESIDENT, :1]  # (T, 1, 2)
    gap = np.linalg.norm(motion.keypoints[:, INTRUDER] - nose, axis=-1).min(axis=1)
    # People judge a stretch of video, not a frame: without smoothing a gap near the threshold would flicker.
    padded = np.pad(gap, 3, mode="edge")
    return np.convolve(padded, np.full(7, 1 / 7), mode="valid")


def drop_short_bouts(labels: Labels8, min_bout_frames: int) -> Labels8:
    """Bouts shorter than a minimum get the label of the bout before them; the first bout stays."""
    merged = labels.copy()
    for start, stop, _ in bouts_of(labels):
        if start and stop - start < min_bout_frames:
            merged[start:stop] = merged[start - 1]
    return merged


def shift_boundaries(rng: np.random.Generator, labels: Labels8, delay_frames: float, jitter_frames: float) -> Labels8:
    """Labels (T,) whose boundaries are each moved by a normal draw; a bout may vanish, their order stays."""
    bouts = bouts_of(labels)
    edges = np.array([bout.start for bout in bouts[1:]], np.float64)
    edges = np.round(edges + rng.normal(delay_frames, jitter_frames, len(edges)))
    # The running maximum keeps the boundaries in order: a bout that is overtaken by the next gets length 0.
    edges = np.maximum.accumulate(np.clip(edges, 0, len(labels))).astype(np.int64)
    starts = np.concatenate(([0], edges, [len(labels)]))
    values = np.array([bout.label for bout in bouts], np.int8)
    return np.repeat(values, np.diff(starts))
