"""What systemd is told."""

from __future__ import annotations

import os
import signal
import socket as plain_socket
from pathlib import Path
from typing import Any

import pytest

from rtseg.errors import ServeError
from rtseg.serve.monitoring.systemd import Notifier
from tests.live import daemon


def hear_for_ever(manager: plain_socket.socket) -> None:
    while True:
        assert manager.recv(4096) == b"WATCHDOG=1"


def test_systemd_hears_ready_life_and_stopping(tiny_bundle: Path, tmp_path: Path, monkeypatch: Any) -> None:
    with plain_socket.socket(plain_socket.AF_UNIX, plain_socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "200000")
        with daemon(tiny_bundle) as child:
            ready = manager.recv(4096).decode().splitlines()
            assert ready[:2] == ["READY=1", f"MAINPID={child.process.pid}"]
            assert ready[2].startswith("STATUS=serving ")
            assert [manager.recv(4096) for _ in range(3)] == [b"WATCHDOG=1"] * 3
            child.signal(signal.SIGSTOP)  # a loop that stands still says nothing
            manager.settimeout(1.0)
            with pytest.raises(TimeoutError):
                hear_for_ever(manager)
            child.signal(signal.SIGTERM, signal.SIGCONT)
            assert child.rest()[2] == 0
        manager.settimeout(60)
        said = manager.recv(4096)
        while said == b"WATCHDOG=1":
            said = manager.recv(4096)
        assert said == b"STOPPING=1"


def test_notifying_without_a_manager_and_with_an_abstract_or_dead_one() -> None:
    nobody = Notifier({})
    nobody.notify_ready("x")
    nobody.notify_alive(10**18)
    nobody.notify_stopping()
    assert Notifier({"WATCHDOG_USEC": "1000"}).watchdog_ns == 0  # nobody listens
    with plain_socket.socket(plain_socket.AF_UNIX, plain_socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0rtseg-{os.getpid()}")
        manager.settimeout(10)
        about = {"NOTIFY_SOCKET": f"@rtseg-{os.getpid()}", "WATCHDOG_USEC": "2000", "WATCHDOG_PID": str(os.getpid())}
        notifier = Notifier(about)
        assert notifier.watchdog_ns == 1_000_000
        notifier.notify_alive(5_000_000)
        notifier.notify_alive(5_500_000)
        notifier.notify_stopping()
        assert [manager.recv(100), manager.recv(100)] == [b"WATCHDOG=1", b"STOPPING=1"]
        other = Notifier(about | {"WATCHDOG_PID": "1"})
        assert other.watchdog_ns == 0  # meant for another process
        other.close()
    notifier.notify_stopping()  # nobody is there any more
    notifier.close()
    with pytest.raises(ServeError, match="WATCHDOG_USEC: expected microseconds"):
        Notifier(about | {"WATCHDOG_USEC": "soon"})
