"""What ends events between two frames, and what is remembered of a slot beyond the end of a process.

The rule reads no clock and knows no sinks, streams' ends or people. What those do comes in between two frames, is
recorded there, and is done again there by whoever replays the recording.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgpack
import numpy as np

from rtseg.compiled.array_tables import field_indices
from rtseg.errors import SnapshotError
from rtseg.triggers.arms import NOT_RECORDED as NOT_RECORDED
from rtseg.triggers.events import CLOSED
from rtseg.triggers.plan import TriggerNumbers
from rtseg.triggers.rule import IS_BEGIN, IS_ON, SlotMemory, TriggerMemory, TriggerRule

STALE, RESTART, OVERLOAD, LOST_SINK = "stale", "restart", "overload", "lost sink"
QUEUE_FULL, NO_ACKNOWLEDGEMENT, EXPIRED = "sink queue full", "sink timeout", "expired"
BUNDLE_CHANGED, STOPPING, DISARMED, CLOCK_JUMP = "bundle changed", "stopping", "disarmed", "clock jump"
CUTS = (
    *(STALE, CLOSED, RESTART, OVERLOAD, LOST_SINK, QUEUE_FULL, NO_ACKNOWLEDGEMENT, EXPIRED),
    *(BUNDLE_CHANGED, STOPPING, DISARMED, CLOCK_JUMP, NOT_RECORDED),
)
"""Why an event may end between two frames; why at a frame: `rule.ENDED`."""
_M, _S, _N = (field_indices(*kind._fields) for kind in (TriggerMemory, SlotMemory, TriggerNumbers))


def running_arm(rule: TriggerRule, slot: int, trigger: int) -> int:
    """The arm of the running event; -1 where none runs."""
    return int(rule.arrays.memory[slot, trigger, _M.running]) - 1


def fired_events(rule: TriggerRule, slot: int, trigger: int) -> int:
    """How many events of a trigger have fired on a slot's stream."""
    return int(rule.arrays.memory[slot, trigger, _M.n_fired])


def newest_seq(rule: TriggerRule, slot: int) -> int:
    """The last answered frame of a slot; -1 before the first."""
    return int(rule.arrays.slots[slot, _S.last_seq])


def is_old(rule: TriggerRule, slot: int, seq: int) -> bool:
    """Whether frame seq was decided about before, as after a restart. A resampled camera's number may come again."""
    newest = newest_seq(rule, slot)
    return seq < newest or (seq == newest and not rule.arrays.slots[slot, _S.camera])


def applies(rule: TriggerRule, slot: int) -> list[int]:
    """The triggers that are for a slot's stream."""
    found: list[int] = np.flatnonzero(rule.arrays.memory[slot, :, _M.applies]).tolist()
    return found


def cut_event(rule: TriggerRule, slot: int, trigger: int) -> None:
    """End the running event after the newest frame. The refractory time begins, and its bout fires no second one."""
    memory = rule.arrays.memory[slot, trigger]
    memory[_M.running], memory[_M.on_frames], memory[_M.since_end] = 0, 0, 0


def count_event(rule: TriggerRule, slot: int, trigger: int, count: int) -> None:
    """Event number `count` (from 0) was fired, whatever is remembered: the next one gets a higher number."""
    memory = rule.arrays.memory[slot, trigger]
    memory[_M.n_fired] = max(memory[_M.n_fired], count + 1)


def move_memory(before: TriggerRule, rule: TriggerRule) -> None:
    """Let a rule for another model of the same rate go on from what the one before remembers, all events ended.

    Counts, arms, refractory times and windows go on. A behaviour that held must first be over by the new model's
    answers before it counts again.
    """
    old, new = before.arrays, rule.arrays
    new.slots[:], new.memory[:], new.window[:] = old.slots, old.memory, old.window
    held = (old.memory[:, :, _M.holds] | old.memory[:, :, _M.blocked]) != 0
    new.memory[:, :, _M.holds], new.memory[:, :, _M.lead], new.memory[:, :, _M.blocked] = 0, 0, held


def carry_memory(rule: TriggerRule, slot: int, data: bytes, frames: int) -> None:
    """Let a stream that was just opened go on from what `pack_memory` gave of one of its name, which ended so many
    frames of the model's rate before.

    Counts, and with them arms, go on; refractory times, windows and blocks in time as if nothing had happened in those
    frames. A behaviour must begin anew, and the events of a yoked trigger are told by the new stream's own numbers.
    Raises SnapshotError where the data are damaged.
    """
    arrays = rule.arrays
    begins = SlotMemory(*arrays.slots[slot].tolist())
    next_yoked = arrays.memory[slot, :, _M.next_yoked].copy()
    restore_memory(rule, slot, data)
    place, memory, window = arrays.slots[slot], arrays.memory[slot], arrays.window[slot]
    length = window.shape[1]
    passed = np.arange(1, min(frames, length) + 1)
    for r, window_frames in enumerate(arrays.numbers[:, _N.window_frames]):
        over = (place[_S.at] + passed - window_frames) % length
        bits = window[r, over]
        memory[r, _M.on_in_window] -= np.count_nonzero(bits & IS_ON)
        memory[r, _M.begun_in_window] -= np.count_nonzero(bits & IS_BEGIN)
        window[r, over] = 0
    place[_S.at] = (place[_S.at] + len(passed)) % length
    place[_S.frame] += frames + 1  # the first frame of a stream does not count itself
    place[_S.last_seq], place[_S.camera], place[_S.model] = begins.last_seq, begins.camera, begins.model
    memory[:, _M.since_end] += frames
    memory[:, _M.next_yoked] = next_yoked
    for ended in (_M.holds, _M.lead, _M.blocked, _M.running, _M.pulse_frames, _M.on_frames):
        memory[:, ended] = 0


def pack_memory(rule: TriggerRule, slot: int, begun: Mapping[int, int], *, armed: bool) -> bytes:
    """What a slot remembers, for a recording. begun: the first frames of running events, by their triggers."""
    arrays = rule.arrays
    window = arrays.window[slot].ravel()
    # Nearly all of it is zero, and a window may be an hour long.
    places = np.flatnonzero(window)
    packed: bytes = msgpack.packb(
        {
            "triggers": list(rule.names),
            "numbers": arrays.numbers.tobytes(),
            "armed": armed,
            "begun": [[r, seq] for r, seq in begun.items()],
            "slot": arrays.slots[slot].tolist(),
            "memory": arrays.memory[slot].tobytes(),
            "places": places.astype("<i8").tobytes(),
            "bits": window[places].tobytes(),
        }
    )
    return packed


def restore_memory(rule: TriggerRule, slot: int, data: bytes) -> tuple[bool, dict[int, int]]:
    """Go on from what was recorded on a slot that is open for the same stream.

    Returns whether the stream was armed then, and the first frames of running events, by their triggers.

    Where the trigger file has changed since, only the events' counts go on. Raises SnapshotError where it is damaged;
    the slot then stays as it was.
    """
    arrays = rule.arrays
    try:
        plain: dict[str, Any] = msgpack.unpackb(data, strict_map_key=True)
        names, armed, place = list(plain["triggers"]), plain["armed"], np.array(plain["slot"], np.int64)
        memory = np.frombuffer(plain["memory"], np.int64).reshape(len(names), -1)
        begun = {int(r): int(seq) for r, seq in plain["begun"]}
        places, bits = np.frombuffer(plain["places"], "<i8"), np.frombuffer(plain["bits"], np.uint8)
        if tuple(names) != rule.names or plain["numbers"] != arrays.numbers.tobytes():
            for r, name in enumerate(rule.names):
                if name in names:
                    count_event(rule, slot, r, int(memory[names.index(name), _M.n_fired]) - 1)
            return bool(armed), {}
        window = np.zeros(arrays.window[slot].size, np.uint8)
        window[places] = bits
        # The kernel looks up places in the window and the arms' names by these numbers.
        is_sound = (
            memory.shape == arrays.memory[slot].shape
            and place.shape == arrays.slots[slot].shape
            and 0 <= int(place[_S.at]) < arrays.window.shape[2]
            and bool((memory[:, _M.n_fired] >= 0).all())
            and bool((memory[:, _M.next_yoked] >= 0).all())
            and bool((memory[:, _M.running] <= arrays.order.shape[1] + 1).all())
            and len(places) == len(bits)
            and bool((places >= 0).all())
            and all(0 <= r < len(names) for r in begun)
        )
    except (ValueError, TypeError, KeyError, IndexError, msgpack.UnpackException) as error:
        raise SnapshotError(f"the snapshot's triggers are damaged: {error!r}"[:200]) from None
    if not is_sound:
        raise SnapshotError("the snapshot's triggers are damaged: they remember what cannot be")
    seeds_and_streams = arrays.memory[slot, :, [_M.applies, _M.seed]].copy()
    arrays.slots[slot], arrays.memory[slot] = place, memory
    arrays.memory[slot, :, [_M.applies, _M.seed]] = seeds_and_streams
    arrays.window[slot] = window.reshape(arrays.window[slot].shape)
    return bool(armed), {r: seq for r, seq in begun.items() if memory[r, _M.running]}
