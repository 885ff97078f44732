"""A slow, obvious version of the trigger rule: everything is worked out anew from lists of what has happened.

Imports nothing of `rtseg.triggers`; the numbers of the draws are computed in Python's own integers.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

MASK = 2**64 - 1


@dataclass(frozen=True)
class Numbers:
    """A trigger in frames."""

    on: float
    off: float
    min_frames: int
    refractory: int
    pulse: int
    max_on: int
    max_events: int
    duty: int
    window: int
    shares: tuple[tuple[str, float], ...]
    block_events: int
    seed: int
    block_frames: int = 0
    max_missing: int = 10**9
    yoked: tuple[tuple[int, int], ...] | None = None


@dataclass(frozen=True)
class Answer:
    """A frame: its number, the watched value, whether a forbidden flag is set, whether the stream is armed, how many of
    its points are missing.
    """

    seq: int
    value: float
    forbidden: bool
    armed: bool
    missing: int = 0


def arm(numbers: Numbers, stream: str, trigger: str, count: int, frame: int = 0) -> str:
    """The arm of the count-th event, in a frame counted from the stream's first."""
    if numbers.yoked is not None:
        return "yoked"
    if numbers.block_frames:
        return numbers.shares[frame // numbers.block_frames % len(numbers.shares)][0]
    if numbers.block_events:
        return numbers.shares[count // numbers.block_events % len(numbers.shares)][0]
    text = f"{numbers.seed}\0{stream}\0{trigger}".encode()
    z = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") + (count + 1) * 0x9E3779B97F4A7C15
    z &= MASK
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & MASK
    number = ((z ^ (z >> 31)) >> 11) / 2**53
    total, so_far = sum(share for _, share in numbers.shares), 0.0
    for name, share in numbers.shares[:-1]:
        so_far += share / total
        if number < so_far:
            return name
    return numbers.shares[-1][0]


def decide(answers: list[Answer], numbers: Numbers, stream: str, trigger: str) -> list[tuple[bool, str, str, str]]:
    """Of every frame: the line, what became of an event, its arm, and why the running one ended."""
    result = []
    holds, blocked, lead, count = False, False, 0, 0
    begun: list[int] = []  # frames at which an event fired
    on_frames: list[int] = []  # frames of events, of any arm
    event: list[int] = []  # those of the running one
    running, last_end, length = "", -math.inf, 0
    previous: Answer | None = None
    for answer in answers:
        gap = previous is not None and answer.seq > previous.seq + 1
        is_on, stays = answer.value >= numbers.on, answer.value >= numbers.off
        begins, pulse = "", numbers.pulse
        forbidden = answer.forbidden or answer.missing > numbers.max_missing
        if numbers.yoked is not None:
            # Recorded events since the last frame; those before the first one are over.
            since = answer.seq - 1 if previous is None else previous.seq
            due = [frames for start, frames in numbers.yoked if since < start <= answer.seq]
            if due:
                begins, pulse = "quality" if forbidden or gap else "fired", due[-1]
        elif forbidden or gap:
            if is_on and not holds and not blocked:
                begins = "quality"
            blocked = stays and (is_on or blocked or holds)
            holds, lead = False, 0
        elif blocked:
            blocked = stays
        elif holds:
            holds = stays
        else:
            lead = lead + 1 if is_on else 0
            if lead >= numbers.min_frames:
                holds, lead, begins = True, 0, "fired"

        in_window = [seq for seq in on_frames if seq > answer.seq - numbers.window]
        ended = ""
        if running:
            if not answer.armed:
                ended = "disarmed"
            elif forbidden:
                ended = "quality"
            elif gap:
                ended = "gap"
            elif length and len(event) >= length:
                ended = "pulse over"
            elif len(event) >= numbers.max_on or len(in_window) >= numbers.duty:
                ended = "max_on"
            elif not length and not holds:
                ended = "behaviour over"
        if ended:
            running, last_end = "", answer.seq

        its_arm = ""
        if begins:
            its_arm = arm(numbers, stream, trigger, count, answer.seq - answers[0].seq)
            lately = [seq for seq in begun if seq > answer.seq - numbers.window]
            if not answer.armed:
                begins = "disarmed"
            elif begins == "quality":
                pass
            elif running:
                begins = "running"
            elif answer.seq - last_end < numbers.refractory:
                begins = "refractory"
            elif numbers.max_events and len(lately) >= numbers.max_events:
                begins = "max_events"
            elif len(in_window) >= numbers.duty:
                begins = "max_duty"
            else:
                running, event, length = its_arm, [], pulse
                count += 1
                begun.append(answer.seq)
        if running:
            event.append(answer.seq)
            on_frames.append(answer.seq)
        result.append((running in ("real", "yoked"), begins, its_arm, ended))
        previous = answer
    return result
