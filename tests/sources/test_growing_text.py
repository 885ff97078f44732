"""Whole lines of a file that another program writes, in every way in which programs write files."""

from __future__ import annotations

import errno
import io
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rtseg.errors import RecordingError
from rtseg.sources.growing_text import SAVED_WITHIN_S, GrowingText, NewLines

Growing = Callable[[Path], GrowingText]


@pytest.fixture
def growing() -> Iterator[Growing]:
    with ExitStack() as stack:
        yield lambda path: stack.enter_context(closing(GrowingText(path)))


def append(path: Path, text: str) -> None:
    with path.open("ab") as file:
        file.write(text.encode())


def test_lines_come_once_they_are_whole(growing: Growing, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    text = growing(path)
    assert text.read() == NewLines([], 1)  # not there yet
    append(path, "one\ntw")
    assert text.read() == NewLines(["one"], 1)
    assert text.read() == NewLines([], 2)
    append(path, "o\r\nthree\n")
    assert text.read() == NewLines(["two", "three"], 2)


def test_a_truncated_file_begins_again(growing: Growing, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    append(path, "one\ntwo\n")
    text = growing(path)
    text.read()
    path.write_text("on")
    assert text.read() == NewLines([], 1)  # said with the first whole line
    append(path, "ce\n")
    assert text.read() == NewLines(["once"], 1, "was truncated from 8 to 2 bytes")
    assert text.read() == NewLines([], 2)


def test_a_file_that_is_written_anew_begins_again(growing: Growing, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    append(path, "one\ntwo\n")
    text = growing(path)
    text.read()
    path.write_text("four\nfive\nsix\n")
    assert text.read() == NewLines(["four", "five", "six"], 1, "was written anew")


def test_another_file_under_the_name_begins_again(growing: Growing, tmp_path: Path) -> None:
    path, moved = tmp_path / "a.csv", tmp_path / "b.csv"
    append(path, "one\n")
    text = growing(path)
    text.read()
    path.rename(moved)
    assert text.read().lines == []
    append(moved, "two\n")  # its writer has it open still
    assert text.read() == NewLines(["two"], 2)
    append(path, "three\n")
    assert text.read() == NewLines(["three"], 1, "was replaced by another file")


@pytest.mark.parametrize("way", ["in place", "renamed", "in pieces"])
def test_a_file_that_is_saved_anew_goes_on_behind_what_it_had(growing: Growing, tmp_path: Path, way: str) -> None:
    """As `table.to_csv(path)` after every few frames does."""
    path = tmp_path / "a.csv"
    append(path, "head\none\ntw")
    text = growing(path)
    assert text.read() == NewLines(["head", "one"], 1)
    for whole, new in (
        ("head\none\ntwo\n", NewLines(["two"], 3)),
        ("head\none\ntwo\nthree\nfour\n", NewLines(["three", "four"], 4)),
    ):
        if way == "renamed":
            (tmp_path / "b.csv").write_text(whole)
            (tmp_path / "b.csv").replace(path)
        elif way == "in place":
            path.write_text(whole)
        else:
            for n in (0, 3, 9, len(whole)):
                path.write_text(whole[:n])
                if n < len(whole):
                    assert text.read().lines == []
        assert text.read() == new
        assert text.read().lines == []
    path.write_text("head\none\nTWO\n")
    again = text.read()
    assert (again.lines, again.first) == (["head", "one", "TWO"], 1)
    assert again.begins


def test_the_same_lines_written_one_by_one_are_another_recording(tmp_path: Path) -> None:
    path, clock = tmp_path / "a.csv", [0.0]
    append(path, "head\none\ntwo\nthree\n")
    with closing(GrowingText(path, now_s=lambda: clock[0])) as text:
        text.read()
        path.write_text("head\none\n")
        assert text.read().lines == []
        clock[0] += SAVED_WITHIN_S / 2
        append(path, "two\n")
        assert text.read().lines == []
        clock[0] += SAVED_WITHIN_S
        assert text.read() == NewLines(["head", "one", "two"], 1, "was truncated from 19 to 9 bytes")
        append(path, "three\n")
        assert text.read() == NewLines(["three"], 4)


def test_a_file_that_another_program_has_locked_is_waited_for(
    growing: Growing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.csv"
    append(path, "one\n")

    def locked(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    text = growing(path)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", locked)
        assert [text.read().lines for _ in range(3)] == [[], [], []]
    assert caplog.text.count("cannot be opened now (Permission denied): waiting") == 1
    assert text.read() == NewLines(["one"], 1)


def test_a_drive_that_is_gone_for_a_moment(growing: Growing, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    append(path, "one\n")
    text = growing(path)
    text.read()

    class Stale(io.FileIO):
        def seek(self, *_: object) -> int:
            raise OSError(errno.ESTALE, "Stale file handle")

    text.close()
    text._file = Stale(path)
    append(path, "two\n")
    assert text.read().lines == []
    assert text.read() == NewLines(["two"], 2)


def test_encodings(growing: Growing, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"\xef\xbb\xbfone\nM\xfcller\n")
    text = growing(path)
    assert text.read().lines == ["one", "Müller"]
    for encoding in ("utf-16", "utf-16-le"):
        path.write_bytes("one\n".encode(encoding))
        with pytest.raises(RecordingError, match="is no UTF-8 text"):
            text.read()
    # As a crash of the machine leaves a file: the lines besides are read.
    path.write_bytes(b"first\n\0\0\0\nlast\n")
    assert text.read().lines == ["first", "\0\0\0", "last"]
    with pytest.raises(RecordingError, match="cannot be read"):
        GrowingText(tmp_path).read()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), max_size=6), max_size=8), st.data())
def test_every_line_comes_once_however_it_is_written(tmp_path: Path, lines: list[str], data: st.DataObject) -> None:
    path = tmp_path / "written.csv"
    path.write_bytes(b"")
    whole = ("".join(f"{line}\n" for line in lines)).encode()
    came: list[str] = []
    position = 0
    with closing(GrowingText(path)) as text:
        while position < len(whole):
            n = data.draw(st.integers(1, len(whole) - position))
            with path.open("ab") as file:
                file.write(whole[position : position + n])
            position += n
            new = text.read()
            assert (new.first, new.begins) == (len(came) + 1, "")
            came += new.lines
    assert came == [line.removeprefix("\ufeff") if i == 0 else line for i, line in enumerate(lines)]
