"""What goes wrong with events between two frames: sinks' reports, leases nobody renewed, missing acknowledgements.

Whatever is in doubt ends the event, and a sink in trouble disarms whoever needs it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from rtseg.serve.triggers import records
from rtseg.serve.triggers.arming import Arming
from rtseg.serve.triggers.lines import Lines
from rtseg.serve.triggers.live_events import NEVER_NS, LiveEvents
from rtseg.serve.triggers.recorder import TriggerRecorder
from rtseg.sinks.base import ACK_OFF, ACK_ON, ERROR, EXPIRED, LOST, READY, SinkReport
from rtseg.sinks.link import SinkLink
from rtseg.system.machine import suspended_ns
from rtseg.triggers import cuts

LOG = logging.getLogger("rtseg.serve")
LOOK_AFTER_NS = 100_000_000
"""How often sinks' processes are looked after."""
SUSPENDED_NS = 1_000_000_000
"""A machine that has slept for so long was suspended: less is what two readings of clocks may differ by."""
_WORDS = {ACK_ON: "on", ACK_OFF: "off", EXPIRED: "expired", ERROR: "error"}


class SinkWatch:
    """Watches sinks and events. reports_wait: to be set where a sink's descriptor is readable."""

    def __init__(self, lines: Lines, events: LiveEvents, arming: Arming, recorder: TriggerRecorder) -> None:
        self._lines, self._events, self._arming, self._recorder = lines, events, arming, recorder
        self._look_after_ns = 0 if lines.links else NEVER_NS
        self.reports_wait, self._suspended_ns = False, suspended_ns()
        self._lost: dict[str, str] = {}  # sinks that are lost, and what was said of each last

    @property
    def due_ns(self) -> int:
        """When `run_due` must be called at the latest."""
        return min(self._events.due_ns, self._look_after_ns)

    def run_due(self, now_ns: int) -> None:
        """Read reports where some wait, look after the sinks' processes, end what is overdue."""
        if self.reports_wait:
            self.reports_wait = False
            for link in self._lines.links.values():
                self._take_reports(link, link.receive())
        if now_ns >= self._look_after_ns:
            self._look_after_ns = now_ns + LOOK_AFTER_NS
            self._disarm_suspended()
            for link in self._lines.links.values():
                self._take_reports(link, link.look_after())
        if now_ns >= self._events.due_ns:
            self.end_overdue(now_ns)

    def _disarm_suspended(self) -> None:
        """No time counts while a machine is suspended, so streams would be armed long after they were to be."""
        before_ns, self._suspended_ns = self._suspended_ns, suspended_ns()
        slept_s = (self._suspended_ns - before_ns) / 1e9
        if slept_s >= SUSPENDED_NS / 1e9:
            self._arming.disarm_all(f"the machine was suspended for {slept_s:.0f} s")

    def end_overdue(self, now_ns: int) -> None:
        """End events that no answer renewed in time or no sink acknowledged; disarm those whose time is over."""
        next_ns = NEVER_NS
        for of in self._events.open.values():
            for event in list(of.live.values()):
                if now_ns >= event.due_ns:
                    self._events.cut(of, event, cuts.STALE)
                elif event.waiting and now_ns >= event.ack_due_ns:
                    silent = [link for link in self._lines.sinks(event.r) if link.name in event.waiting]
                    self._events.cut(of, event, cuts.NO_ACKNOWLEDGEMENT)
                    self._arming.disarm_users(silent, cuts.NO_ACKNOWLEDGEMENT)
                else:
                    next_ns = min(next_ns, event.due_ns, event.ack_due_ns if event.waiting else NEVER_NS)
        self._events.due_ns = min(next_ns, self._arming.disarm_overdue(now_ns))

    def end_failed(self) -> None:
        """End events that a sink did not take, or that could not be recorded."""
        failures, self._events.failures = self._events.failures, []
        for of, event, why in failures:
            if of.live.get(event.r) is event:
                self._events.cut(of, event, why)
            if why == cuts.NOT_RECORDED:
                self._arming.disarm_all("the recording has no room: an event that nobody could find in it is not given")
            else:
                self._arming.disarm_users(self._lines.sinks(event.r), why)

    def _take_reports(self, link: SinkLink, reports: Iterable[SinkReport]) -> None:
        for report in reports:
            if report.kind == READY:
                self._lost.pop(link.name, None)
                LOG.info("sink %r is ready: %s", link.name, report.text)
                continue
            told = self._events.told(report.event)
            if told is not None:
                word = _WORDS.get(report.kind, "lost")
                message = records.acknowledged(report.event, told[1], link.name, word, report.t_ns, report.text)
                self._recorder.record(told[0], message)
            found = self._events.find(report.event)
            if report.kind == EXPIRED and found is not None:
                # The same lease ends here and there, whoever sees it first.
                is_overdue = report.t_ns >= found[1].due_ns
                self._events.cut(*found, cuts.STALE if is_overdue else cuts.EXPIRED)
            elif report.kind == ACK_ON and found is not None:
                found[1].waiting = tuple(name for name in found[1].waiting if name != link.name)
            elif report.kind in (LOST, ERROR):
                self._lose(link, report)

    def _lose(self, link: SinkLink, report: SinkReport) -> None:
        # One that is away is looked for again and again: lost once, and told where it says something new.
        said = self._lost.get(link.name)
        self._recorder.counters["sinks lost"] += said is None
        if said != report.text:
            LOG.error("sink %r: %s", link.name, report.text)
        self._lost[link.name] = report.text
        for of, event in self._events.using([link]):
            self._events.cut(of, event, cuts.LOST_SINK)
        self._arming.disarm_users([link], f"{cuts.LOST_SINK}: {report.text}")
