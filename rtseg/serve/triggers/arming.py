"""Who is armed: asked for by somebody who may, for a time where one was said, and ended by whatever is in doubt.

A daemon starts disarmed. A sink in trouble disarms every stream that needs it, until somebody has looked.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.errors import ServeError
from rtseg.serve.triggers import records
from rtseg.serve.triggers.lines import Lines, not_ready
from rtseg.serve.triggers.live_events import NEVER_NS, LiveEvents, TriggeredStream
from rtseg.serve.triggers.recorder import TriggerRecorder
from rtseg.sinks.link import SinkLink
from rtseg.triggers.cuts import DISARMED, applies, newest_seq

LOG = logging.getLogger("rtseg.serve")
TIME_OVER = "its time is over"


class Arming:
    """Arms and disarms streams. armed_slots: (S,) bool, what the rule is told.

    all_until_ns: until when streams are armed that are opened from now on; 0 = they are not. Where they were, and no
    more are, a stream that is opened is told why: nobody may have been there to be disarmed when that ended.
    """

    def __init__(
        self, armed_slots: NDArray[np.bool_], events: LiveEvents, lines: Lines, recorder: TriggerRecorder
    ) -> None:
        self._armed_slots, self._events, self._lines, self._recorder = armed_slots, events, lines, recorder
        self.all_until_ns, self._why_no_more = 0, ""

    def arm(self, name: str | None, for_s: float | None, by: str) -> None:
        """Arm one open stream, or all and those to come. by: who asked. Raises ServeError where a sink is not ready."""
        until_ns = NEVER_NS if for_s is None else time.monotonic_ns() + int(for_s * 1e9)
        chosen = self._chosen(name)
        used = range(len(self._events.rule.names)) if name is None else applies(self._events.rule, chosen[0].slot)
        if reason := not_ready([link for r in used for link in self._lines.sinks(r)]):
            raise ServeError(f"not armed: {reason}"[:300])
        if name is None:
            self.all_until_ns, self._why_no_more = until_ns, ""
        for of in chosen:
            self._arm(of, until_ns, f"asked to{by}")
        self._events.due_ns = min(self._events.due_ns, until_ns)
        LOG.warning("armed%s: %s, %s", by, name or "all", "until disarmed" if for_s is None else f"for {for_s:g} s")
        self._recorder.tell()

    def disarm(self, name: str | None, by: str) -> None:
        """Disarm one stream, or all and those to come; running events end at once. Raises ServeError."""
        for of in self._chosen(name):
            self.disarm_stream(of, f"asked to{by}")
        if name is None:
            self._arm_no_more(f"asked to{by}")
        LOG.warning("disarmed%s: %s", by, name or "all")
        self._recorder.tell()

    def arm_new(self, of: TriggeredStream) -> None:
        """A stream has begun: arm it where all are, or say why it is not where all were."""
        self._end_all_if_over(time.monotonic_ns())
        used, reason = applies(self._events.rule, of.slot), self._why_no_more
        if self.all_until_ns:
            reason = not_ready([link for r in used for link in self._lines.sinks(r)])[:300]
            if not reason:
                self._arm(of, self.all_until_ns, "all are")
        if reason:
            LOG.warning("stream %r is not armed: %s", of.stream.name, reason)
            seq = newest_seq(self._events.rule, of.slot)
            self._recorder.record(of.stream, records.arming(seq, reason, armed=False, for_s=None))

    def disarm_stream(self, of: TriggeredStream, reason: str, why: str = DISARMED) -> None:
        """End its events, and begin none. why: what their ends say, of `cuts.CUTS`."""
        self._armed_slots[of.slot] = False
        self._events.cut_all(of, why)
        if of.is_armed:
            of.is_armed, of.armed_until_ns = False, NEVER_NS
            seq = newest_seq(self._events.rule, of.slot)
            self._recorder.record(of.stream, records.arming(seq, reason, armed=False, for_s=None))

    def disarm_users(self, links: Sequence[SinkLink], reason: str) -> None:
        """A sink is in trouble: nothing that needs it fires until somebody has looked, and arms again."""
        names = ", ".join(link.name for link in links)
        self._arm_no_more(f"sink {names}: {reason}"[:300])
        for of in self._events.open.values():
            used = applies(self._events.rule, of.slot)
            if of.is_armed and any(link in self._lines.sinks(r) for r in used for link in links):
                LOG.error("stream %r is disarmed: sink %s: %s", of.stream.name, names, reason)
                self.disarm_stream(of, f"sink {names}: {reason}"[:300])

    def disarm_all(self, reason: str) -> None:
        """Nothing fires any more until somebody has looked, and arms again."""
        self._arm_no_more(reason)
        for of in self._events.open.values():
            if of.is_armed:
                LOG.error("stream %r is disarmed: %s", of.stream.name, reason)
                self.disarm_stream(of, reason)

    def disarm_overdue(self, now_ns: int) -> int:
        """Disarm those whose time is over; when the next one's is."""
        self._end_all_if_over(now_ns)
        next_ns = NEVER_NS
        for of in self._events.open.values():
            if of.is_armed and now_ns >= of.armed_until_ns:
                self.disarm_stream(of, TIME_OVER)
                LOG.warning("stream %r is disarmed: %s", of.stream.name, TIME_OVER)
            elif of.is_armed:
                next_ns = min(next_ns, of.armed_until_ns)
        return min(next_ns, self.all_until_ns or NEVER_NS)

    def summary(self) -> dict[str, Any]:
        """Who is armed: streams, whether all that are opened are, and for how many seconds yet where that ends."""
        now_ns, armed = time.monotonic_ns(), [of for of in self._events.open.values() if of.is_armed]
        until_ns = {of.stream.name: of.armed_until_ns for of in armed} | {"": self.all_until_ns}
        return {
            "armed": [of.stream.name for of in armed],
            "all": self.all_until_ns > now_ns,
            "left_s": {n: round((at - now_ns) / 1e9, 1) for n, at in until_ns.items() if now_ns < at < NEVER_NS},
        }

    def _arm_no_more(self, reason: str) -> None:
        """Streams that are opened from now on are not armed."""
        if self.all_until_ns:
            self.all_until_ns, self._why_no_more = 0, reason

    def _end_all_if_over(self, now_ns: int) -> None:
        """Arm no new ones once the time is over for which all are armed."""
        if self.all_until_ns <= now_ns:
            self._arm_no_more(TIME_OVER)

    def _chosen(self, name: str | None) -> list[TriggeredStream]:
        chosen = [of for of in self._events.open.values() if name in (None, of.stream.name)]
        if name is not None and not chosen:
            raise ServeError(f"stream {name!r} is not open, or no trigger is for it"[:300])
        return chosen

    def _arm(self, of: TriggeredStream, until_ns: int, reason: str) -> None:
        of.is_armed, of.armed_until_ns = True, until_ns
        self._armed_slots[of.slot] = True
        for_s = None if until_ns == NEVER_NS else round((until_ns - time.monotonic_ns()) / 1e9, 3)
        seq = newest_seq(self._events.rule, of.slot)
        self._recorder.record(of.stream, records.arming(seq, reason, armed=True, for_s=for_s))
