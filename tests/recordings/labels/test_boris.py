"""BORIS exports: the real file, and events that do not add up."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from rtseg.errors import RecordingError
from rtseg.recordings.bouts import bouts_of
from rtseg.recordings.labels.boris import read_boris
from rtseg.recordings.labels.label_file import Video
from rtseg.recordings.recording import IGNORE

HEAD = "Observation id,x,,,\n,,,,\nTime,FPS,Subject,Behavior,Status\n"
NEW = "Observation id,Subject,Behavior,Behavior type,Time\n"
AGGREGATED = "Subject,Behavior,Behavior type,Start (s),Stop (s)\n"


def read(tmp_path: Path, text: str, n_frames: int = 300, fps: float = 30.0):
    path = tmp_path / "events.csv"
    path.write_text(text)
    return read_boris(path, Video(n_frames, fps))


def test_the_real_file(data_root: Path) -> None:
    (path,) = (data_root / "mice7").glob("boris*.csv")
    tracks = read_boris(path, Video(5700, 30))
    assert list(tracks) == ["adult", "adult:interact"]
    with path.open(newline="") as file:
        events = [(row[8], float(row[0])) for row in csv.reader(file) if row[8:9] in (["START"], ["STOP"])]
    assert len(events) % 2 == 0
    expected = np.full(5700, IGNORE)
    for (start, on_s), (stop, off_s) in zip(events[::2], events[1::2], strict=True):
        assert (start, stop) == ("START", "STOP")
        expected[round(on_s * 30) : round(off_s * 30)] = 0
    for track in tracks.values():
        assert track.classes == ("interact",)
        np.testing.assert_array_equal(track.frames, expected)
    first = next(b for b in bouts_of(expected) if b.label == 0)
    assert (first.start, first.stop) == (896, 1042)  # 29.850 s to 34.725 s


def test_two_at_once_are_masked_together_and_kept_apart(tmp_path: Path) -> None:
    text = "0,30,a,sniff,START\n1,30,a,mount,START\n2,30,a,sniff,STOP\n3,30,a,mount,STOP\n4,30,b,rear,POINT\n"
    tracks = read(tmp_path, HEAD + text)
    assert list(tracks) == ["a", "b", "a:sniff", "a:mount", "b:rear"]
    assert [b[:3] for b in bouts_of(tracks["a"].frames)] == [(0, 30, 0), (30, 60, -1), (60, 90, 1), (90, 300, -1)]
    assert tracks["a"].covered[:90].all()
    assert [b[:3] for b in bouts_of(tracks["a:mount"].frames)] == [(0, 30, -1), (30, 90, 0), (90, 300, -1)]
    assert [b[:3] for b in bouts_of(tracks["b"].frames)] == [(0, 120, -1), (120, 121, 0), (121, 300, -1)]
    assert any("labelled twice" in w and "(30 frames)" in w for w in tracks["a"].warnings)


@pytest.mark.parametrize("text", [NEW + "o,,rear,START,1\no,,rear,STOP,2\n", AGGREGATED + ",rear,STATE,1,2\n"])
def test_newer_layouts_and_no_subject(tmp_path: Path, text: str) -> None:
    for delimiter in (",", "\t"):
        tracks = read(tmp_path, text.replace(",", delimiter))
        assert list(tracks) == ["No focal subject", "No focal subject:rear"]
        assert np.flatnonzero(tracks["No focal subject"].frames == 0).tolist() == list(range(30, 60))


def test_another_frame_rate_is_counted(tmp_path: Path) -> None:
    tracks = read(tmp_path, HEAD + "1,25,a,rear,START\n2,25,a,rear,STOP\n")
    assert tracks["a"].warnings[0] == "BORIS saw the video at 25 fps, the recording has 30 (2 events)"


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (HEAD + "1,30,a,rear,START\n2,30,a,rear,START\n", 5, "starts again; it runs since line 4"),
        (HEAD + "1,30,a,rear,STOP\n", 4, "stops and was not started"),
        (HEAD + "1,30,a,rear,START\n", 4, "starts and never stops; add the STOP"),
        (HEAD + "2,30,a,rear,START\n1,30,a,rear,STOP\n", 5, "stops and was not started"),
        (HEAD + "1,30,a,rear,BEGIN\n", 4, "expected START, STOP or POINT, got 'BEGIN'"),
        (HEAD + "00:01,30,a,rear,POINT\n", 4, "export times as seconds"),
        (HEAD + "nan,30,a,rear,POINT\n", 4, "expected a time in seconds"),
        (HEAD + "1,30,a,rear,START\n2,30,a", 5, "expected 5 columns, got 3; the file was cut here"),
        (HEAD + "16,30,a,rear,POINT\n", 4, "more than 5 s beyond"),
        (AGGREGATED + "a,rear,STATE,3,2\n", 2, "before its start"),
        ("a,b\n1,2\n", 1, "expected a header row with Time, Behavior and Status"),
    ],
)
def test_mistakes_name_the_line(tmp_path: Path, text: str, line: int, words: str) -> None:
    with pytest.raises(RecordingError) as error:
        read(tmp_path, text)
    assert error.value.line == line
    assert words in str(error.value)
