"""Part of `rtseg replay --verify`: the triggers stepped again over the recorded answers, and every decision compared.

What came in from outside the frames (arming, cuts, lateness) is taken from the recording, where it was recorded.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Any

from rtseg.bundle.bundle import Bundle
from rtseg.config import TriggerFile
from rtseg.inference.predictions import Prediction
from rtseg.serve.streams.stream import Stream
from rtseg.serve.triggers.records import BEGAN, ENDS, check_record, is_cut
from rtseg.serve.triggers.rule_replay import Decision, RuleReplay
from rtseg.triggers.cuts import pack_memory, restore_memory
from rtseg.triggers.rule import TriggerRule


class TriggerCheck:
    """The triggers of one stream, run again. known: whether what they remember is what the daemon's did.

    decisions: compared so far.
    """

    def __init__(self, file: TriggerFile, bundle: Bundle, stream: Stream, *, known: bool) -> None:
        points = math.prod(bundle.skeleton.shape)
        self._rule = TriggerRule(file.triggers, bundle.heads, bundle.fps, slots=1, points=points)
        self._stream, self._camera_fps = stream.name, stream.hello.fps if stream.session.is_resampled else None
        self.known, self.decisions = known, 0
        self._start()

    def restore(self, data: bytes) -> None:
        """Go on from a recorded state; b"" = nothing was remembered. Raises SnapshotError."""
        self._start()
        if data:
            self._replay.armed, self._replay.begun = restore_memory(self._rule, 0, data)
        self.known = bool(data)

    def is_same_state(self, data: bytes) -> bool:
        """Whether a recorded state is the one here."""
        return not self.known or data == pack_memory(self._rule, 0, self._replay.begun, armed=self._replay.armed)

    def forget(self) -> None:
        """Compare nothing until the next recorded state."""
        self.known = False
        self._computed.clear()
        self._recorded.clear()

    def step(self, prediction: Prediction) -> str:
        """An answer that was published; "" or, where a decision is not the recorded one, how it differs."""
        if not self.known:
            return ""
        self._computed += self._replay.step(prediction)
        return self._compare()

    def add(self, record: Mapping[str, Any]) -> str:
        """A record of the recording; as `step`. Raises MALFORMED where it is none."""
        check_record(record)
        if not self.known:
            return ""
        if record["type"] == BEGAN:
            self._recorded.append((BEGAN, *(record[key] for key in ("trigger", "seq", "decision", "arm"))))
        elif record["type"] == ENDS and not is_cut(record):
            self._recorded.append((ENDS, record["trigger"], record["seq"], record["ended"], ""))
        elif problem := self._replay.apply(record):
            return f"stream {self._stream!r}: the recording {problem}"
        return self._compare()

    def end(self) -> str:
        """The stream ends: nothing may be left; as `step`."""
        if not self.known:
            return ""
        if self._computed:
            return f"{self._told(self._computed[0])} is decided here, and was not recorded"
        if self._recorded:
            return f"{self._told(self._recorded[0])} was recorded, and is not decided here"
        return ""

    def _start(self) -> None:
        self._rule.open_slot(0, self._stream, self._camera_fps)
        self._replay = RuleReplay(self._rule, 0)
        # Recorded before the answers that they are about, computed after them.
        self._computed: deque[Decision] = deque()
        self._recorded: deque[Decision] = deque()

    def _compare(self) -> str:
        while self._computed and self._recorded:
            computed, recorded = self._computed.popleft(), self._recorded.popleft()
            self.decisions += 1
            if computed != recorded:
                return f"{self._told(recorded)} was recorded, and here it is {self._told(computed)}"
        return ""

    def _told(self, decision: Decision) -> str:
        kind, trigger, seq, what, arm = decision
        event = f"stream {self._stream!r}: trigger {trigger!r}, event of seq {seq}"
        return f"{event}: ended, {what}" if kind == ENDS else f"{event}: {what}, arm {arm}"
