"""The messages between a front and its workers."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest

from rtseg.errors import ServeError
from rtseg.serve.workers.worker_protocol import (
    AbandonBundle,
    Alive,
    Answers,
    BundlePrepared,
    ClientMessages,
    CommitBundle,
    EndStream,
    FromFront,
    FromWorker,
    MessageRefused,
    PrepareBundle,
    RestoreStream,
    Stop,
    StreamEnded,
    StreamState,
    TakeoverHello,
    decode,
    encode,
)

STATE = StreamState("cage1", b"one", b"hello", 30.0, "model", 5, b"snapshot", 6, 7, 1, 2, 3, ((7, 70, b"frame"),))


@pytest.mark.parametrize(
    "message",
    [
        Answers(((b"cage1", 2**63, b"an answer"),)),
        STATE,
        StreamEnded("cage1"),
        Alive(),
        BundlePrepared(1, 0, {"model": "abc"}, ""),
        ClientMessages(((b"one", 5, b"a frame"), (b"two", 6, b"a bye"))),
        RestoreStream(STATE, ((8, 80, b"frame"),), 7),
        TakeoverHello(b"one", b"two", 5, b"hello"),
        MessageRefused("cage1"),
        EndStream("cage1", "key revoked"),
        PrepareBundle(1, "/bundle"),
        CommitBundle(1),
        AbandonBundle(1),
        Stop(9.5),
    ],
    ids=lambda message: type(message).__name__,
)
def test_a_message_comes_out_as_it_went_in(message: FromWorker | FromFront) -> None:
    assert decode(encode(message)) == message


@pytest.mark.parametrize(
    "plain",
    [
        {"type": "snapshot"},
        {"type": "ended"},
        {"type": "alive", "stream": "cage1"},
        {"stream": "cage1"},
        {"type": "restore", "state": {"type": "stream"}, "frames": [], "published": 0},
        ["alive"],
        None,
    ],
)
def test_messages_of_another_version_are_refused(plain: Any) -> None:
    with pytest.raises(ServeError, match="not of the same version"):
        decode(msgpack.packb(plain))
