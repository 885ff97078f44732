"""The rule of behaviour triggers: from a frame's answer to a line that is on or off, causally. Written once.

It is stepped for every answered frame of a stream, after decoding, live and in a replay, and reads no clock: all times
are frames of the model's rate, counted by the frames' numbers. Per trigger and stream:

- the watched behaviour *holds* from the frame at which its value has been `on` or above for the minimum duration until
  it falls below `off`, or until a frame of forbidden quality comes (`never_on`, `max_missing`);
- where it begins to hold, an *event* begins, or is withheld for the first reason of `WITHHELD` that applies. A yoked
  trigger's begin at the frames of a recorded session instead, and last as long as there. A
  withheld event is not made up for later in the same bout: a late stimulus is a wrong one;
- the arm of the next event is settled before it comes (`arms`); a withheld one leaves it to the next. What is not
  `real` runs its course like a real one, limits and refractory time included, with the line off;
- an event ends for the first reason of `ENDED` that applies, and the line is off from that very frame on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rtseg.compiled import array_tables, cache_stamps
from rtseg.compiled.array_tables import ArrayTable, TableRows, field_indices
from rtseg.config import TriggerSettings
from rtseg.frames.resampling import MAX_DENOMINATOR
from rtseg.inference.predictions import Quality
from rtseg.recordings.heads import Head
from rtseg.triggers import arms, conditions
from rtseg.triggers.arms import REAL, arm_of, arm_tables, seed_of
from rtseg.triggers.conditions import condition_arrays, watched_value
from rtseg.triggers.plan import TriggerNumbers, trigger_numbers
from rtseg.triggers.yoked import yoked_table

WITHHELD = ("", "fired", "disarmed", "quality", "running", "refractory", "max_events", "max_duty")
"""What became of an event that might begin, by its code; "" = nothing began."""
FIRED, DISARMED, QUALITY, RUNNING, REFRACTORY, MAX_EVENTS, MAX_DUTY = range(1, 8)
ENDED = ("", "disarmed", "quality", "pulse over", "max_on", "behaviour over", "gap")
"""Why an event ended at a frame, by its code; "" = none did. What ends one between frames: `cuts.CUTS`."""
END_DISARMED, END_QUALITY, END_PULSE, END_MAX_ON, END_BEHAVIOUR, END_GAP = range(1, 7)

LINE, BEGAN, ARM, ENDED_AT = range(4)
"""Places in what is decided (N, R, 4) uint8: the line is on; code of `WITHHELD`; arm of what began; code of `ENDED`."""


class TriggerMemory(NamedTuple):
    """What is remembered of one trigger and slot; a row of int64 in this order.

    applies: 1 where the trigger is for this stream. seed: of its arms. holds: 1 while the behaviour does. lead: frames
    that it has been `on`. blocked: 1 once a forbidden flag was told in this bout. running: the arm of the running event
    + 1, 0 for none. pulse_frames: how long it is to last, 0 for as long as the behaviour holds. on_frames: how long it
    has run. since_end: frames since the last one ended. n_fired: events that fired. on_in_window, begun_in_window: sums
    over the window. next_yoked: the row of the recorded event that comes next.
    """

    applies: int
    seed: int
    holds: int
    lead: int
    blocked: int
    running: int
    pulse_frames: int
    on_frames: int
    since_end: int
    n_fired: int
    on_in_window: int
    begun_in_window: int
    next_yoked: int


class SlotMemory(NamedTuple):
    """What is remembered of one slot; a row of int64 in this order.

    last_seq: the newest frame's number, -1 before the first. at: place in the window. frame: which frame of the model's
    rate it is, from 0. camera, model: the ratio of the rates of a camera that is resampled, 0 where none is.
    """

    last_seq: int
    at: int
    frame: int
    camera: int
    model: int


class TriggerArrays(NamedTuple):
    """R triggers with C conditions on P outputs, and what S slots remember.

    numbers (R, ...): `TriggerNumbers`. thresholds (R, 2): on and off. conditions (C, 3): trigger, head, negate. chosen
    (C, P): outputs that a condition adds up. outputs (2, P): each output's head, and its class index in it. shares,
    order: see `arms`. yoked (M, 2): see `yoked_table`. slots (S, ...): `SlotMemory`. memory (S, R, ...):
    `TriggerMemory`. window (S, R, W): bits of the last frames, a ring.
    """

    numbers: NDArray[np.int64]
    thresholds: NDArray[np.float64]
    conditions: NDArray[np.int64]
    chosen: NDArray[np.uint8]
    outputs: NDArray[np.int64]
    shares: NDArray[np.float64]
    order: NDArray[np.int64]
    yoked: NDArray[np.int64]
    slots: NDArray[np.int64]
    memory: NDArray[np.int64]
    window: NDArray[np.uint8]


_N, _M, _S, _A = (field_indices(*kind._fields) for kind in (TriggerNumbers, TriggerMemory, SlotMemory, TriggerArrays))
IS_ON, IS_BEGIN = 1, 2  # bits of a frame in the window
_FLAGS, _MISSING = range(2)
"""Places in a frame's quality (N, 2), as the kernel reads it."""
_RESET = int(Quality.RESET)
_YOKED_FROM, _YOKED_FRAMES = range(2)


class TriggerRule:
    """The triggers of a file for one model, and what they remember of S slots.

    names: (R,) of the triggers. heads: the model's; fps: its rate; points: of a frame, of all its animals together. A
    slot serves no stream until `open_slot`. Raises SettingError for a head or a behaviour that the model does not have.
    """

    def __init__(
        self, triggers: Mapping[str, TriggerSettings], heads: tuple[Head, ...], fps: float, slots: int, points: int
    ) -> None:
        self.names, self.settings, self.fps = tuple(triggers), tuple(triggers.values()), fps
        watched, chosen, outputs = condition_arrays(triggers, heads)
        yoked = yoked_table(triggers)
        before = np.cumsum([0, *(len(t.arms.yoked_events) for t in self.settings)]).tolist()
        # The last one is their sum.
        each = zip(self.settings, before[:-1], strict=True)
        numbers = np.array([trigger_numbers(t, fps, points, start) for t, start in each], np.int64)
        shares, order = arm_tables([t.arms for t in self.settings])
        shape = (slots, len(self.names))
        # A table of addresses: handing ten arrays over would cost more than deciding.
        self._table = ArrayTable(
            TriggerArrays(
                numbers=numbers,
                thresholds=np.array([(t.on, t.off) for t in self.settings]),
                conditions=watched,
                chosen=chosen,
                outputs=outputs,
                shares=shares,
                order=order,
                yoked=yoked,
                slots=np.zeros((slots, len(SlotMemory._fields)), np.int64),
                memory=np.zeros((*shape, len(TriggerMemory._fields)), np.int64),
                window=np.zeros((*shape, int(numbers[:, _N.window_frames].max())), np.uint8),
            )
        )

    @property
    def arrays(self) -> TriggerArrays:
        """What the kernel works with."""
        arrays = self._table.arrays
        assert isinstance(arrays, TriggerArrays)
        return arrays

    @property
    def table_rows(self) -> TableRows:
        """The same, for compiled code."""
        return self._table.rows

    def open_slot(self, slot: int, stream: str, camera_fps: float | None = None) -> None:
        """Start a slot for a stream: which triggers apply to it, and its own sequence of arms.

        camera_fps: of a stream that is resampled to the model's rate; None = it has that rate.
        """
        arrays = self.arrays
        ratio = (
            Fraction(0) if camera_fps is None else Fraction(camera_fps / self.fps).limit_denominator(MAX_DENOMINATOR)
        )
        arrays.slots[slot] = SlotMemory(
            last_seq=-1, at=0, frame=0, camera=ratio.numerator, model=ratio.denominator if ratio else 0
        )
        arrays.memory[slot], arrays.window[slot] = 0, 0
        for r, (name, trigger) in enumerate(zip(self.names, self.settings, strict=True)):
            memory = arrays.memory[slot, r]
            memory[_M.seed] = seed_of(trigger.arms.seed, stream, name)
            memory[_M.applies] = trigger.applies_to(stream)
            # Nothing has ended yet, so nothing has to be waited for.
            memory[_M.since_end] = arrays.numbers[r, _N.refractory_frames]
            memory[_M.next_yoked] = arrays.numbers[r, _N.yoked_from]

    def step(
        self,
        slots: NDArray[np.int32],
        seq: NDArray[np.int64],
        probs: NDArray[np.float32],
        labels: NDArray[np.int16],
        quality: NDArray[np.int32],
        missing: NDArray[np.int32],
        armed: NDArray[np.bool_],
    ) -> NDArray[np.uint8]:
        """Decide about the answers (N, P) and (N, H) to frames seq (N,) of the slots (N,), in order: (N, R, 4) uint8,
        by `LINE`, `BEGAN`, `ARM` and `ENDED_AT`.

        quality: (N,) flags. missing: (N,) how many points of the frame were missing. armed: (N,) whether the stream is
        armed. Frames of a slot must come with rising seq.
        """
        decided = np.zeros((len(slots), len(self.names), 4), np.uint8)
        qualities = np.stack((quality, missing), axis=1)
        _advance(slots, seq, probs, labels, qualities, armed, self._table.rows, decided)
        return decided


@njit(cache=False)
def _move_window(
    elapsed: int,
    slot: NDArray[np.int64],
    memory: NDArray[np.int64],
    window: NDArray[np.uint8],
    numbers: NDArray[np.int64],
) -> None:
    """Frames that have passed push the oldest out of every trigger's window; the newest place is empty after it."""
    n_window = window.shape[1]
    for _ in range(min(elapsed, n_window)):
        at = slot[_S.at] + 1 if slot[_S.at] + 1 < n_window else 0
        slot[_S.at] = at
        for r in range(len(numbers)):
            # Nothing happened within it, as nearly always: its bits need not be looked at, which no cache holds.
            if not memory[r, _M.on_in_window] and not memory[r, _M.begun_in_window]:
                continue
            # A window shorter than the ring ends that many frames back; equally long ones end at the newest place.
            old = at - numbers[r, _N.window_frames]
            old += n_window if old < 0 else 0
            bits = window[r, old]
            memory[r, _M.on_in_window] -= bits & IS_ON
            memory[r, _M.begun_in_window] -= bits >> 1
            window[r, old] = 0


@njit(cache=False)
def _frames_passed(seq: int, flags: int, slot: NDArray[np.int64]) -> int:
    """How many frames of the model's rate lie between a slot's last answer and this one; 1 for the first."""
    if slot[_S.last_seq] < 0:
        return 1
    passed: int = seq - slot[_S.last_seq]
    if not slot[_S.camera]:
        return passed
    # The numbers are the camera's, which skip or repeat; only a restart leaves out frames of the model's rate.
    if not flags & _RESET:
        return 1
    return max(1, int(passed * slot[_S.model] // slot[_S.camera]))


@njit(cache=False)
def _is_forbidden(quality: NDArray[np.int32], number: NDArray[np.int64]) -> bool:
    """Whether a frame's flags or its missing points forbid an event."""
    return bool((quality[_FLAGS] & number[_N.flags]) != 0 or quality[_MISSING] > number[_N.max_missing])


@njit(cache=False)
def _due_frames(
    seq: int, slot: NDArray[np.int64], number: NDArray[np.int64], memory: NDArray[np.int64], yoked: NDArray[np.int64]
) -> int:
    """How long the recorded event is to last that is due with frame seq, in frames of the model's rate; 0 for none."""
    frames, last_seq = 0, slot[_S.last_seq]
    while memory[_M.next_yoked] < number[_N.yoked_to] and yoked[memory[_M.next_yoked], _YOKED_FROM] <= seq:
        start, length = yoked[memory[_M.next_yoked], _YOKED_FROM], yoked[memory[_M.next_yoked], _YOKED_FRAMES]
        memory[_M.next_yoked] += 1
        # Those before the stream's first frame are over.
        if start == seq or last_seq >= 0:
            frames = length
    if frames and slot[_S.camera]:
        return max(1, int(frames * slot[_S.model] // slot[_S.camera]))
    return frames


@njit(cache=False)
def _watch(value: float, broken: bool, on: float, off: float, min_frames: int, memory: NDArray[np.int64]) -> int:
    """Whether the behaviour begins to hold: 0, FIRED (it does), or QUALITY (it might, but for this frame's flags)."""
    # A NaN is no behaviour: every comparison with it is false.
    is_on, stays = value >= on, value >= off
    if broken:
        begins = QUALITY if is_on and not memory[_M.blocked] and not memory[_M.holds] else 0
        # What held before is over, and is not begun anew within the same bout.
        memory[_M.blocked] = 1 if stays and (is_on or memory[_M.blocked] or memory[_M.holds]) else 0
        memory[_M.holds], memory[_M.lead] = 0, 0
        return begins
    if memory[_M.blocked]:
        memory[_M.blocked] = 1 if stays else 0
        return 0
    if memory[_M.holds]:
        memory[_M.holds] = 1 if stays else 0
        return 0
    memory[_M.lead] = memory[_M.lead] + 1 if is_on else 0
    if memory[_M.lead] < min_frames:
        return 0
    memory[_M.holds], memory[_M.lead] = 1, 0
    return FIRED


@njit(cache=False)
def _why_withheld(begins: int, armed: bool, number: NDArray[np.int64], memory: NDArray[np.int64]) -> int:
    """The code of `WITHHELD` of an event that might begin."""
    if not armed:
        return DISARMED
    if begins == QUALITY:
        return QUALITY
    if memory[_M.running]:
        return RUNNING
    if memory[_M.since_end] < number[_N.refractory_frames]:
        return REFRACTORY
    if number[_N.max_events] and memory[_M.begun_in_window] >= number[_N.max_events]:
        return MAX_EVENTS
    # A frame of this event must still fit; it ends at the limit (`_why_end`).
    if memory[_M.on_in_window] >= number[_N.duty_frames]:
        return MAX_DUTY
    return FIRED


@njit(cache=False)
def _why_end(armed: bool, forbidden: bool, elapsed: int, number: NDArray[np.int64], memory: NDArray[np.int64]) -> int:
    """The code of `ENDED` where the running event ends at this frame; 0 where it does not, or none runs."""
    if not memory[_M.running]:
        return 0
    if not armed:
        return END_DISARMED
    if forbidden:
        return END_QUALITY
    # Frames that nobody answered: nobody knows what happened meanwhile.
    if elapsed > 1:
        return END_GAP
    if memory[_M.pulse_frames] and memory[_M.on_frames] >= memory[_M.pulse_frames]:
        return END_PULSE
    if memory[_M.on_frames] >= number[_N.max_on_frames] or memory[_M.on_in_window] >= number[_N.duty_frames]:
        return END_MAX_ON
    if not memory[_M.pulse_frames] and not memory[_M.holds]:
        return END_BEHAVIOUR
    return 0


def _compiled(stamp: int) -> Callable[..., None]:
    """The kernel. stamp: of the other files that are compiled into it (`cache_stamps`)."""

    @njit(cache=True)
    def advance(
        slots: NDArray[np.int32],
        seq: NDArray[np.int64],
        probs: NDArray[np.float32],
        labels: NDArray[np.int16],
        quality: NDArray[np.int32],
        armed: NDArray[np.bool_],
        rows: TableRows,
        decided: NDArray[np.uint8],
    ) -> None:
        _ = stamp
        numbers, thresholds = array_tables.int64s_2d(rows, _A.numbers), array_tables.float64s_2d(rows, _A.thresholds)
        watched, chosen = array_tables.int64s_2d(rows, _A.conditions), array_tables.uint8s_2d(rows, _A.chosen)
        outputs, order = array_tables.int64s_2d(rows, _A.outputs), array_tables.int64s_2d(rows, _A.order)
        shares, per_slot = array_tables.float64s_2d(rows, _A.shares), array_tables.int64s_2d(rows, _A.slots)
        memories, windows = array_tables.int64s_3d(rows, _A.memory), array_tables.uint8s_3d(rows, _A.window)
        yoked = array_tables.int64s_2d(rows, _A.yoked)
        for n in range(len(slots)):
            slot, memory_of, window = per_slot[slots[n]], memories[slots[n]], windows[slots[n]]
            elapsed = _frames_passed(seq[n], quality[n, _FLAGS], slot)
            slot[_S.frame] += elapsed if slot[_S.last_seq] >= 0 else 0
            _move_window(elapsed, slot, memory_of, window, numbers)
            for r in range(len(numbers)):
                memory, number, told = memory_of[r], numbers[r], decided[n, r]
                if not memory[_M.applies]:
                    continue
                forbidden = _is_forbidden(quality[n], number)
                broken = forbidden or elapsed > 1
                pulse = number[_N.pulse_frames]
                memory[_M.since_end] += elapsed
                if number[_N.is_yoked]:
                    pulse = _due_frames(seq[n], slot, number, memory, yoked)
                    begins = 0 if not pulse else QUALITY if broken else FIRED
                else:
                    as_numbers = number[_N.needs_all], number[_N.uses_probability]
                    value = watched_value(n, r, probs, labels, as_numbers, watched, chosen, outputs)
                    begins = _watch(value, broken, thresholds[r, 0], thresholds[r, 1], number[_N.min_frames], memory)
                # The end before the beginning: one event may end at the frame at which the next one begins.
                told[ENDED_AT] = _why_end(armed[n], forbidden, elapsed, number, memory)
                if told[ENDED_AT]:
                    memory[_M.running], memory[_M.on_frames], memory[_M.since_end] = 0, 0, 0
                if begins:
                    count = slot[_S.frame] if number[_N.blocks_in_time] else memory[_M.n_fired]
                    arm = arm_of(memory[_M.seed], count, shares[r], order[r], number[_N.n_arms], number[_N.block])
                    told[ARM], told[BEGAN] = arm, _why_withheld(begins, armed[n], number, memory)
                    if told[BEGAN] == FIRED:
                        memory[_M.n_fired] += 1
                        memory[_M.running], memory[_M.pulse_frames] = arm + 1, pulse
                        window[r, slot[_S.at]] |= IS_BEGIN
                        memory[_M.begun_in_window] += 1
                if memory[_M.running]:
                    memory[_M.on_frames] += 1
                    window[r, slot[_S.at]] |= IS_ON
                    memory[_M.on_in_window] += 1
                    told[LINE] = memory[_M.running] == REAL + 1
            slot[_S.last_seq] = seq[n]

    return advance


_advance = _compiled(cache_stamps.source_stamp(arms, conditions, array_tables))
