"""What triggers did, as a daemon's recording tells: the settings, the events, and when each of them happened."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from rtseg.config import TriggerFile, from_plain
from rtseg.errors import RecordingError, SettingError
from rtseg.recorder.reading import LOST, MALFORMED, RecordingFile, unpacked
from rtseg.serve.triggers.records import EventLog, check_record
from rtseg.system.files import write_atomically
from rtseg.triggers.events import cell

TIMES = (
    *("t_source_ns", "t_recv_ns", "t_decided_ns", "t_sent_ns", "t_sink_on_ns"),
    *("t_end_decided_ns", "t_off_ns", "t_sink_off_ns", "t_sink_expired_ns"),
)
"""Of an event, in their order: its frame by the source's clock, and all others by the daemon's: the frame came, it was
decided, sent, acknowledged; the end was decided, sent, acknowledged, or the sink let go by itself."""


def recorded_settings(file: RecordingFile) -> TriggerFile | None:
    """The trigger file that the daemon had; None where it had none. Raises RecordingError where it is damaged."""
    text = file.session.get("triggers")
    if text is None:
        return None
    try:
        return from_plain(json.loads(text), TriggerFile)
    except (ValueError, SettingError) as error:
        raise RecordingError(file.path, f"its beginning is damaged: its triggers: {error}") from None


def recorded_triggers(file: RecordingFile) -> tuple[str, ...]:
    """The names of the triggers, in the order of their file; () where there are none or they are damaged."""
    try:
        plain = json.loads(file.session.get("triggers", "{}"))
        return tuple(map(str, plain["triggers"]))
    except (ValueError, KeyError, TypeError):
        return ()


def read_trigger_log(path: Path) -> dict[str, EventLog]:
    """The events of every stream of a recording, by its name; one that was opened again is NAME#2.

    Raises RecordingError where the file is no recording. What is damaged is left out.
    """
    logs: dict[str, EventLog] = {}
    opened: Counter[str] = Counter()
    with RecordingFile(path) as file:
        order = recorded_triggers(file)
        for message in file.messages():
            if message.topic not in ("events", "predictions", "triggers"):
                continue
            try:
                record = unpacked(path, message.data)
                if message.topic == "events" and record["type"] == LOST:
                    for log in logs.values():
                        log.lose_records()
                    continue
                if message.topic == "events":
                    opened[record["stream"]] += record["type"] == "hello"
                    continue
                name, n = str(record["stream"]), opened[record["stream"]]
                name = name if n < 2 else f"{name}#{n}"
                log = logs.setdefault(name, EventLog(name, order))
                if message.topic == "predictions":
                    log.add_answer(int(record["seq"]))
                else:
                    check_record(record)
                    log.add(record)
            except MALFORMED:
                continue
    return logs


def write_event_times(logs: Iterable[EventLog], path: Path | str) -> None:
    """CSV, a row an event: which one, and its `TIMES`, empty for what did not happen. Raises OSError."""
    lines = [",".join(("stream", "trigger", "seq", "decision", "arm", "ended", *TIMES))]
    for event, times in ((event, log.times_of(event)) for log in logs for event in log.events()):
        about = (event.stream, event.trigger, event.seq, event.decision, event.arm, event.ended)
        lines.append(",".join(cell(str(value)) for value in (*about, *(times.get(name, "") for name in TIMES))))
    write_atomically(Path(path), "\n".join(lines) + "\n")
