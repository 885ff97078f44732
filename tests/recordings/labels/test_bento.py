"""MARS' and BENTO's .annot, in seconds and in frames."""

from __future__ import annotations

from pathlib import Path

import pytest

from rtseg.errors import RecordingError
from rtseg.recordings.bouts import bouts_of
from rtseg.recordings.labels.bento import read_bento
from rtseg.recordings.labels.label_file import Video
from rtseg.recordings.open import read_labels

HEAD = r"""Bento annotation file
Movie file(s):  C:\x\m1.seq

Stimulus name:
Annotation start frame: 1
Annotation stop frame: 600
Annotation framerate: 30.000000

List of channels:
Ch1

List of annotations:
attack
sniff
rear

"""
ROWS = "Start\t Stop\t Duration \n"
SECONDS = f"Ch1----------\n>attack\n{ROWS}3.0\t5.2\t2.2\n\n>sniff\n{ROWS}1.0\t4.0\t3.0\n"
FRAMES = "Ch1----------\n>attack\nStart\t Stop\t Duration \n91\t156\t66\n"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "a.annot"
    path.write_text(text)
    return path


def test_times_with_a_point_are_seconds(tmp_path: Path) -> None:
    tracks = read_labels(write(tmp_path, HEAD + SECONDS), 600, 30)
    assert list(tracks) == ["Ch1", "Ch1:attack", "Ch1:sniff", "Ch1:rear"]
    assert [b[:3] for b in bouts_of(tracks["Ch1:attack"].frames)] == [(0, 90, -1), (90, 156, 0), (156, 600, -1)]
    assert [b[:3] for b in bouts_of(tracks["Ch1:sniff"].frames)] == [(0, 30, -1), (30, 120, 0), (120, 600, -1)]
    # Two at once are masked in the channel's own track.
    assert [b[:3] for b in bouts_of(tracks["Ch1"].frames)][1:4] == [(30, 90, 1), (90, 120, -1), (120, 156, 0)]
    assert not tracks["Ch1:rear"].covered.any()


def test_frames_count_from_the_start_frame_and_include_the_last(tmp_path: Path) -> None:
    for start, text in ((1, FRAMES), (2, FRAMES.replace("91\t156", "92\t157"))):
        head = HEAD.replace("start frame: 1", f"start frame: {start}")
        tracks = read_bento(write(tmp_path, head + text), Video(600, 30))
        assert [b[:2] for b in bouts_of(tracks["Ch1"].frames) if b.label >= 0] == [(90, 156)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (HEAD + FRAMES.replace("91", "x"), "line 20: expected a number from 0 on, got 'x'"),
        (HEAD + FRAMES.replace("156", "90"), "line 20: bout 91 to 90: ends before it starts"),
        (HEAD + "Ch1----------\n1 2 3\n", "line 18: expected 'start stop duration' below a '>behaviour'"),
        (HEAD, "holds no channel"),
        (HEAD.replace("30.0", "25.0") + FRAMES, "counts frames at 25 fps, and the recording has 30"),
        (HEAD.replace("600", "300") + SECONDS, "labels end after 300 frames and the video has 600"),
        (HEAD + SECONDS.replace("5.2", "35.2"), "more than 5 s beyond"),
    ],
)
def test_mistakes_name_the_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(RecordingError) as error:
        read_bento(write(tmp_path, text), Video(600, 30))
    assert words in str(error.value)


def test_another_rate_is_told_where_times_are_seconds(tmp_path: Path) -> None:
    tracks = read_bento(write(tmp_path, HEAD.replace("30.0", "25.0").replace("600", "500") + SECONDS), Video(600, 30))
    assert "BENTO saw the video at 25 fps, the recording has 30 (2 bouts)" in tracks["Ch1"].warnings
