"""What happens to a message that cannot be handled: its sender is told, its stream counts it, the daemon goes on."""

from __future__ import annotations

import logging

from rtseg.errors import RtsegError
from rtseg.serve.publish.outlet import Outlet
from rtseg.serve.streams.stream import Streams
from rtseg.wire.messages import clip_name

LOG = logging.getLogger("rtseg.serve")


def reject_message(
    streams: Streams,
    outlet: Outlet,
    owner: bytes,
    stream_name: object,
    seq: object,
    error: Exception,
    *,
    limited: bool = True,
    t_recv_ns: int | None = None,
) -> None:
    """Tell `owner` what was wrong with its message, and count it.

    stream_name, seq: as the message has them, whatever they are. limited: errors of one kind about one stream are told
    once a second at most. t_recv_ns: when it came, where it is a frame. An error that is none of rtseg's own is a bug
    here and is logged with its traceback.
    """
    known = clip_name(stream_name) if isinstance(stream_name, str) else None
    stream = streams.find(known or "")
    number = seq if type(seq) is int else None
    # A stranger's message about somebody's stream is not counted against that stream.
    if stream is not None and stream.owner == owner:
        stream.count_refused(None if number is None else t_recv_ns)
    was_told = outlet.complain(owner, known, number, error, limited=limited)
    if was_told and not isinstance(error, RtsegError):
        LOG.error("a message of stream %r could not be handled", known, exc_info=error)
