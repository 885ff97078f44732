"""Sinks: where a trigger's line goes. Each runs in a process of its own and lets go of its lines by itself.

base             What passes between a daemon and a sink, and what a sink is: `Sink`, `LineCommand`, `SinkReport`
leases           Which events are on, and until when: `LeaseTable`
link             A daemon's end, which never waits: `SinkLink`
lsl_sink         Lab Streaming Layer: markers and probabilities: `LslSink`
open_ephys_sink  TTL lines of the Open Ephys GUI: `OpenEphysSink`
osc_sink         Open Sound Control over UDP: `OscSink`
process          The process of a sink: `SinkServer`
select           Which class drives a kind, those of installed packages too: `sink_class`
serial_frames    The frames between the serial sink and the sketch: `Frame`, `FrameReader`
serial_sink      An Arduino or Teensy: `SerialSink`
simulated_board  Such a board, simulated with the sketch's own logic: `SimulatedBoard`
sketch           The sketch itself, for the Arduino IDE, and what simulates it
zmq_sink         Messages over ZeroMQ, for loops on other machines: `ZmqSink`
"""

from rtseg.config import SinkSettings
from rtseg.sinks.base import (
    ACK_OFF,
    ACK_ON,
    ERROR,
    EXPIRED,
    LOST,
    NO_EVENT,
    OFF,
    ON,
    READY,
    RENEW,
    Answer,
    LineCommand,
    LineSpec,
    ProbabilityRow,
    Sink,
    SinkReport,
)
from rtseg.sinks.link import SinkLink

__all__ = [
    "ACK_OFF",
    "ACK_ON",
    "ERROR",
    "EXPIRED",
    "LOST",
    "NO_EVENT",
    "OFF",
    "ON",
    "READY",
    "RENEW",
    "Answer",
    "LineCommand",
    "LineSpec",
    "ProbabilityRow",
    "Sink",
    "SinkLink",
    "SinkReport",
    "SinkSettings",
]
