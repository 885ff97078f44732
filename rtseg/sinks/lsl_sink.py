"""Streams of the Lab Streaming Layer: markers of all lines, and every camera's probabilities (docs/sinks/lsl.md).

Both carry times of this machine's clock, which inlets and LabRecorder bring to theirs.
"""

from __future__ import annotations

import os
import time
from array import array
from typing import Any, ClassVar

from rtseg.config import LslSinkSettings
from rtseg.errors import SinkError, needs_extra
from rtseg.sinks.base import LineCommand, ProbabilityRow, Sink

MAX_STREAMS = 64
"""Cameras with a stream of their own; each takes threads and a port."""
LINGER_S = 0.3
MANUFACTURER = "rtseg"


class LslSink(Sink):
    """An outlet for markers, and one for each camera from its first answer on."""

    takes_probabilities: ClassVar[bool] = True
    settings: LslSinkSettings

    def open(self) -> str:
        """Open the outlet of markers."""
        try:
            import pylsl
        except ImportError:
            raise needs_extra("pylsl", "lsl", "an LSL sink") from None
        except RuntimeError as error:  # no liblsl for this system
            raise SinkError(f"sinks.{self.name}: pylsl finds no liblsl: {error}") from None
        self._pylsl = pylsl
        scope = f"within the {self.settings.scope}"
        if "LSLAPICFG" in os.environ:  # a laboratory's own file says this, and more
            scope = f"as {os.environ['LSLAPICFG']} says"
        else:
            pylsl.set_config_content(f"[multicast]\nResolveScope = {self.settings.scope}\n[log]\nlevel = -2\n")
        # On Linux both clocks are the same; elsewhere they may begin at another time.
        self._lsl_minus_monotonic_s = pylsl.local_clock() - time.monotonic()
        info = self._info(self.settings.name, "Markers", 1, pylsl.IRREGULAR_RATE, pylsl.cf_string)
        self._describe(info, [("marker", "Marker", "")])
        self._markers = pylsl.StreamOutlet(info)
        self._probabilities: dict[str, Any] = {}
        return f"LSL stream {self.settings.name!r}, {scope}"

    def turn_on(self, command: LineCommand) -> None:
        """A marker TRIGGER/STREAM/on."""
        self._mark(command, "on")

    def turn_off(self, command: LineCommand, reason: str) -> None:
        """A marker TRIGGER/STREAM/off."""
        self._mark(command, "off")

    def send_probabilities(self, row: ProbabilityRow) -> None:
        """A sample of the camera's stream, at the time when its frame came."""
        if not self.settings.probabilities:
            return
        values = array("f", row.probs)
        if len(values) != len(self.channels):
            raise SinkError(f"stream {row.stream!r}: {len(values)} probabilities for {len(self.channels)} channels")
        if row.stream not in self._probabilities:
            self._probabilities[row.stream] = self._open_probabilities(row)
        outlet = self._probabilities[row.stream]
        if outlet is not None:
            outlet.push_sample(values.tolist(), row.t_ns / 1e9 + self._lsl_minus_monotonic_s)

    def close(self) -> None:
        """Close the outlets, once the last markers have left: liblsl tells nobody when, and drops what has not."""
        if getattr(self, "_markers", None) is not None and self._markers.have_consumers():
            time.sleep(LINGER_S)
        self._probabilities, self._markers = {}, None

    def _mark(self, command: LineCommand, state: str) -> None:
        marker = f"{self.lines[command.line].trigger}/{command.stream}/{state}"
        self._markers.push_sample([marker])

    def _open_probabilities(self, row: ProbabilityRow) -> Any:
        """The outlet of a camera; None where there are too many."""
        if len(self._probabilities) >= MAX_STREAMS or not self.channels:
            return None
        rate = row.fps or self._pylsl.IRREGULAR_RATE
        name = f"{self.settings.name} {row.stream}"
        info = self._info(name, "Probabilities", len(self.channels), rate, self._pylsl.cf_float32)
        self._describe(info, [(label, "Probability", "probability") for label in self.channels])
        return self._pylsl.StreamOutlet(info)

    def _info(self, name: str, kind: str, channels: int, rate: float, value: Any) -> Any:
        # The same after a restart, by which inlets find the stream again.
        return self._pylsl.StreamInfo(name, kind, channels, rate, value, f"rtseg {self.name} {name}")

    def _describe(self, info: Any, channels: list[tuple[str, str, str]]) -> None:
        """What XDF files and viewers show: labels, types, units."""
        info.desc().append_child_value("manufacturer", MANUFACTURER)
        described = info.desc().append_child("channels")
        for label, kind, unit in channels:
            channel = described.append_child("channel")
            for name, value in (("label", label), ("unit", unit), ("type", kind)):
                channel.append_child_value(name, value)
