"""Which class drives a kind of sink: one that comes with rtseg, or one that an installed package brings.

A package names its own as an entry point of the group `rtseg.sinks` (docs/sinks/own.md).
"""

from __future__ import annotations

import importlib

from rtseg.config import SINK_KINDS
from rtseg.errors import SettingError
from rtseg.sinks.base import Sink

ENTRY_POINTS = "rtseg.sinks"
_CLASSES = {
    "zmq": "zmq_sink:ZmqSink",
    "serial": "serial_sink:SerialSink",
    "lsl": "lsl_sink:LslSink",
    "osc": "osc_sink:OscSink",
    "open_ephys": "open_ephys_sink:OpenEphysSink",
}


def sink_class(name: str, kind: str) -> type[Sink]:
    """The class of a kind. name: the section's, for errors. Raises SettingError for a kind that nobody brings."""
    if kind in SINK_KINDS:
        module, _, attribute = _CLASSES[kind].partition(":")
        found = getattr(importlib.import_module(f"rtseg.sinks.{module}"), attribute)
    else:
        from importlib.metadata import entry_points  # which takes a while to import, and few need

        own = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
        if kind not in own:
            accepted = ", ".join([*SINK_KINDS, *sorted(own)])
            raise SettingError(
                f"sinks.{name}: kind {kind!r} is unknown; there are: {accepted}; one of your own is an entry point of "
                f"{ENTRY_POINTS!r} of an installed package"
            )
        try:
            found = own[kind].load()
        except Exception as error:  # whatever a package does when it is imported
            raise SettingError(
                f"sinks.{name}: the entry point {own[kind].value!r} cannot be loaded: {error}"
            ) from error
    if not (isinstance(found, type) and issubclass(found, Sink)):
        raise SettingError(f"sinks.{name}: kind {kind!r} must be a class derived from rtseg.sinks.Sink, got {found!r}")
    return found
