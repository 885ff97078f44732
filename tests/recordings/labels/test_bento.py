"""MARS' and BENTO's .annot, in seconds and in frames."""

from __future__ import annotations

from pathlib import Path

import pytest

from rtseg.errors import RecordingError
from rtseg.recordings.bouts import bouts_of
from rtseg.recordings.labels.bento import MAY_BE_FRAMES, MAY_BE_SECONDS, read_bento
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
        head = HEAD.replace("start frame: 1", f"start frame: {start}").replace("600", f"{599 + start}")
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
        (HEAD.replace("600", "900") + SECONDS, "covers 900 frames and the video has 600 at 30 fps"),
        (
            HEAD.replace("frame: 1", "frame: 101") + FRAMES,
            "covers frames 101 to 600 of its movie, and the recording has",
        ),
        (HEAD.replace("frame: 1", "frame: 101").replace("600", "700") + SECONDS, "begins at frame 101 of its movie"),
        (HEAD.replace("start frame: 1", "start time: 5.0") + SECONDS, "begins at 5 s of its movie"),
        (HEAD + FRAMES + "\n\n" + FRAMES, "line 23: channel 'Ch1' comes twice; rename one of them"),
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


def whole(*bouts: tuple[int, int], point: str = "", duration: int = 0) -> str:
    """Bouts in whole numbers. duration: what their duration is beyond the difference of stop and start."""
    rows = "".join(f"{a}{point}\t{b}{point}\t{b - a + duration}{point}\n" for a, b in bouts)
    return f"Ch1----------\n>attack\n{ROWS}{rows}"


def attacks(tmp_path: Path, text: str, head: str = HEAD) -> tuple[list[tuple[int, int]], list[str]]:
    """The bouts of attack in a video of 600 frames at 30 fps, and the kinds of doubts about their unit."""
    track = read_bento(write(tmp_path, head + text), Video(600, 30))["Ch1"]
    doubts = [w.kind for w in track.warnings if w.kind in (MAY_BE_SECONDS, MAY_BE_FRAMES)]
    return [b[:2] for b in bouts_of(track.frames) if b.label == 0], doubts


def test_whole_seconds_without_a_point_are_told(tmp_path: Path) -> None:
    """BENTO writes a whole second without a point: all bouts would lie within the first frames, without a word."""
    assert attacks(tmp_path, whole((2, 4), (9, 15))) == ([(1, 4), (8, 15)], [MAY_BE_SECONDS])
    # Frames, by where they lie or by their durations, which count both ends.
    assert attacks(tmp_path, whole((2, 4), (9, 150))) == ([(1, 4), (8, 150)], [])
    assert attacks(tmp_path, whole((2, 4), (9, 15), duration=1)) == ([(1, 4), (8, 15)], [])
    # One time with a point says what the whole ones are.
    assert attacks(tmp_path, whole((2, 4)) + "9\t15.5\t6.5\n") == ([(60, 120), (270, 465)], [])


def test_frames_with_a_point_are_no_seconds(tmp_path: Path) -> None:
    """As a program that holds them as floating-point numbers writes them."""
    assert attacks(tmp_path, whole((91, 156), (200, 230), point=".0")) == ([(90, 156), (199, 230)], [])
    assert attacks(tmp_path, whole((2, 4), (9, 15), point=".0", duration=1)) == ([(1, 4), (8, 15)], [])
    assert attacks(tmp_path, whole((2, 4), (9, 15), point=".0")) == ([(60, 120), (270, 450)], [MAY_BE_FRAMES])


def test_files_of_other_programs_and_another_video(tmp_path: Path) -> None:
    old = HEAD.replace("Bento", "Tracergui").replace("Annotation framerate: 30.000000\n", "")
    assert attacks(tmp_path, FRAMES, old)[0] == [(90, 156)]
    below = HEAD.replace(r"Movie file(s):  C:\x\m1.seq", "Movie file(s):\nm1.seq")
    for head, name, told in ((HEAD, "m1", False), (HEAD, "m7", True), (below, "m1", False), (below, "m7", True)):
        track = read_labels(write(tmp_path, head + FRAMES), 600, 30, names=[name])["Ch1"]
        assert ("its movies are not named like the poses" in [w.kind for w in track.warnings]) == told
    # A rate that is rounded is the same.
    track = read_bento(write(tmp_path, HEAD.replace("30.000000", "29.970030") + FRAMES), Video(600, 29.97))["Ch1"]
    assert [b[:2] for b in bouts_of(track.frames) if b.label == 0] == [(90, 156)]
