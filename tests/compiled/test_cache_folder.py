"""Where compiled code is kept: numba's own places first, else a private folder, which no other user can have made."""

from __future__ import annotations

import logging
import os
import stat
import sys
import tempfile
from pathlib import Path

import pytest

from rtseg.compiled import cache_folder
from rtseg.compiled.cache_folder import CHOSEN, ensure_cache_folder


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine on which neither the package nor a home can be written to; its temporary folder."""
    (tmp_path / "file").write_text("no folder can be made below a file")
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv(CHOSEN, "")  # so that it is as it was afterwards
    monkeypatch.delenv(CHOSEN)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr(cache_folder, "__file__", str(tmp_path / "file" / "compiled" / "cache_folder.py"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    # numba of this process keeps its own folder.
    monkeypatch.delitem(sys.modules, "numba", raising=False)
    return tmp_path / "tmp"


def test_numbas_own_places_come_first(nowhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CHOSEN, str(tmp_path / "chosen"))
    assert ensure_cache_folder() is None
    monkeypatch.delenv(CHOSEN)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home" / "cache"))
    assert ensure_cache_folder() is None
    assert CHOSEN not in os.environ
    assert not (tmp_path / "home").exists()
    assert list(nowhere.iterdir()) == []


def test_a_private_folder_is_made_once_and_said(nowhere: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        folder = ensure_cache_folder()
    assert folder is not None
    assert folder.parent == nowhere
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert os.environ.pop(CHOSEN) == str(folder)
    assert len(caplog.messages) == 1
    assert f"{folder}" in caplog.messages[0]
    assert CHOSEN in caplog.messages[0]
    assert ensure_cache_folder() == folder
    # Child processes find it in the environment, and say nothing again.
    assert ensure_cache_folder() is None


@pytest.mark.parametrize("kind", ["link", "open to others", "file"])
def test_what_another_user_may_have_put_there_is_not_used(nowhere: Path, tmp_path: Path, kind: str) -> None:
    expected = nowhere / f"rtseg-kernels-{os.getuid()}"
    if kind == "link":
        (tmp_path / "trap").mkdir(mode=0o700)
        expected.symlink_to(tmp_path / "trap")
    elif kind == "file":
        expected.write_text("")
    else:
        expected.mkdir()
        expected.chmod(0o777)
    folder = ensure_cache_folder()
    assert folder is not None
    assert folder != expected
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
