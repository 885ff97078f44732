"""Caltech Behavior Annotator text: all real files, and what annotators and editors do to such files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtseg.errors import RecordingError
from rtseg.recordings.bouts import Bout
from rtseg.recordings.labels.caltech import read_caltech
from rtseg.recordings.labels.label_file import NumberedBout, Video, paint
from rtseg.recordings.recording import IGNORE

HEAD = "Caltech Behavior Annotator - Annotation File\n\nConfiguration file:\nbase\tz\nbite\tb\nchase\tc\n\n"
OPEN = "S1:\tstart\tend\ttype\n-----------------------------\n"
OVERRUNS = {"14": 59, "25": 14, "31": 17, "39": 3}
"""Frames by which the labels of a video overrun its poses; all others fit."""


def n_rows(path: Path) -> int:
    return path.read_bytes().count(b"\n") - 4


def slow_read(path: Path, n_frames: int) -> dict[str, list[str]]:
    """Track -> behaviour per frame, '' where there is none."""
    tracks: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        words = line.split()
        if words and words[0] in ("S1:", "S2:"):
            track = tracks.setdefault(words[0][:-1], [""] * n_frames)
        elif len(words) == 3 and words[0].isdigit():
            for t in range(int(words[0]) - 1, min(int(words[1]), n_frames)):
                track[t] = words[2]
    return tracks


def test_every_real_file_equals_a_slow_reading(data_root: Path) -> None:
    found = {}
    for path in sorted((data_root / "rats58/labels").glob("*_annot.txt")):
        video = path.name[:2]
        (poses,) = (data_root / "rats58/poses").glob(f"{video}DLC*.csv")
        n_frames = n_rows(poses)
        labels = read_caltech(path, Video(n_frames, 30))
        expected = slow_read(path, n_frames)
        assert set(labels) == set(expected)
        for track, names in expected.items():
            classes = (*labels[track].classes, "")  # IGNORE = -1 is the last
            assert [classes[i] for i in labels[track].frames] == names
            assert labels[track].frames.dtype == np.int16
        beyond = OVERRUNS.get(video)
        tail = () if beyond is None else (f"frames labelled beyond the end of the video; cut ({beyond} frames)",)
        assert labels["S1"].warnings == tuple(f"track 'S1': {w}" for w in tail)
        found[video] = labels
    assert len(found) == 46
    assert sum("S2" in labels for labels in found.values()) == 38


def test_bouts_are_one_based_and_inclusive(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(HEAD + OPEN + "1 2 base\n4\t4\tbite\n")
    labels = read_caltech(path, Video(6, 30))["S1"]
    assert labels.classes == ("base", "bite", "chase")
    assert labels.frames.tolist() == [0, 0, IGNORE, 1, IGNORE, IGNORE]
    assert labels.covered.tolist() == [True, True, False, True, False, False]
    assert labels.warnings == ("track 'S1': frames without a label (3 frames)",)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "latin-1"])
def test_line_ends_and_encodings(tmp_path: Path, end: str, encoding: str) -> None:
    path = tmp_path / "a.txt"
    text = HEAD.replace("chase", "jagdgefühl") + OPEN + "   \t1\t3\tjagdgefühl\n"
    path.write_bytes(text.replace("\n", end).encode(encoding))
    labels = read_caltech(path, Video(3, 30))["S1"]
    assert labels.classes[2] == "jagdgefühl"
    assert labels.frames.tolist() == [2, 2, 2]
    assert len(labels.warnings) == (encoding != "utf-8")


def test_contradictions_are_masked_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(HEAD + OPEN + "1 4 base\n3 5 bite\n5 6 bite\n")
    labels = read_caltech(path, Video(6, 30))["S1"]
    assert labels.frames.tolist() == [0, 0, IGNORE, IGNORE, 1, 1]
    assert labels.covered.all()
    assert labels.warnings == ("track 'S1': frames labelled twice, with different behaviours; masked (2 frames)",)


@pytest.mark.parametrize(("last", "allowed"), [(160, True), (161, False), (10**30, False)])
def test_an_overrun_of_five_seconds_is_another_video(tmp_path: Path, last: int, allowed: bool) -> None:
    path = tmp_path / "a.txt"
    path.write_text(HEAD + OPEN + f"1 {last} base\n")
    if allowed:
        assert read_caltech(path, Video(10, 30))["S1"].warnings == (
            "track 'S1': frames labelled beyond the end of the video; cut (150 frames)",
        )
        return
    with pytest.raises(RecordingError, match="labels and poses are of one video") as error:
        read_caltech(path, Video(10, 30))
    assert error.value.line == 10


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (HEAD + OPEN + "1 2 sniff\n", 10, "'sniff' is not one of the configured base, bite, chase"),
        (HEAD + OPEN + "3 2 base\n", 10, "end after they start"),
        (HEAD + OPEN + "0 2 base\n", 10, "frames count from 1"),
        (HEAD + OPEN + "1 2 base\n3 4\n5 6 base\n", 11, "mend or remove the line"),
        (HEAD + OPEN + "1 2 base\n3 4", 11, "the file was cut here"),
        (HEAD + OPEN + "1 2.5 base\n", 10, "expected 'start end behaviour'"),
        (HEAD + OPEN + "1 2 base\n" + OPEN, 11, "track 'S1' comes twice"),
        (HEAD, None, "holds no track"),
        (HEAD.replace("chase", "bite"), 6, "'bite' is configured twice"),
        (HEAD.split("\n")[0] + "\n" + OPEN, 2, "has no section 'Configuration file:'"),
        ("start,stop\n1,2\n", 1, "expected 'Caltech Behavior Annotator'"),
    ],
)
def test_mistakes_name_file_line_and_mend(tmp_path: Path, text: str, line: int | None, words: str) -> None:
    path = tmp_path / "a.txt"
    path.write_text(text)
    with pytest.raises(RecordingError) as error:
        read_caltech(path, Video(100, 30))
    assert words in str(error.value)
    assert str(path) in str(error.value)
    assert error.value.line == line


def test_no_cut_inside_a_track_of_a_real_file_is_silent(data_root: Path, tmp_path: Path) -> None:
    raw = (data_root / "rats58/labels/05_annot.txt").read_bytes()
    path, second = tmp_path / "cut.txt", raw.index(b"S2:")
    refused = counted = 0
    for size in range(1, len(raw), 13):
        path.write_bytes(raw[:size])
        try:
            labels = read_caltech(path, Video(13500, 30))
        except RecordingError:
            refused += 1
            continue
        warned = any(track.warnings for track in labels.values())
        assert warned or not raw[size:].strip() or not raw[size:second].strip()
        counted += warned
    assert refused > 100  # by far the most cuts leave a track that ends long before its video
    assert counted > 5


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(1, 9), st.integers(0, 2)), max_size=6),
    st.integers(20, 40),
)
def test_paint_is_the_rule_as_written_down(triples: list[tuple[int, int, int]], n_frames: int) -> None:
    said = [{label for start, n, label in triples if start <= t < start + n} for t in range(n_frames)]
    bouts = [NumberedBout(Bout(start, start + n, label), 1) for start, n, label in triples]
    track = paint(Path("a.txt"), "S1", ("a", "b", "c"), bouts, Video(n_frames, 30))
    assert track.covered.tolist() == [bool(s) for s in said]
    assert track.frames.tolist() == [next(iter(s)) if len(s) == 1 else IGNORE for s in said]


def test_a_copy_of_another_frame_rate_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(HEAD + OPEN + "1 100 base\n101 150 bite\n151 250 base\n")
    for fps, is_told in ((30, True), (25, False)):
        (track,) = read_caltech(path, Video(10 * fps, fps)).values()
        assert any("as many as the video would have at 25 fps" in w.kind for w in track.warnings) is is_told
