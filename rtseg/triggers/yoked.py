"""Yoked triggers: what one animal was given, given to another at the same frames, whatever that one does.

The log of the first animal's session says when: its events that reached the animal, by their frames' numbers. It is
read once, with the trigger file, so that the settings that a recording keeps hold all that a replay needs.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rtseg.config import ArmSettings, TriggerSettings
from rtseg.errors import SettingError
from rtseg.triggers.arms import NOT_RECORDED, REACHING, RECORDS_LOST

_NEEDED = ("stream", "trigger", "seq", "decision", "arm", "last_seq")


def with_yoked_events(triggers: Mapping[str, TriggerSettings], folder: Path) -> dict[str, TriggerSettings]:
    """The triggers, the yoked ones with their events read from their logs. folder: of the trigger file. Raises
    SettingError.
    """
    return {
        name: replace(trigger, arms=_with_events(name, trigger.arms, folder))
        # Settings that a recording has kept have their events already.
        if trigger.arms.is_yoked and not trigger.arms.yoked_events
        else trigger
        for name, trigger in triggers.items()
    }


def yoked_table(triggers: Mapping[str, TriggerSettings]) -> NDArray[np.int64]:
    """The recorded events of all triggers, one after the other: (M, 2), first frame and number of frames.

    Raises SettingError for a yoked trigger whose log has not been read.
    """
    for name, trigger in triggers.items():
        if trigger.arms.is_yoked and not trigger.arms.yoked_events:
            raise SettingError(f"triggers.{name}: no events of {trigger.arms.yoked} were read; use load_triggers")
    events = [event for trigger in triggers.values() for event in trigger.arms.yoked_events]
    return np.array(events, np.int64).reshape(-1, 2)


def _with_events(name: str, arms: ArmSettings, folder: Path) -> ArmSettings:
    path = folder / arms.yoked
    where = f"triggers.{name}: arms.yoked = {arms.yoked!r}"
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows: list[Mapping[str, str]] = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SettingError(f"{where}: {path} cannot be read: {error}") from None
    for line, row in enumerate(rows, 2):
        missing = [column for column in _NEEDED if row.get(column) is None]
        if missing:
            raise SettingError(f"{where}: {path}, line {line}: no {', '.join(missing)}; expected a log of triggers")
    rows = _only(rows, "stream", arms.yoked_stream, where)
    rows = _only(rows, "trigger", arms.yoked_trigger, where)
    events = sorted(_event(row, f"{where}: {path}") for row in rows if _reached(row))
    if not events:
        raise SettingError(f"{where}: no event of it reached an animal (decision fired, arm {' or '.join(REACHING)})")
    for (early, n), (late, _) in pairwise(events):
        if early + n > late:
            raise SettingError(f"{where}: two events of one trigger at once, from frames {early} and {late} on")
    return replace(arms, yoked_events=tuple(events))


def _only(rows: Sequence[Mapping[str, str]], column: str, wanted: str, where: str) -> list[Mapping[str, str]]:
    """The rows of one stream or trigger; where none is wanted, there must be only one."""
    there = sorted({row[column] for row in rows})
    if wanted:
        if wanted not in there:
            raise SettingError(f"{where} has no {column} {wanted!r}; it has: {', '.join(there)}")
        return [row for row in rows if row[column] == wanted]
    if len(there) > 1:
        raise SettingError(f"{where} has several; choose one by arms.yoked_{column}: {', '.join(there)}")
    return list(rows)


def _reached(row: Mapping[str, str]) -> bool:
    return row["decision"] == "fired" and row["arm"] in REACHING and row.get("ended") != NOT_RECORDED


def _event(row: Mapping[str, str], where: str) -> tuple[int, int]:
    """First frame and number of frames."""
    if row.get("ended") == RECORDS_LOST:
        raise SettingError(
            f"{where}: how long the event from frame {row['seq']} on was is not recorded (records lost): yoke to "
            "another session, or write its true last_seq and another word into its row"
        )
    try:
        first, last = int(row["seq"]), int(row["last_seq"])
    except ValueError:
        raise SettingError(f"{where}: seq {row['seq']!r} and last_seq {row['last_seq']!r} must be frames") from None
    if not 0 <= first <= last < 2**62:
        raise SettingError(f"{where}: seq {first} and last_seq {last} cannot be an event's first and last frame")
    return first, last + 1 - first
