from __future__ import annotations

import os
from pathlib import Path

import pytest

from rtseg.system.files import (
    FileNames,
    open_regular,
    read_bounded,
    replace_atomically,
    write_atomically,
    write_json_atomically,
)


def test_the_old_file_stands_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with replace_atomically(path) as part:
        part.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def write_half(part: Path, error: type[BaseException]) -> None:
    part.write_text("half")
    raise error


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_the_old_file_and_no_part(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error), replace_atomically(path) as part:
        write_half(part, error)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_no_glob_for_whole_files_finds_a_part(tmp_path: Path) -> None:
    with replace_atomically(tmp_path / "a.plan") as part:
        part.write_text("half")
        assert not list(tmp_path.glob("*.plan"))


def test_a_synced_file_is_on_the_disk_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, steps = tmp_path / "a.bin", []
    monkeypatch.setattr("rtseg.system.files.os.fsync", lambda _: steps.append(path.exists()))
    with replace_atomically(path, sync=True) as part:
        part.write_bytes(b"x")
    assert steps == [False]
    assert path.read_bytes() == b"x"


def test_texts_are_written_in_utf8_and_json_with_a_line_end(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a.txt", "±\n")
    assert (tmp_path / "a.txt").read_bytes() == "±\n".encode()
    write_json_atomically(tmp_path / "a.json", {"b": [1]})
    assert (tmp_path / "a.json").read_text() == '{\n "b": [\n  1\n ]\n}\n'


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "link to a pipe", "link to nowhere"])
def test_only_regular_files_are_opened_and_none_is_waited_for(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a"
    if kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "link to nowhere":
        path.symlink_to(tmp_path / "nowhere")
    else:
        os.mkfifo(tmp_path / "pipe")
        path.symlink_to(tmp_path / "pipe")
    with pytest.raises(OSError, match=r"no regular file|No such file"):
        open_regular(path)


def test_a_larger_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    path.write_bytes(b"four")
    assert read_bounded(path, 4) == b"four"
    os.truncate(path, 1 << 40)
    with pytest.raises(OSError, match=r"holds 1099511627776 bytes, at most 4 are read"):
        read_bounded(path, 4)


def test_an_error_names_the_file_that_was_asked_for(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"nowhere/a\.json'$"):
        write_atomically(tmp_path / "nowhere/a.json", "{}")


def test_names_of_files_never_meet() -> None:
    names = FileNames()
    given = ("rack/1", "rack_1", "Rack_1", "rack_1-2", "b:c", "rack/2")
    assert [names.name(of) for of in given] == ["rack_1", "rack_1-2", "Rack_1-3", "rack_1-2-2", "b_c", "rack_2"]
