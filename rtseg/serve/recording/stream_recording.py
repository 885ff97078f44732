"""The daemon and its recording: what goes in when, and what a stream that comes back is given from it.

Stands between the hot loop and `recorder`, and exists only where the daemon records. A worker records its own streams
into a file of its own, for it alone knows which frames it took, and in which order; its file is written to the end when
it is killed, so the one in its place reads there what has been answered, and records what has not.
"""

from __future__ import annotations

import json
import logging
import platform
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numba
import numpy as np
import zmq

import rtseg
from rtseg.config import ServeSettings, WorkerPlace
from rtseg.errors import RtsegError
from rtseg.recorder.recorder import Recorder
from rtseg.serve.recording.resume import Past, bring_back, open_streams, read_pasts, same_source
from rtseg.serve.streams.served_model import Model
from rtseg.serve.streams.stream import Stream
from rtseg.wire.messages import parse_frame, unpack

LOG = logging.getLogger("rtseg.serve")


class Tape:
    """A daemon's recording, and the streams of the ones before it that may come back.

    relay: a worker's place behind a front. Raises ServeError where a recording cannot be begun.
    """

    def __init__(self, model: Model, settings: ServeSettings, relay: WorkerPlace | None = None) -> None:
        folder = Path(settings.record)
        self._idle_ns = int(settings.idle_timeout_s * 1e9)
        self._pasts: dict[str, Past] = {}
        if settings.resume:
            # A stream that has been silent for longer would have been closed had the daemon lived.
            # Other workers of this run are writing theirs.
            wanted = (lambda session: True) if relay is None else relay.may_read
            self._pasts = read_pasts(folder, time.time_ns() - self._idle_ns, wanted)
            LOG.info("streams that may be resumed: %s", ", ".join(open_streams(self._pasts)) or "none")
        about, name = _about(model, settings), ""
        self._replaced: dict[str, Past] = {}
        if relay is not None:
            about |= relay.about()
            name = f"-w{relay.number}"
            if relay.replaces:
                self._replaced = read_pasts(folder, relay.since_ns, relay.is_own)
        self._recorder = Recorder(folder, about, settings, name)
        self.frame, self.prediction, self.event = (
            self._recorder.record_frame,
            self._recorder.record_prediction,
            self._recorder.record_event,
        )
        self.status = self._recorder.status
        LOG.info("recording to %s", self._recorder.file)

    def begin(self, stream: Stream, now_ns: int) -> tuple[int | None, list[bytes]]:
        """A stream has been opened: record it, and put it where it stood if it is one that comes back.

        Returns the last frame that is known of it (None = it is new), and the frames that are still to be answered.
        """
        past = self._past_of(stream)
        hello = stream.hello.to_message()
        if past is not None:
            try:
                waiting = bring_back(stream, past)
            except RtsegError as error:
                LOG.warning("stream %r begins afresh: %s", stream.name, error)
                stream.session.reset()
            else:
                self.go_on(stream, now_ns)
                LOG.info("stream %r goes on, %d frames are still to be answered", stream.name, len(waiting))
                return _last_seq(stream, waiting), waiting
        self._recorder.record_opening(hello, now_ns)
        return None, []

    def go_on(self, stream: Stream, now_ns: int) -> None:
        """A stream that comes back stands where it stood: what follows is recorded."""
        self._recorder.record_opening(stream.hello.to_message(), now_ns, resumed=True)
        self.note(stream, now_ns)

    def replaced(self, name: str, opened_ns: int) -> Past | None:
        """Where a stream of the worker that this one replaces stands in its recording; once."""
        past = self._replaced.pop(name, None)
        self._pasts.pop(name, None)
        return past if past is not None and past.opened_ns == opened_ns else None

    def end(self, stream: Stream) -> None:
        """A stream has been closed."""
        self._recorder.forget_stream(stream.name)

    def note(self, stream: Stream, now_ns: int) -> None:
        """Record a stream's state: another model answers from here on, or a snapshot is due."""
        hello, state = stream.hello.to_message(), stream.session.snapshot()
        self._recorder.record_snapshot(hello, state, now_ns, stream.opened_ns, stream.answers)

    def due(self, now_ns: int) -> str | None:
        """The stream whose state should be noted now, if any. Cheap: to be asked in every turn of the loop."""
        return self._recorder.stream_due_for_snapshot(now_ns)

    def news(self, now_ns: int) -> dict[str, Any] | None:
        """An event for everybody, where the recording's state has changed."""
        return self._recorder.state_change(now_ns)

    def counted(self) -> dict[str, int]:
        """For the daemon's counters: what should make somebody look."""
        status = self._recorder.status()
        trouble = int(status["state"] != "recording")
        return {"recording trouble": trouble, "records lost": status["lost"], "writer restarts": status["restarts"]}

    def close(self) -> None:
        """Close the recording."""
        self._recorder.close()

    def _past_of(self, stream: Stream) -> Past | None:
        past = self._pasts.pop(stream.name, None)
        if past is None or stream.hello.resume is False:
            return None
        if time.time_ns() - past.last_ns > self._idle_ns:
            LOG.info("stream %r begins afresh: it was away for longer than idle_timeout_s", stream.name)
            return None
        if not same_source(past.hello, stream.hello):
            LOG.info("stream %r begins afresh: its hello describes another source than before", stream.name)
            return None
        return past


def _last_seq(stream: Stream, waiting: list[bytes]) -> int | None:
    seqs = [parse_frame(unpack(data)).seq for data in waiting]
    if stream.session.last_seq is not None:
        seqs.append(stream.session.last_seq)
    return max(seqs, default=None)


def _about(model: Model, settings: ServeSettings) -> dict[str, str]:
    """The session's metadata: model, engine, versions, machine, settings."""
    bundle, served = model.bundle, model.served
    plain: Iterable[tuple[str, Any]] = asdict(settings).items()
    return {
        "rtseg": rtseg.__version__,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "bundle": bundle.name,
        "model": served.model,
        "engine": served.engine,
        "heads": json.dumps({name: list(classes) for name, classes in served.heads.items()}),
        "fps": repr(served.fps),
        "lookahead_frames": str(served.lookahead_frames),
        "fill_frames": str(bundle.gaps.fill_frames),
        # A folder of keys tells a reader nothing but where they lie.
        "settings": json.dumps({name: value for name, value in plain if name != "keys"}),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "numba": numba.__version__,
        "zeromq": zmq.zmq_version(),
        "machine": platform.platform(),
    }
