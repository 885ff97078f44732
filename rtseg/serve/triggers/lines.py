"""Which sinks a trigger's line goes to, and what they are told. Never waits."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

from rtseg.config import ServeSettings, TriggerFile, TriggerSettings
from rtseg.errors import SettingError
from rtseg.recordings.heads import Head
from rtseg.sinks.base import LineCommand, LineSpec
from rtseg.sinks.link import IS_READY, SinkLink
from rtseg.sinks.select import sink_class
from rtseg.triggers.cuts import LOST_SINK, QUEUE_FULL

SPARE_S = 0.1
"""The rule counts frames, the sink measures time: it must not be the sink that ends an event of the full length."""


def open_links(
    file: TriggerFile, heads: Sequence[Head], settings: ServeSettings, opened: contextlib.ExitStack
) -> dict[str, SinkLink]:
    """Start the sinks that triggers name. heads: whose probabilities there are. opened: closes the sinks.

    Raises ServeError where this system has none, SettingError for a pulse train that nobody would make.
    """
    check_trains(file)
    channels = [f"{head.name}:{name}" for head in heads for name in head.classes]
    links: dict[str, SinkLink] = {}
    for name, sink in file.sinks.items():
        if specs := line_specs(file.triggers, name):
            # The first core is the loop's; and what turns a line off comes before everything else. But one that never
            # sleeps would keep its core from the system's own threads, which bring what it waits for.
            has_priority = settings.priority and not sink.busy_poll
            cpus, priority = settings.cpus[1:], min(settings.priority + 1, 99) if has_priority else 0
            links[name] = SinkLink(name, sink, specs, channels, cpus=cpus, priority=priority)
            opened.callback(links[name].close)
    return links


def check_trains(file: TriggerFile) -> None:
    """Raise SettingError for a trigger with a pulse train none of whose sinks makes one: its line would be steady."""
    for name, trigger in file.triggers.items():
        kinds = {sink: file.sinks[sink].kind for sink in trigger.sinks}
        if trigger.train_hz and kinds and not any(sink_class(s, kind).makes_trains for s, kind in kinds.items()):
            named = ", ".join(f"{sink} ({kind})" for sink, kind in kinds.items())
            raise SettingError(
                f"triggers.{name}: train_hz = {trigger.train_hz:g}: none of its sinks makes pulse trains: {named}; put "
                "it on a serial sink, or leave train_hz out and let the receiver make them"
            )


def line_specs(triggers: Mapping[str, TriggerSettings], sink: str) -> list[LineSpec]:
    """The lines of a sink: one for each trigger that names it, in the file's order."""
    return [
        LineSpec(
            name,
            name if trigger.line == "" else trigger.line,
            *(trigger.train_hz, trigger.train_width_s, trigger.max_on_s * 1.02 + SPARE_S),
        )
        for name, trigger in triggers.items()
        if sink in trigger.sinks
    ]


class Lines:
    """The lines of R triggers. links: by the sinks' names."""

    def __init__(self, triggers: Mapping[str, TriggerSettings], links: Mapping[str, SinkLink]) -> None:
        self.links = dict(links)
        self._of: list[list[tuple[SinkLink, int]]] = []
        next_line = dict.fromkeys(links, 0)
        for trigger in triggers.values():
            places = [(links[sink], next_line[sink]) for sink in trigger.sinks]
            self._of.append(places)
            for sink in trigger.sinks:
                next_line[sink] += 1

    def sinks(self, r: int) -> list[SinkLink]:
        """Those that trigger r's line goes to; [] for a trigger that is only recorded."""
        return [link for link, _ in self._of[r]]

    def answer_s(self, r: int) -> float:
        """How long trigger r's sinks may take to acknowledge an event."""
        return max((link.settings.answer_s for link, _ in self._of[r]), default=0.0)

    def send(self, kind: int, event: int, r: int, hold_ns: int, now_ns: int, seq: int, stream: str) -> str:
        """Tell trigger r's sinks; "" or, where one was not told, why."""
        failed = ""
        for link, line in self._of[r]:
            if not link.send(LineCommand(kind, event, line, hold_ns, now_ns, seq, stream)):
                failed = QUEUE_FULL if link.state == IS_READY else LOST_SINK
        return failed


def not_ready(links: Sequence[SinkLink]) -> str:
    """What keeps these sinks from being used, "" where all are ready."""
    return "; ".join(f"sink {link.name!r} is {link.state}: {link.text}" for link in links if link.state != IS_READY)
