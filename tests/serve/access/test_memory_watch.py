"""Who makes memory grow is told apart from who does not, over real connections."""

from __future__ import annotations

import contextlib
import mmap
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pytest

from rtseg.serve.access.connections import end_connection
from rtseg.serve.access.flood_watch import FloodWatch
from rtseg.serve.access.memory_watch import MemoryWatch
from tests.live import TIMEOUT_S, no_descriptor_left

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the kernel's counts are Linux'")
MB = 1 << 20
PART = bytes(MB)
"""What peers send, again and again: the sender's end is this process's as well, and must not let its memory grow."""


def pages(n_bytes: int) -> mmap.mmap:
    """Memory that no other process shares, and that was nobody's before."""
    return mmap.mmap(-1, n_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


class Pair:
    """A connection over loopback, whose accepted end is this process's as well."""

    def __init__(self, listener: socket.socket) -> None:
        self.peer = socket.create_connection(listener.getsockname())
        self.accepted, _ = listener.accept()

    def bring(self, n_bytes: int) -> mmap.mmap:
        """Bytes from the peer, read and kept."""
        sender = threading.Thread(target=self._send, args=(n_bytes,))
        sender.start()
        # Pages of its own: what earlier tests have freed would be used again, and memory would not grow.
        kept, n = pages(n_bytes), 0
        while n < n_bytes:
            part = self.accepted.recv(MB)
            kept[n : n + len(part)] = part
            n += len(part)
        sender.join()
        return kept

    def _send(self, n_bytes: int) -> None:
        for _ in range(0, n_bytes, MB):
            self.peer.sendall(PART)

    @property
    def is_ended(self) -> bool:
        self.peer.settimeout(0.2)
        with contextlib.suppress(TimeoutError):
            return not self.peer.recv(1)
        return False

    def close(self) -> None:
        self.peer.close()
        self.accepted.close()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.fixture
def pairs(listener: socket.socket) -> Iterator[list[Pair]]:
    made = [Pair(listener) for _ in range(2)]
    yield made
    for each in made:
        each.close()


@pytest.fixture
def counter() -> Iterator[FloodWatch]:
    """Whose thread counts. The socket that it looks after itself is another one."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        watch = FloodWatch()
        watch.start(f"tcp://127.0.0.1:{other.getsockname()[1]}")
        yield watch
        watch.close()


def counted(counter: FloodWatch) -> np.ndarray[Any, np.dtype[np.int64]]:
    """When the thread has counted."""
    deadline_s = time.monotonic() + TIMEOUT_S
    while (received := counter.take_received()) is None:
        assert time.monotonic() < deadline_s, "nobody counts"
        os.sched_yield()
    return received


class Watch(MemoryWatch):
    """Looks as the loop does, a while apart."""

    def __init__(self, listener: socket.socket, max_growth_mb: int, counter: FloodWatch) -> None:
        super().__init__([f"tcp://127.0.0.1:{listener.getsockname()[1]}"], max_growth_mb * MB, counter)
        self.look()

    def look(self) -> None:
        super().look()
        counted(self._flood_watch)


def test_the_kernel_counts_what_a_connection_brought(pairs: list[Pair], counter: FloodWatch) -> None:
    pairs[0].bring(3 * MB)
    counter.ask_received()
    received = counted(counter)
    assert [received[pair.accepted.fileno()] for pair in pairs] == [3 * MB, 0]


def test_another_connection_that_has_got_the_descriptor_is_not_ended(
    listener: socket.socket, pairs: list[Pair]
) -> None:
    addresses = (f"tcp://127.0.0.1:{listener.getsockname()[1]}",)
    pairs[0].bring(MB)
    assert not end_connection(pairs[1].accepted.fileno(), addresses, least_received=MB)
    assert end_connection(pairs[0].accepted.fileno(), addresses, least_received=MB)
    assert (pairs[0].is_ended, pairs[1].is_ended) == (True, False)


@pytest.mark.parametrize("opens", [contextlib.nullcontext, no_descriptor_left])
def test_whoever_fills_memory_beyond_the_limit_is_ended(
    listener: socket.socket,
    pairs: list[Pair],
    counter: FloodWatch,
    opens: Callable[[], AbstractContextManager[None]],
) -> None:
    # The limit lies far from what is brought: what other threads of this process allocate counts as well.
    with contextlib.closing(Watch(listener, 120, counter)) as watch:
        greedy, modest = pairs
        held = [greedy.bring(40 * MB)]
        watch.look()
        assert watch.ended == 0  # within the limit
        held.append(greedy.bring(160 * MB))
        held.append(modest.bring(MB))
        with opens():
            watch.look()  # the first look beyond it is what the next one is compared with
            assert watch.ended == 0
            held.append(greedy.bring(60 * MB))
            held.append(modest.bring(MB))
            watch.look()
            watch.look()  # what the one before has asked for is there
        assert watch.ended == 1
        assert (greedy.is_ended, modest.is_ended) == (True, False)


def test_memory_that_no_connection_brought_ends_none(
    listener: socket.socket, pairs: list[Pair], counter: FloodWatch
) -> None:
    with contextlib.closing(Watch(listener, 40, counter)) as watch:
        held = []
        for _ in range(4):
            held.append(pages(30 * MB))
            held[-1].write(b"x" * 30 * MB)
            held.append(pairs[0].bring(MB))
            watch.look()
        assert watch.ended == 0
        assert not pairs[0].is_ended


def test_without_a_limit_nothing_is_watched(listener: socket.socket, pairs: list[Pair], counter: FloodWatch) -> None:
    with contextlib.closing(Watch(listener, 0, counter)) as watch:
        held = []
        for _ in range(3):
            held.append(pairs[0].bring(30 * MB))
            watch.look()
        assert not pairs[0].is_ended
