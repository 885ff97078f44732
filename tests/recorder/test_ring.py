"""The memory between daemon and writer, seen from both ends in one process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtseg.errors import RtsegError
from rtseg.recorder.ring import HEAD_BYTES, Ring


@given(st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=60), st.data())
def test_bytes_leave_a_ring_as_they_came(pieces: list[bytes], data: st.DataObject) -> None:
    name, out, written = f"rtseg-test-{os.getpid()}.ring", b"", 0
    ring = Ring.create(name, 512, Path("somewhere.mcap"), 77)
    try:
        other = Ring.open(ring.path)
        assert (other.file, other.beginning, other.size) == (Path("somewhere.mcap").absolute(), 77, 512)
        for piece in pieces:
            while ring.room < len(piece) + 1:
                stop = data.draw(st.integers(written + 1, other.update_head()))
                out += b"".join(other.between(written, stop))
                written = other.written = stop
            ring.append(b"<" + piece)
        out += b"".join(other.between(written, other.update_head()))
        other.close()
    finally:
        ring.close(remove=True)
    assert out == b"".join(b"<" + piece for piece in pieces)


def test_a_file_that_is_no_ring_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.ring").write_bytes(bytes(HEAD_BYTES + 100))
    with pytest.raises(RtsegError, match="expected the ring of a recording"):
        Ring.open(tmp_path / "a.ring")


def test_a_ring_whose_words_contradict_one_another_is_refused(tmp_path: Path) -> None:
    ring = Ring.create(f"rtseg-test-{os.getpid()}.ring", 512, tmp_path / "a.mcap", 77)
    try:
        with pytest.raises(RtsegError, match="its words are damaged: 513 bytes should wait in a ring of 512"):
            ring.between(0, 513)
        ring._words[1] = 1 << 40  # its size
        with pytest.raises(RtsegError, match="expected the ring of a recording"):
            Ring.open(ring.path)
    finally:
        ring.close(remove=True)


def test_a_ring_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would name a file of ours to be written."""
    ring = Ring.create(f"rtseg-test-{os.getpid()}.ring", 512, tmp_path / "a.mcap", 77)
    try:
        monkeypatch.setattr(os, "geteuid", lambda: ring.path.stat().st_uid + 1)
        with pytest.raises(RtsegError, match="expected the ring of a recording"):
            Ring.open(ring.path)
        (tmp_path / "link").symlink_to(ring.path)
        with pytest.raises(OSError, match="symbolic links"):
            Ring.open(tmp_path / "link")
    finally:
        ring.close(remove=True)
