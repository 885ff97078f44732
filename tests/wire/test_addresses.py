"""Where a daemon may listen, and what it never tramples on."""

from __future__ import annotations

import socket as plain_socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from rtseg.errors import ServeError
from rtseg.wire.addresses import bind, remove_ipc_file


@pytest.fixture
def sockets() -> Iterator[list[zmq.Socket[bytes]]]:
    context = zmq.Context()
    yield [context.socket(zmq.ROUTER) for _ in range(2)]
    context.destroy(linger=0)


@pytest.mark.parametrize(
    "address",
    [
        "tcp://*:5757",
        "tcp://0.0.0.0:5757",
        "tcp://192.168.1.5:5757",
        "tcp://8.8.8.8:*",
        "tcp://[::]:5757",
        "tcp://eth0:5757",
        "tcp://lab-server:5757",
        "tcp://:5757",
    ],
)
def test_beyond_loopback_needs_keys(sockets: list[zmq.Socket[bytes]], address: str) -> None:
    with pytest.raises(ServeError, match=r"needs keys \(`rtseg keys new NAME"):
        bind(sockets[0], address)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "5757",
        "tcp://127.0.0.1",
        "tcp://127.0.0.1:port",
        "tcp://127.0.0.1:99999",
        "udp://127.0.0.1:1",
        "ipc://",
        "ipc://*",
    ],
)
def test_no_address_at_all(sockets: list[zmq.Socket[bytes]], address: str) -> None:
    with pytest.raises(ServeError, match=r"expected ipc:///PATH, tcp://127\.0\.0\.1:PORT"):
        bind(sockets[0], address)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:*", "tcp://localhost:*", "tcp://127.0.0.2:*"])
def test_a_free_port_is_named(sockets: list[zmq.Socket[bytes]], address: str) -> None:
    assert int(bind(sockets[0], address).rpartition(":")[2]) > 0


def test_a_tcp_port_in_use(sockets: list[zmq.Socket[bytes]]) -> None:
    taken = bind(sockets[0], "tcp://127.0.0.1:*")
    with pytest.raises(ServeError, match="in use: stop the daemon"):
        bind(sockets[1], taken)


def test_an_ipc_file_in_use_is_not_stolen(sockets: list[zmq.Socket[bytes]], tmp_path: Path) -> None:
    address = bind(sockets[0], f"ipc://{tmp_path}/s")
    with pytest.raises(ServeError, match="in use: stop the daemon"):
        bind(sockets[1], address)


def test_an_ipc_file_left_behind_is_replaced(sockets: list[zmq.Socket[bytes]], tmp_path: Path) -> None:
    with plain_socket.socket(plain_socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "s"))
    assert bind(sockets[0], f"ipc://{tmp_path}/s") == f"ipc://{tmp_path}/s"
    remove_ipc_file(f"ipc://{tmp_path}/s")
    assert not (tmp_path / "s").exists()


def test_a_users_file_is_left_alone(sockets: list[zmq.Socket[bytes]], tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("precious")
    with pytest.raises(ServeError, match="no socket: choose another path"):
        bind(sockets[0], f"ipc://{tmp_path}/data.csv")
    assert (tmp_path / "data.csv").read_text() == "precious"


def test_an_ipc_folder_must_exist_and_the_path_be_short(sockets: list[zmq.Socket[bytes]], tmp_path: Path) -> None:
    with pytest.raises(ServeError, match="does not exist: make it first"):
        bind(sockets[0], f"ipc://{tmp_path}/nowhere/s")
    with pytest.raises(ServeError, match="cannot listen at"):
        bind(sockets[0], f"ipc://{tmp_path}/{'long' * 30}")
