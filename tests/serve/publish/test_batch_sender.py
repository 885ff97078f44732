"""Answers that leave in one compiled call: the bytes are those that are handed back where it can't send."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
import zmq

from rtseg.compiled.libzmq import SEND, addresses
from rtseg.config import ServeSettings
from rtseg.inference.classifier import load
from rtseg.inference.predictions import Prediction, PredictionBatch, Quality
from rtseg.recorder.reading import RecordingFile
from rtseg.recorder.recorder import Recorder
from rtseg.recorder.ring import Ring
from rtseg.serve.publish.batch_sender import ROWS, BatchSender
from rtseg.serve.streams.served_model import ServedModel
from rtseg.serve.streams.stream import Stream, Streams
from rtseg.wire.messages import Hello, PredictionMessage, parse_published

needs_libzmq = pytest.mark.skipif(addresses() is None, reason="compiled code can't call libzmq here")
NAMES = "cage1", "Käfig 2"


@pytest.fixture(scope="module")
def streams(tiny_bundle: Path) -> list[Stream]:
    model = ServedModel(load(tiny_bundle, capacity=4), "tcp://nowhere")
    opened = Streams(model)
    hellos = [Hello(name, model.bundle.skeleton, model.bundle.fps) for name in NAMES]
    return [opened.open_stream(b"owner", hello, None, 1) for hello in hellos]


@pytest.fixture
def xpub() -> Iterator[zmq.Socket[Any]]:
    with zmq.Context() as context, context.socket(zmq.XPUB) as socket:
        socket.setsockopt(zmq.XPUB_NODROP, 1)
        socket.sndhwm = 4
        socket.linger = 0
        socket.bind("inproc://answers")
        yield socket


def subscriber(xpub: zmq.Socket[Any], *, depth: int = 1000) -> zmq.Socket[Any]:
    """To everything; the socket has heard of it when this returns."""
    socket: zmq.Socket[Any] = xpub.context.socket(zmq.SUB)
    socket.rcvhwm, socket.linger = depth, 0
    socket.subscribe(b"")
    socket.connect("inproc://answers")
    assert xpub.recv() == b"\x01"
    return socket


def answers_of(stream: Stream, n: int, seed: int = 0) -> PredictionBatch:
    """Of n frames, with labels, events and doubts of all kinds."""
    rng, heads = np.random.default_rng(seed), stream.model.bundle.heads
    n_outputs = sum(len(head.classes) for head in heads)
    labels = np.stack([rng.integers(0, len(head.classes), n) for head in heads], axis=1).astype(np.int16)
    flags = rng.random((2, n, len(heads))) < 0.3
    return PredictionBatch(
        rng.random((n, n_outputs), dtype=np.float32), labels, flags[0], flags[1], np.zeros(n, np.int32), heads
    )


def add(
    sender: BatchSender, stream: Stream, answers: PredictionBatch, row: int, t_recv_ns: int, *, wanted: bool = True
) -> None:
    stream.output.answers += 1
    prediction = Prediction(stream.name, 100 + row, 7 * row, int(Quality.WARMING_UP), answers, row)
    sender.add_prediction(stream, prediction, t_recv_ns, wanted=wanted)


def parsed(data: bytes) -> PredictionMessage:
    message = parse_published(msgpack.unpackb(data))
    assert isinstance(message, PredictionMessage)
    return message


def test_what_is_handed_back_says_what_was_answered(streams: list[Stream]) -> None:
    sender, answers = BatchSender(None), answers_of(streams[0], 5)
    now_ns = time.monotonic_ns()
    for row in (3, 0, 4):
        add(sender, streams[row % 2], answers, row, now_ns - (2 * 10**9 if row == 4 else 0))
    assert len(sender) == 3
    told, took_ns, late = sender.send_batch()
    assert (len(sender), len(told), late) == (0, 3, 1)
    heads = streams[0].model.bundle.heads
    for (stream, _, is_sent, _, data, t_pub_ns), row, took in zip(told, (3, 0, 4), took_ns, strict=True):
        message = parsed(data)
        assert (stream, is_sent) == (streams[row % 2], False)
        assert (message.stream, message.seq, message.t_source_ns) == (stream.name, 100 + row, 7 * row)
        assert (message.t_pub_ns, message.t_pub_ns - message.t_recv_ns) == (t_pub_ns, took)
        assert message.quality == Quality.WARMING_UP | (Quality.LATE if row == 4 else 0)
        assert b"".join(p.tobytes() for p in message.probs.values()) == answers.probs[row].tobytes()
        labels = {head.name: head.classes[answers.labels[row, h]] for h, head in enumerate(heads)}
        assert message.label == labels
        assert message.event == {head.name: labels[head.name] for h, head in enumerate(heads) if answers.events[row, h]}
        assert message.unsure == tuple(head.name for h, head in enumerate(heads) if answers.unsure[row, h])
    assert told[-1].number == streams[0].output.answers
    assert sender.send_batch(pack_all=True) == ([], [], 0)


@needs_libzmq
def test_what_is_sent_is_what_is_handed_back(streams: list[Stream], xpub: zmq.Socket[Any]) -> None:
    xpub.sndhwm = 0
    hears, sender = subscriber(xpub), BatchSender(xpub)
    groups = [answers_of(streams[0], ROWS // 2, seed) for seed in (0, 1)]
    wanted = []
    for i in range(ROWS):
        heard = i % 3 > 0
        add(sender, streams[i % 2], groups[i >= ROWS // 2], i % (ROWS // 2), 5, wanted=heard)
        wanted += [streams[i % 2].topic] * heard
    told, took_ns, late = sender.send_batch(pack_all=True)
    assert (len(told), len(took_ns), late) == (ROWS, ROWS, ROWS)
    assert all(sent.is_sent for sent in told)
    heard_of = [sent for i, sent in enumerate(told) if i % 3]
    for sent, topic in zip(heard_of, wanted, strict=True):
        assert hears.recv_multipart() == [topic, sent.packed]
    hears.close()


@needs_libzmq
def test_a_full_queue_loses_nothing(streams: list[Stream], xpub: zmq.Socket[Any]) -> None:
    hears, sender, answers = subscriber(xpub, depth=4), BatchSender(xpub), answers_of(streams[0], 64)
    for row in range(64):
        add(sender, streams[0], answers, row, 5)
    told, _, _ = sender.send_batch()
    left = [parsed(sent.packed).seq for sent in told if not sent.is_sent]
    got = []
    while hears.poll(100):
        got.append(parsed(hears.recv_multipart()[1]).seq)
    assert got
    assert left
    assert got + left == [100 + row for row in range(64)]
    hears.close()


@needs_libzmq
@pytest.mark.parametrize("has_room", [True, False])
def test_what_is_sent_is_in_the_recording_before(
    streams: list[Stream], xpub: zmq.Socket[Any], tmp_path: Path, *, has_room: bool
) -> None:
    """At each of libzmq's sends the ring's reader can see the message: a process that is killed there has said no more
    than it has recorded.
    """
    recorder = Recorder(tmp_path, {}, ServeSettings(record_buffer_mb=1))
    (path,) = Path("/dev/shm").glob(f"rtseg-{recorder.session}*")
    reader, hears = Ring.open(path), subscriber(xpub)
    sender, answers, seen = BatchSender(xpub), answers_of(streams[0], 3), list[bool]()
    if not has_room:
        recorder.lend_ring = lambda n_messages, n_bytes: None  # type: ignore[method-assign]
    prototype = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    functions = addresses()
    assert functions is not None
    real_send = prototype(int(functions[SEND]))

    @prototype
    def send(socket: int, data: int, n_bytes: int, flags: int) -> int:
        if flags == 0:  # the message itself, after its topic
            recorded = b"".join(reader.between(0, reader.update_head()))
            seen.append(ctypes.string_at(data, n_bytes) in recorded)
        return int(real_send(socket, data, n_bytes, flags))

    sender._functions[SEND] = ctypes.cast(send, ctypes.c_void_p).value or 0
    for row in range(3):
        add(sender, streams[0], answers, row, 5, wanted=row != 1)
    left, _, _ = sender.send_batch(recorder)  # type: ignore[arg-type]
    recorder.close()
    if has_room:
        assert (left, seen) == ([], [True, True])
        heard = [hears.recv_multipart()[1] for _ in range(2)]
        assert [parsed(data).seq for data in heard] == [100, 102]
    else:
        assert seen == []
        assert [(each.is_recorded, each.is_sent) for each in left] == [(False, row == 1) for row in range(3)]
    with RecordingFile(recorder.file) as file:
        recorded = [message.data for message in file.messages()]
    assert [parsed(data).seq for data in recorded] == [100, 101, 102] * has_room
    assert not has_room or recorded[::2] == heard
    reader.close()
    hears.close()
