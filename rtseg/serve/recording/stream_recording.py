"""The daemon and its recording: what is recorded when, and from where in it a stream goes on that comes back.

Stands between the hot loop and `recorder`, and exists only where the daemon records. A worker records its own streams
into a file of its own, for it alone knows which frames it took, and in which order. Its file is completed when it is
killed; so the worker that replaces it reads there what has been answered, and records what has not.
"""

from __future__ import annotations

import json
import logging
import platform
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import numba
import numpy as np
import zmq

import rtseg
from rtseg.config import ServeSettings, WorkerPlace
from rtseg.inference.predictions import Prediction
from rtseg.recorder.reading import MALFORMED
from rtseg.recorder.recorder import CLOSED, Recorder
from rtseg.serve.recording.resume import (
    ResumableStream,
    describe_streams,
    read_resumable_streams,
    restore_stream,
    same_source,
)
from rtseg.serve.streams.served_model import ServedModel
from rtseg.serve.streams.stream import Stream
from rtseg.wire.messages import parse_frame, unpack

LOG = logging.getLogger("rtseg.serve")


class TriggerMemory(Protocol):
    """What a stream's triggers remember; the trigger stage, where there is one."""

    def snapshot(self, stream: Stream) -> bytes:
        """Of a stream, between two frames."""

    def restore(self, stream: Stream, resumable: ResumableStream, answers: Sequence[Prediction]) -> None:
        """Go on from what was recorded. answers: those since its last snapshot."""


class StreamRecording:
    """A daemon's recording, and the streams of earlier recordings that may come back.

    worker_place: a worker's place behind a front. triggers: their text, for the file's metadata; trigger_memory: to be
    set where there are triggers. Raises ServeError where a recording cannot be begun.
    """

    def __init__(
        self,
        model: ServedModel,
        settings: ServeSettings,
        worker_place: WorkerPlace | None = None,
        triggers: str = "",
    ) -> None:
        self.trigger_memory: TriggerMemory | None = None
        folder = Path(settings.record)
        self._idle_ns = int(settings.idle_timeout_s * 1e9)
        self._resumable: dict[str, ResumableStream] = {}
        if settings.resume:
            # A stream that has been silent for longer than idle_timeout_s would have been closed had the daemon lived.
            # The recordings of other workers of this run are still being written, and their streams are in use.
            wanted = (lambda session: True) if worker_place is None else worker_place.may_resume_from
            self._resumable = read_resumable_streams(folder, self._idle_ns, wanted)
            LOG.info("streams that may be resumed: %s", ", ".join(describe_streams(self._resumable)) or "none")
        metadata, name = _metadata(model, settings) | ({"triggers": triggers} if triggers else {}), ""
        self._replaced: dict[str, ResumableStream] = {}
        if worker_place is not None:
            metadata |= worker_place.recording_metadata()
            name = f"-w{worker_place.number}"
            if worker_place.is_replacement:
                # Closed ones as well: the worker may have been killed before its front heard of the end.
                self._replaced = read_resumable_streams(folder, wanted=worker_place.wrote, with_closed=True)
        self._recorder = Recorder(folder, metadata, settings, name)
        # The recorder's own methods: they are called for every frame, which pays for no call in between.
        self.record_frame, self.record_prediction, self.record_event = (
            self._recorder.record_frame,
            self._recorder.record_prediction,
            self._recorder.record_event,
        )
        self.record_trigger, self.record_trigger_end = self._recorder.record_trigger, self._recorder.record_trigger_end
        self.lend_ring, self.take_ring_back = self._recorder.lend_ring, self._recorder.take_ring_back
        self.status = self._recorder.status
        LOG.info("recording to %s", self._recorder.file)

    def begin_stream(self, stream: Stream, now_ns: int) -> tuple[int | None, list[bytes]]:
        """Record that a stream was opened, and bring it to where it stood if it is one that comes back.

        Returns the seq of the last frame that is known of it (None = it is new), and the messages of its frames that
        are still to be answered.
        """
        resumable = self._take_resumable(stream)
        hello = stream.hello.to_message()
        if resumable is not None:
            try:
                waiting, answers = restore_stream(stream, resumable)
                last_seq = _last_seq(stream, waiting)
            except MALFORMED as error:
                LOG.warning("stream %r begins afresh: %s", stream.name, error)
                stream.session.reset()
            else:
                if self.trigger_memory is not None:
                    self.trigger_memory.restore(stream, resumable, answers)
                self.continue_stream(stream, now_ns)
                LOG.info("stream %r goes on, %d frames are still to be answered", stream.name, len(waiting))
                return last_seq, waiting
        self._recorder.record_opening(hello, now_ns)
        return None, []

    def continue_stream(self, stream: Stream, now_ns: int) -> None:
        """Record what follows of a stream that comes back, from its restored state on."""
        self._recorder.record_opening(stream.hello.to_message(), now_ns, resumed=True)
        self.record_snapshot(stream, now_ns)

    def take_replaced(self, name: str, opened_ns: int) -> ResumableStream | None:
        """Where a stream of the worker that this one replaces stands in its recording, asked for once; else None.

        opened_ns: when the front knows that it was opened. Another time means another stream of the same name.
        """
        resumable = self._replaced.pop(name, None)
        self._resumable.pop(name, None)
        return resumable if resumable is not None and resumable.opened_ns == opened_ns else None

    def end_stream(self, stream: Stream) -> None:
        """Record no more snapshots of a stream that has ended."""
        self._recorder.forget_stream(stream.name)

    def record_snapshot(self, stream: Stream, now_ns: int) -> None:
        """Record a stream's state: a resumed stream steps again only the frames after it."""
        hello, state = stream.hello.to_message(), stream.session.snapshot()
        triggers = b"" if self.trigger_memory is None else self.trigger_memory.snapshot(stream)
        self._recorder.record_snapshot(hello, state, now_ns, stream.opened_ns, stream.output.answers, triggers)

    def stream_due(self, now_ns: int) -> str | None:
        """Name of the stream whose snapshot is due now, if any. Cheap enough for every turn of the loop."""
        return self._recorder.stream_due_for_snapshot(now_ns)

    def changed_state(self, now_ns: int) -> dict[str, Any] | None:
        """An event for everybody, where the recording's state has changed."""
        return self._recorder.state_change(now_ns)

    def counters(self) -> dict[str, int]:
        """For the daemon's counters: what went wrong with the recording."""
        status = self._recorder.status()
        trouble = int(status["state"] not in ("recording", CLOSED))
        return {"recording trouble": trouble, "records lost": status["lost"], "writer restarts": status["restarts"]}

    def close(self) -> None:
        """Close the recording."""
        self._recorder.close()

    def _take_resumable(self, stream: Stream) -> ResumableStream | None:
        resumable = self._resumable.pop(stream.name, None)
        if resumable is None or stream.hello.resume is False:
            return None
        if time.monotonic_ns() - resumable.last_ns > self._idle_ns:
            LOG.info("stream %r begins afresh: it was away for longer than idle_timeout_s", stream.name)
            return None
        if not same_source(resumable.hello, stream.hello):
            LOG.info("stream %r begins afresh: its hello describes another source than before", stream.name)
            return None
        return resumable


def _last_seq(stream: Stream, waiting: list[bytes]) -> int | None:
    seqs = [parse_frame(unpack(data)).seq for data in waiting]
    if stream.session.last_seq is not None:
        seqs.append(stream.session.last_seq)
    return max(seqs, default=None)


def _metadata(model: ServedModel, settings: ServeSettings) -> dict[str, str]:
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
