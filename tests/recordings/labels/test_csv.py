"""Plain CSV labels, and CalMS21's label list against the official counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rtseg.errors import RecordingError
from rtseg.recordings.labels.csv import TASK1, read_calms21_labels, read_label_csv
from rtseg.recordings.labels.label_file import Video
from rtseg.recordings.recording import IGNORE


def read(tmp_path: Path, text: str, n_frames: int = 4, fps: float = 2.0):
    path = tmp_path / "labels.csv"
    path.write_text(text)
    return read_label_csv(path, Video(n_frames, fps))


def test_calms21_task1_test_has_the_official_counts(data_root: Path) -> None:
    labels = read_calms21_labels(data_root / "calms21/calms21_task1_test_labels.csv")
    assert len(labels) == 19
    frames = np.concatenate([one.frames for one in labels])
    assert len(frames) == 262_107
    counts = dict(zip(TASK1, np.bincount(frames).tolist(), strict=True))
    assert counts == {"attack": 12_630, "investigation": 61_275, "mount": 31_848, "other": 156_354}
    with pytest.raises(RecordingError, match="read_calms21_labels"):
        read_label_csv(data_root / "calms21/calms21_task1_test_labels.csv", Video(100, 30))


def test_a_column_of_names_per_track(tmp_path: Path) -> None:
    tracks = read(tmp_path, "frame,S1,S2\n0,rest,\n1,run,bite\n2,run,bite\n3,rest,\n")
    assert tracks["S1"].classes == ("rest", "run")
    assert tracks["S1"].frames.tolist() == [0, 1, 1, 0]
    assert tracks["S2"].frames.tolist() == [IGNORE, 0, 0, IGNORE]


def test_a_column_of_zeros_and_ones_per_behaviour(tmp_path: Path) -> None:
    tracks = read(tmp_path, "rear,groom\n0,1\n0,1\n1,1\n")
    assert tracks["rear"].classes == ("other", "rear")
    assert tracks["rear"].frames.tolist() == [0, 0, 1, IGNORE]
    assert tracks["groom"].classes == ("other", "groom")
    assert tracks["groom"].warnings == ("track 'groom': frames without a label (1 frames)",)


@pytest.mark.parametrize("text", ["start,stop,behaviour\n1,3,run\n", "start_s,stop_s,behavior\n0.5,1.5,run\n"])
def test_bouts_in_frames_and_in_seconds(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text)["labels"].frames.tolist() == [IGNORE, 0, 0, IGNORE]


def test_bouts_of_several_tracks(tmp_path: Path) -> None:
    tracks = read(tmp_path, "track,start,stop,behaviour\na,0,1,run\nb,1,2,bite\na,2,4,rest\n")
    assert tracks["a"].classes == ("run", "rest")
    assert tracks["a"].frames.tolist() == [0, IGNORE, 1, 1]
    assert tracks["b"].frames.tolist() == [IGNORE, 0, IGNORE, IGNORE]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("S1\nrest\nrun,run\n", 3, "expected 1 columns, got 2"),
        ("frame,S1\n0,rest\n2,run\n", 3, "expected frame 1, got '2'"),
        ("frame,S1\n1,rest\n", 2, "frames count from 0"),
        ("S1,S1\na,b\n", 1, "expected different column names"),
        ("frame,S1\n0,\n", 1, "column 'S1' is empty"),
        ("frame\n0\n", 1, "no column of labels"),
        ("start,stop,behaviour\n3,2,run\n", 2, "ends after it starts"),
        ("start,stop,behaviour\n-1,2,run\n", 2, "from 0 on"),
        ("start,stop,behaviour\n0,x,run\n", 2, "from 0 on"),
        ("start,stop,behaviour\n0,1,run\n1,2,NA\n", 3, "and a behaviour, got '1,2,NA'"),
        ("start,stop,behaviour\n0,nan,run\n", 2, "from 0 on"),
        ("start,stop,behaviour,mood\n0,2,run,good\n", 1, "expected the columns"),
        ("start,stop\n0,2\n", 1, "expected the columns"),
        ("S1\n" + "run\n" * 15, 16, "more than 5 s beyond"),
    ],
)
def test_mistakes_name_the_line(tmp_path: Path, text: str, line: int, words: str) -> None:
    with pytest.raises(RecordingError) as error:
        read(tmp_path, text)
    assert error.value.line == line
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("sequence,annotation\n0,1\n", 1, "expected the header"),
        ("sequence number,annotation\n0,1\n0,4\n", 3, "a label from 0 to 3"),
        ("sequence number,annotation\n0,1\n0", 3, "a label from 0 to 3"),
        ("sequence number,annotation\n0,1\n1,1\n0,1\n", 4, "goes on after another began"),
    ],
)
def test_mistakes_in_the_label_list(tmp_path: Path, text: str, line: int, words: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(text)
    with pytest.raises(RecordingError) as error:
        read_calms21_labels(path)
    assert error.value.line == line
    assert words in str(error.value)


def test_notes_above_a_header_are_left_out_and_counted(tmp_path: Path) -> None:
    notes = "scored by,AB\nTime,10:30\n\n"
    for table in ("start,stop,behaviour\n1,3,run\n", "frame,run\n0,0\n1,1\n2,1\n3,0\n"):
        track = next(iter(read(tmp_path, notes + table).values()))
        assert np.flatnonzero(track.frames == len(track.classes) - 1).tolist() == [1, 2]
        assert "lines above the header are taken for notes and left out (2 lines)" in track.warnings


@pytest.mark.parametrize("unit", ["Time (s)", "seconds", "[s]", "hh:mm:ss"])
def test_a_unit_above_a_header_is_not_left_out(tmp_path: Path, unit: str) -> None:
    with pytest.raises(RecordingError, match=r"stands above the columns start and stop.*call them start_s") as error:
        read(tmp_path, f"who,{unit},,what\nsubject,start,stop,behaviour\na,1,3,run\n")
    assert error.value.line == 1


def test_a_frame_rate_in_the_notes_is_compared(tmp_path: Path) -> None:
    for note, is_told in (("FPS: 25", True), ("frame rate,25.0", True), ("fps;2,0", False), ("25 frames", False)):
        track = read(tmp_path, f"{note}\nstart,stop,behaviour\n0,2,run\n")["labels"]
        assert any("saw the video at 25 fps, the recording has 2" in w.kind for w in track.warnings) is is_told
    # Seconds mean the same at any rate.
    track = read(tmp_path, "fps: 25\nstart_s,stop_s,behaviour\n0,1,run\n")["labels"]
    assert not any("25 fps" in w.kind for w in track.warnings)
