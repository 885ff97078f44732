"""The settings of sinks: where a trigger's line goes. A section `[sinks.NAME]` each in the trigger file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rtseg.config.checks import require
from rtseg.errors import SettingError

LSL_SCOPES = ("machine", "link", "site")
MESSAGE_FORMATS = ("msgpack", "json")


@dataclass(frozen=True, kw_only=True)
class SinkSettings:
    """What every sink has, and all that one of a laboratory's own (an entry point of `rtseg.sinks`) has.

    kind: `zmq`, `serial`, `lsl`, `osc`, `open_ephys`, or the name of an entry point. heartbeat_s: how often a sign of
    life goes to the other end, which answers it where it can. answer_s: what acknowledges must do so within this time,
    or the sink is lost. start_s: how long opening may take. busy_poll: its process never sleeps, and keeps what an
    event takes in the caches; takes a whole core. options: of a sink of your own, which checks them.
    """

    kind: str
    heartbeat_s: float = 0.25
    answer_s: float = 0.1
    start_s: float = 10.0
    busy_poll: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # A far end that is silent is noticed after four heartbeats.
        for name, longest in (("heartbeat_s", 60), ("answer_s", 3600), ("start_s", 3600)):
            value = getattr(self, name)
            require(0.01 <= value <= longest, f"{name} must be from 0.01 to {longest}, got {value}")
        require(
            not self.options or type(self) is SinkSettings,
            f"options are for sinks of your own; {self.kind!r} has its keys beside `kind`",
        )
        try:
            json.dumps(self.options)  # as its process gets them
        except (TypeError, ValueError, RecursionError) as error:
            raise SettingError(f"options must be texts, numbers, truths, lists and tables of these: {error}") from None

    @staticmethod
    def section_kind(section: Mapping[str, Any]) -> type[SinkSettings]:
        """The dataclass that a section's `kind` asks for."""
        kind = section.get("kind")
        return SINK_KINDS.get(kind, SinkSettings) if isinstance(kind, str) else SinkSettings


@dataclass(frozen=True, kw_only=True)
class ZmqSinkSettings(SinkSettings):
    """Lines published over ZeroMQ (docs/sinks/zmq.md).

    address: where it listens; beyond loopback only with keys. acknowledgements: a second address, at which the
    receiver acknowledges; "" = it does not. keys: the folder of keys, as `rtseg serve --keys`; "" = none. format:
    `msgpack`, or `json` for receivers that have no msgpack.
    """

    address: str
    acknowledgements: str = ""
    keys: str = ""
    format: str = "msgpack"

    def __post_init__(self) -> None:
        super().__post_init__()
        accepted = ", ".join(MESSAGE_FORMATS)
        require(self.format in MESSAGE_FORMATS, f"format must be one of {accepted}, got {self.format!r}")


@dataclass(frozen=True, kw_only=True)
class SerialSinkSettings(SinkSettings):
    """An Arduino or Teensy with the sketch rtseg_line (docs/sinks/serial.md). port: its device. baud: as in the sketch;
    a board with USB of its own (Teensy, Leonardo) takes no notice of it.
    """

    port: str
    baud: int = 500_000

    def __post_init__(self) -> None:
        super().__post_init__()
        require(bool(self.port), "port must name a serial device, e.g. /dev/ttyACM0")
        require(1200 <= self.baud <= 4_000_000, f"baud must be from 1200 to 4000000, got {self.baud}")


@dataclass(frozen=True, kw_only=True)
class LslSinkSettings(SinkSettings):
    """Lab Streaming Layer (docs/sinks/lsl.md). name: of the stream of markers. probabilities: whether each camera's
    probabilities are a stream as well. scope: how far inlets look for them: `machine`, `link` or `site`.
    """

    name: str = "rtseg"
    probabilities: bool = True
    scope: str = "machine"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(bool(self.name), "name must not be empty")
        accepted = ", ".join(LSL_SCOPES)
        require(self.scope in LSL_SCOPES, f"scope must be one of {accepted}, got {self.scope!r}")


@dataclass(frozen=True, kw_only=True)
class OscSinkSettings(SinkSettings):
    """Open Sound Control over UDP (docs/sinks/osc.md). address: HOST:PORT of the receiver. prefix: of all OSC
    addresses. acknowledge: whether the receiver answers each message that turns a line on or off.
    """

    address: str
    prefix: str = "/rtseg"
    acknowledge: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        host, colon, port = self.address.rpartition(":")
        is_port = port.isascii() and port.isdigit() and 0 < int(port) < 65536
        require(bool(host and colon) and is_port, f"address must be HOST:PORT, got {self.address!r}")
        require(
            self.prefix.startswith("/") and not self.prefix.endswith("/") and not set(self.prefix) & set(" #*,?[]{}"),
            f"prefix must begin with a slash, as /rtseg, got {self.prefix!r}",
        )


@dataclass(frozen=True, kw_only=True)
class OpenEphysSinkSettings(SinkSettings):
    """The plugin Network Events of the Open Ephys GUI (docs/sinks/open_ephys.md). address: where it listens.

    It writes every message that it gets into the recording, so heartbeats are rarer; and it answers from the thread
    that draws its window, which takes longer.
    """

    address: str = "tcp://127.0.0.1:5556"
    heartbeat_s: float = 1.0
    answer_s: float = 1.0


SINK_KINDS: Mapping[str, type[SinkSettings]] = {
    "zmq": ZmqSinkSettings,
    "serial": SerialSinkSettings,
    "lsl": LslSinkSettings,
    "osc": OscSinkSettings,
    "open_ephys": OpenEphysSinkSettings,
}
"""The sinks that come with rtseg."""
