"""Who makes memory grow is told apart from who does not, over real connections."""

from __future__ import annotations

import contextlib
import mmap
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from rtseg.serve.access.memory_watch import MemoryWatch, bytes_received
from tests.live import no_descriptor_left

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


def watch_of(listener: socket.socket, max_growth_mb: int) -> MemoryWatch:
    watch = MemoryWatch([f"tcp://127.0.0.1:{listener.getsockname()[1]}"], max_growth_mb * MB)
    watch.look()
    return watch


def test_the_kernel_counts_what_a_connection_brought(pairs: list[Pair]) -> None:
    pairs[0].bring(3 * MB)
    descriptors = [pair.accepted.fileno() for pair in pairs]
    counts = {each.descriptor: n for each, n in bytes_received().items() if each.descriptor in descriptors}
    assert counts == {descriptors[0]: 3 * MB, descriptors[1]: 0}


@pytest.mark.parametrize("opens", [contextlib.nullcontext, no_descriptor_left])
def test_whoever_fills_memory_beyond_the_limit_is_ended(
    listener: socket.socket, pairs: list[Pair], opens: Callable[[], AbstractContextManager[None]]
) -> None:
    # The limit lies far from what is brought: what other threads of this process allocate counts as well.
    with contextlib.closing(watch_of(listener, 120)) as watch:
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
        assert watch.ended == 1
        assert (greedy.is_ended, modest.is_ended) == (True, False)


def test_memory_that_no_connection_brought_ends_none(listener: socket.socket, pairs: list[Pair]) -> None:
    with contextlib.closing(watch_of(listener, 40)) as watch:
        held = []
        for _ in range(4):
            held.append(pages(30 * MB))
            held[-1].write(b"x" * 30 * MB)
            held.append(pairs[0].bring(MB))
            watch.look()
        assert watch.ended == 0
        assert not pairs[0].is_ended


def test_without_a_limit_nothing_is_watched(listener: socket.socket, pairs: list[Pair]) -> None:
    with contextlib.closing(watch_of(listener, 0)) as watch:
        held = []
        for _ in range(3):
            held.append(pairs[0].bring(30 * MB))
            watch.look()
        assert not pairs[0].is_ended
