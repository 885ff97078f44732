"""Predictions on their way out: collected while a batch is gone through, then packed, recorded and sent in one compiled
call, each in this order: whatever was said stands in the recording, whenever the process is killed.

Sends to the subscribers' socket where `libzmq` can be called; where it can't, or a queue is full, what is packed is
handed back for the outlet to send.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import zmq
from numba import njit
from numpy.typing import NDArray

from rtseg.compiled import array_tables, cache_stamps, libzmq
from rtseg.compiled.array_tables import WORDS, ArrayTable, TableRows, field_indices
from rtseg.compiled.libzmq import CLOCK, COPY, DONTWAIT, MONOTONIC, SEND, SNDMORE, call
from rtseg.inference.predictions import Prediction, PredictionBatch, Quality
from rtseg.recorder import compiled_append
from rtseg.recorder.compiled_append import append_message
from rtseg.serve.recording.stream_recording import StreamRecording
from rtseg.serve.streams.served_model import ServedModel
from rtseg.serve.streams.stream import Stream
from rtseg.wire import prediction_packer
from rtseg.wire.prediction_packer import MAX_PREFIX_BYTES, pack_prediction

ROWS = 256
"""Predictions that are collected at most."""
_PREFIX, _PREFIX_BYTES, _TOPIC_BYTES, _WANTED, _ROW, _SEQ, _SOURCE_NS, _RECEIVED_NS, _QUALITY = range(9)
_ROW_FIELDS = struct.Struct("=9q")
_ROW_BYTES = _ROW_FIELDS.size
_AT, _BYTES, _PUBLISHED_NS, _SENT, _TOOK_NS = range(5)
_SENT_WORDS = 5
LATE = int(Quality.LATE)
_STAMP = cache_stamps.source_stamp(libzmq, prediction_packer, array_tables, compiled_append)
_NO_RING: TableRows = np.zeros((0, WORDS), np.int64)


class SenderArrays(NamedTuple):
    """What the compiled call works with.

    functions: libzmq's. rows: of the answers to send, see _ROW. sent: what became of them, see _SENT. out: room for
    packed answers. time: for the clock.
    """

    functions: NDArray[np.int64]
    rows: NDArray[np.int64]
    sent: NDArray[np.int64]
    out: NDArray[np.uint8]
    time: NDArray[np.int64]


_ARRAYS = field_indices(*SenderArrays._fields)


class SentPrediction(NamedTuple):
    """What became of one prediction.

    number: within its stream. is_sent, is_recorded: False where the outlet has to do it. packed: its bytes. t_pub_ns:
    when it was published, on the monotonic clock.
    """

    stream: Stream
    number: int
    is_sent: bool
    is_recorded: bool
    packed: bytes
    t_pub_ns: int


class BatchSender:
    """Collects predictions and sends them. xpub: the subscribers' socket, None where every one is handed back."""

    def __init__(self, xpub: zmq.Socket[bytes] | None) -> None:
        functions = libzmq.addresses() if xpub is not None else None
        self._socket, self._handle = xpub, 0 if xpub is None or functions is None else xpub.underlying
        self._functions = np.zeros(COPY + 1, np.int64) if functions is None else functions
        self._rows, self._sent = np.zeros((ROWS, 9), np.int64), np.zeros((ROWS, _SENT_WORDS), np.int64)
        self._fields, self._sent_words = self._rows.data.cast("B"), self._sent.reshape(-1).data
        self._time = np.zeros(2, np.int64)
        self._collected: list[tuple[Stream, PredictionBatch, int]] = []
        self._make_room(1)

    def __len__(self) -> int:
        return len(self._collected)

    def add_prediction(self, stream: Stream, prediction: Prediction, t_recv_ns: int, *, wanted: bool) -> bool:
        """Add one prediction, numbered by its stream's `output.answers`; whether there is no room for another.

        wanted: whether it is to be published.
        """
        collected = self._collected
        fields = (
            *(stream.prefix_at, len(stream.prefix), len(stream.topic), wanted, prediction.row),
            *(prediction.seq, prediction.t_source_ns, t_recv_ns, prediction.quality),
        )
        _ROW_FIELDS.pack_into(self._fields, len(collected) * _ROW_BYTES, *fields)
        collected.append((stream, prediction.batch, stream.output.answers))
        return len(collected) == ROWS

    def send_batch(
        self, recording: StreamRecording | None = None, *, pack_all: bool = False
    ) -> tuple[list[SentPrediction], list[int], int]:
        """Pack, record and send what was added, and forget it.

        recording: where it is recorded, None = nowhere. pack_all: whether every prediction is returned, and not only
        what the outlet has still to record or to send, in this order. Returns these, how long each prediction took from
        its frame's receipt in ns, and how many were late.
        """
        collected, self._collected = self._collected, []
        packed: list[SentPrediction] = []
        took: list[int] = []
        late, start = 0, 0
        while start < len(collected):
            # Predictions of one batch of one model lie in the same arrays: they go in one call.
            first, answers, _ = collected[start]
            stop = start + 1
            while stop < len(collected) and collected[stop][1] is answers and collected[stop][0].model is first.model:
                stop += 1
            n_late, used, all_done, is_recorded = self._send(start, stop, answers, first.model, recording)
            late += n_late
            took += self._sent_words[start * _SENT_WORDS + _TOOK_NS : stop * _SENT_WORDS : _SENT_WORDS].tolist()
            if pack_all or not all_done:
                data = self._out[:used].tobytes()
                rows = zip(collected[start:stop], self._sent[start:stop].tolist(), strict=True)
                for (stream, _, number), (at, n_bytes, t_pub_ns, is_sent, _) in rows:
                    told = data[at : at + n_bytes]
                    packed.append(SentPrediction(stream, number, bool(is_sent), is_recorded, told, t_pub_ns))
            start = stop
        return packed, took, late

    def _send(
        self,
        start: int,
        stop: int,
        answers: PredictionBatch,
        model: ServedModel,
        recording: StreamRecording | None,
    ) -> tuple[int, int, bool, bool]:
        """Of these rows: how many are late, bytes packed, whether nothing is left to do, whether they are recorded."""
        n_bytes = (stop - start) * (model.packing.max_bytes + MAX_PREFIX_BYTES)
        self._make_room(n_bytes)
        ring = None if recording is None else recording.lend_ring(stop - start, n_bytes)
        # What cannot be recorded here must not leave from here either: the outlet records it, and sends it then.
        to_record_first = recording is not None and ring is None
        n_late, used, all_sent = _dispatch(
            0 if to_record_first else self._handle,
            self._table.rows,
            model.packing.table.rows,
            _NO_RING if ring is None else ring,
            *(answers.probs, answers.labels, answers.events, answers.unsure),
            *(start, stop, model.late_ns, time.monotonic_ns()),
        )
        if ring is not None and recording is not None:
            recording.take_ring_back()
        return n_late, used, all_sent and not to_record_first, ring is not None

    def _make_room(self, n_bytes: int) -> None:
        """Make room for packed predictions; never less than before, so that a busy daemon soon allocates no more."""
        if n_bytes > len(getattr(self, "_out", b"")):
            self._out = np.empty(n_bytes, np.uint8)
            self._table = ArrayTable(SenderArrays(self._functions, self._rows, self._sent, self._out, self._time))


@njit(cache=False)
def _send_parts(send: int, socket: int, row: NDArray[np.int64], address: int, n_bytes: int) -> bool:
    """Topic and prediction as one message; False where the socket's queue is full, and nothing was sent."""
    # A prefix ends with the stream's name, which is the topic as well.
    topic = row[_PREFIX] + row[_PREFIX_BYTES] - row[_TOPIC_BYTES]
    if np.int32(call(send, socket, topic, row[_TOPIC_BYTES], SNDMORE | DONTWAIT)) < 0:
        return False
    # The second part of a message whose first one was taken never finds a full queue.
    call(send, socket, address, n_bytes, 0)
    return True


def _compiled(stamp: int) -> Callable[..., Any]:
    """The call. stamp: of the files of what is compiled into it."""

    @njit(cache=True)
    def dispatch(
        socket: int,
        arrays: TableRows,
        pieces: TableRows,
        ring: TableRows,
        probs: NDArray[np.float32],
        labels: NDArray[np.int16],
        events: NDArray[np.bool_],
        unsure: NDArray[np.bool_],
        start: int,
        stop: int,
        late_ns: int,
        now_ns: int,
    ) -> tuple[int, int, bool]:
        """(how many are late, bytes packed, whether all that is wanted was sent) of the rows from start to stop.

        ring: of `RingArrays`, empty where nothing is recorded.
        """
        _ = stamp
        functions, time = array_tables.int64s(arrays, _ARRAYS.functions), array_tables.int64s(arrays, _ARRAYS.time)
        rows, sent = array_tables.int64s_2d(arrays, _ARRAYS.rows), array_tables.int64s_2d(arrays, _ARRAYS.sent)
        out = array_tables.uint8s(arrays, _ARRAYS.out)
        out_at, time_at = arrays[_ARRAYS.out, 0], arrays[_ARRAYS.time, 0]
        late, used, sending = 0, 0, socket != 0
        all_sent = True
        for i in range(start, stop):
            row = rows[i]
            if socket:
                # Each prediction's own time of publishing; without compiled sending, all carry the time of the call.
                call(functions[CLOCK], MONOTONIC, time_at, 0, 0)
                now_ns = time[0] * 1_000_000_000 + time[1]
            quality = row[_QUALITY]
            sent[i, _TOOK_NS] = now_ns - row[_RECEIVED_NS]
            if sent[i, _TOOK_NS] > late_ns:
                quality |= LATE
                late += 1
            n = row[_ROW]
            prefix = array_tables.uint8s_at(row[_PREFIX], row[_PREFIX_BYTES])
            times = row[_SEQ], row[_SOURCE_NS], row[_RECEIVED_NS], now_ns
            end = pack_prediction(out, used, prefix, pieces, times, probs[n], labels[n], events[n], unsure[n], quality)
            sent[i, _AT], sent[i, _BYTES], sent[i, _PUBLISHED_NS] = used, end - used, now_ns
            sent[i, _SENT] = not row[_WANTED]
            if len(ring):
                append_message(ring, out_at + used, end - used, now_ns)
            if row[_WANTED] and sending:
                # Once a queue was full, nothing more is sent from here: a stream's predictions must leave in order.
                sending = _send_parts(functions[SEND], socket, row, out_at + used, end - used)
                sent[i, _SENT] = sending
            if not sent[i, _SENT]:
                all_sent = False
            used = end
        return late, used, all_sent

    return dispatch


_dispatch = _compiled(_STAMP)
