"""What happened in a session, in numbers, from its recording alone: so it is there after a crash, too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rtseg.inference.predictions import Quality
from rtseg.recorder.reading import LOST, MALFORMED, RecordingFile, unpacked
from rtseg.serve.triggers.records import EventLog, check_record
from rtseg.triggers.events import TriggerEvent

WAYS = (
    ("frame received to decision", "t_recv_ns", "t_decided_ns"),
    ("sending to acknowledgement, on", "t_sent_ns", "t_sink_on_ns"),
    ("frame received to acknowledgement, on", "t_recv_ns", "t_sink_on_ns"),
    ("end decided to acknowledgement, off", "t_end_decided_ns", "t_sink_off_ns"),
)
"""Parts of an event's way whose times are told, by the times of `trigger_log.TIMES`."""
_LAST_SEQ = 2**63 - 1


@dataclass(eq=False)
class Camera:
    """One stream. fps: as it declared. frames, answers: how many were recorded. first_s, last_s: of its answers, since
    the session's first frame. flags: answers by quality flag. restarts and the like: the daemon's counters, {} where
    the stream was not closed.
    """

    name: str
    fps: float = 0.0
    frames: int = 0
    answers: int = 0
    first_s: float = 0.0
    last_s: float = 0.0
    flags: Counter[str] = field(default_factory=Counter)
    counters: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Pulse:
    """An event on the session's clock. stop_s: None where it was withheld. is_sent: whether sinks were told, as of no
    control, of no event in a dry run and of no trigger without sinks. ways_ms: by the names of `WAYS`.
    """

    event: TriggerEvent
    start_s: float
    stop_s: float | None
    is_sent: bool
    ways_ms: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Summary:
    """cameras: by name. pulses: of all streams, by time. triggers: as in the file. length_s: from the first frame to
    the last one. damage: what of the recordings cannot be read, in words.
    """

    cameras: Mapping[str, Camera]
    pulses: Sequence[Pulse]
    triggers: tuple[str, ...]
    length_s: float
    damage: tuple[str, ...]

    def latency(self, way: str) -> tuple[int, float, float, float] | None:
        """How many events have it, and median, 99th percentile and maximum in ms; None for none."""
        found = [pulse.ways_ms[way] for pulse in self.pulses if way in pulse.ways_ms]
        if not found:
            return None
        median, late = np.percentile(found, (50, 99)).tolist()
        return len(found), median, late, max(found)


class _Times:
    """When the frames of a stream were answered, by their numbers."""

    def __init__(self) -> None:
        self._seq: list[int] = []
        self._ns: list[int] = []

    def add(self, seq: int, log_ns: int) -> None:
        self._seq.append(seq)
        self._ns.append(log_ns)

    @property
    def has_any(self) -> bool:
        """Whether any frame was answered."""
        return bool(self._seq)

    def of(self, seq: int) -> int:
        """Of the frame or, where it has no answer, of the last one before it."""
        at = int(np.searchsorted(self._seq, seq, "right")) - 1
        return self._ns[max(at, 0)] if self._ns else 0


def summarise(recordings: Sequence[Path], triggers: tuple[str, ...]) -> tuple[Summary, list[EventLog]]:
    """All of a session's recordings, and the event logs of their streams. Raises RecordingError for no recording.

    A stream that was opened again, and may count its frames from 0 again, is NAME#2, as exported.
    """
    opened = _OpenedStreams(triggers)
    damage: list[str] = []
    for path in recordings:
        with RecordingFile(path) as file:
            for message in file.messages():
                try:
                    record = unpacked(path, message.data)
                    if message.topic == "events" and record["type"] == LOST:
                        # Of any stream: nobody knows whose records are missing.
                        for stream in opened.streams:
                            stream.log.lose_records()
                        damage.append(f"{path.name}: {_lost_words(record)}, maybe with ends of events")
                        continue
                    opened.add(record, message.topic, message.log_ns)
                except MALFORMED:
                    damage.append(f"{path.name}: a damaged message in {message.topic}")
            if file.problem:
                damage.append(f"{path.name}: {file.problem}")
    streams = [stream for stream in opened.streams if stream.times.has_any]
    origin_ns = min((stream.times.of(-1) for stream in streams), default=0)
    pulses = []
    for stream in streams:
        camera, times = stream.camera, stream.times
        camera.first_s, camera.last_s = (times.of(-1) - origin_ns) / 1e9, (times.of(_LAST_SEQ) - origin_ns) / 1e9
        pulses += [_pulse(event, stream.log, times, camera.fps, origin_ns) for event in stream.log.events()]
    pulses.sort(key=lambda pulse: (pulse.start_s, pulse.event.stream, pulse.event.trigger))
    cameras = {stream.camera.name: stream.camera for stream in opened.streams}
    length_s = max((camera.last_s for camera in cameras.values()), default=0.0)
    return Summary(cameras, pulses, triggers, length_s, tuple(damage)), [stream.log for stream in opened.streams]


def _lost_words(record: Mapping[str, Any]) -> str:
    """How much is missing, as the marker has it: records that had no room, or bytes of damage."""
    n, what = next(((record[what], what) for what in ("records", "bytes") if what in record), ("some", "records"))
    return f"{n} {what} are lost"


class _OpenedStream(NamedTuple):
    """A stream from its hello to its end."""

    camera: Camera
    log: EventLog
    times: _Times


class _OpenedStreams:
    """Gathers what recordings say, in their order. streams: in the order of their first words."""

    def __init__(self, triggers: tuple[str, ...]) -> None:
        self._triggers = triggers
        self.streams: list[_OpenedStream] = []
        self._current: dict[str, _OpenedStream] = {}
        self._times_opened: Counter[str] = Counter()

    def add(self, record: Mapping[str, Any], topic: str, log_ns: int) -> None:
        """One message. Raises MALFORMED for one that is damaged."""
        if "stream" not in record:
            return
        name = str(record["stream"])
        if topic == "events" and record["type"] == "hello":
            # What comes late of the stream before, as a line's acknowledgement, still belongs to that one.
            if not record.get("resumed"):  # as `Recorder.record_opening` writes it: true or false
                self._current.pop(name, None)
            self._of(name).camera.fps = float(record["fps"])
        elif topic == "events" and record["type"] == "closed" and name in self._current:
            counters = record.get("counters", {})
            self._current[name].camera.counters = {str(k): int(v) for k, v in counters.items()}
        elif topic == "frames":
            self._of(name).camera.frames += 1
        elif topic == "predictions":
            stream, seq, quality = self._of(name), int(record["seq"]), int(record["quality"])
            stream.camera.answers += 1
            stream.times.add(seq, log_ns)
            stream.log.add_answer(seq)
            stream.camera.flags.update(str(flag.name).lower() for flag in Quality if flag & quality)
        elif topic == "triggers":
            check_record(record)
            self._of(name).log.add(record)

    def _of(self, name: str) -> _OpenedStream:
        if name not in self._current:
            self._times_opened[name] = n = self._times_opened[name] + 1
            opened = name if n == 1 else f"{name}#{n}"
            self._current[name] = _OpenedStream(Camera(opened), EventLog(opened, self._triggers), _Times())
            self.streams.append(self._current[name])
        return self._current[name]


def _pulse(event: TriggerEvent, log: EventLog, times: _Times, fps: float, origin_ns: int) -> Pulse:
    told = log.times_of(event)
    ways = {name: (told[end] - told[start]) / 1e6 for name, start, end in WAYS if start in told and end in told}
    start_s, stop_s = (times.of(event.seq) - origin_ns) / 1e9, None
    if event.last_seq is not None:
        # Until the end of its last frame's interval.
        stop_s = (times.of(event.last_seq) - origin_ns) / 1e9 + (1 / fps if fps else 0.0)
    # By its end, too, where the record of its beginning was lost.
    return Pulse(event, start_s, stop_s, "t_sent_ns" in told or "t_off_ns" in told, ways)
