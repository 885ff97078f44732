"""Who is expected in a session, who is there, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rtseg.config import CameraSettings
from rtseg.wire.messages import PredictionMessage, StreamEvent

TOLD = ("rate", "frozen", "unfrozen", "renumbered", "overload", "scale", "clock")
"""Events of streams that a person at the experiment should know of."""
_RECORDING = "recording"
"""The state of a recorder to which nothing has happened."""


class CameraWatch:
    """Follows what a daemon publishes. problems: what was wrong, in words, as it happened."""

    def __init__(self, expected: Mapping[str, CameraSettings]) -> None:
        self._expected = expected
        self._answered: set[str] = set()
        self._closed: set[str] = set()
        self._recorder_state = _RECORDING
        self.problems: list[str] = []

    @property
    def missing(self) -> list[str]:
        """Expected streams that have not been answered yet, or have ended."""
        return [name for name in self._expected if name not in self._answered or name in self._closed]

    def follow(self, message: PredictionMessage | StreamEvent) -> list[str]:
        """What a message says of cameras, in words; [] for nearly every one."""
        name = message.stream
        if isinstance(message, PredictionMessage):
            if name in self._answered:
                return []
            self._answered.add(name)
            known = "" if name in self._expected else ", which the experiment does not expect"
            return self._tell(f"camera {name}{known}: first answer, frame {message.seq}", is_problem=bool(known))
        reason = message.fields.get("reason")
        if message.type == "opened":
            self._closed.discard(name)
        elif message.type == "closed" and name in self._answered:
            self._closed.add(name)
            return self._tell(f"camera {name}: closed ({reason})", is_problem=reason != "bye")
        elif message.type == "stale":
            # Counted and not said: on a busy computer it happens every now and then.
            self.problems.append(f"camera {name}: no frame for two intervals")
        elif message.type == "recorder":
            return self._follow_recorder(message.fields)
        elif message.type == "model":
            served = f"hash {message.fields.get('model')}"
            return self._tell(f"camera {name}: another model answers from now on ({served})", is_problem=True)
        elif message.type in TOLD:
            told = {k: v for k, v in message.fields.items() if k not in ("v", "type", "stream", "t_pub_ns")}
            words = ", ".join(f"{key} {value}" for key, value in told.items())
            return self._tell(f"camera {name}: {message.type} {words}".rstrip(), is_problem=True)
        return []

    def check_rates(self, rates: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """What a daemon's status says of rates beside those that are expected, in words."""
        wrong = [
            f"camera {name}: declares {rates[name]['declared']:g} frames per second, where {camera.fps:g} are expected"
            for name, camera in self._expected.items()
            if camera.fps and name in rates and abs(rates[name]["declared"] / camera.fps - 1) > 0.01
        ]
        self.problems += wrong
        return wrong

    def _follow_recorder(self, fields: Mapping[str, Any]) -> list[str]:
        """Of the recording that all cameras go into; each of their topics tells of it."""
        state = str(fields.get("state"))
        if state == self._recorder_state:
            return []
        self._recorder_state = state
        reason = f": {fields.get('reason')}" if fields.get("reason") else ""
        lost = f", {fields.get('lost')} records lost so far" if fields.get("lost") else ""
        return self._tell(f"the recording is now '{state}'{reason}{lost}", is_problem=state != _RECORDING)

    def _tell(self, words: str, *, is_problem: bool) -> list[str]:
        if is_problem:
            self.problems.append(words)
        return [words]
