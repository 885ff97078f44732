"""Tables with a row per frame or per step of time, and those that are neither."""

from __future__ import annotations

from pathlib import Path

import pytest

from rtseg.errors import RecordingError
from rtseg.recordings.bouts import bouts_of
from rtseg.recordings.labels.frame_tables.frame_table import FIRST_FRAMES
from rtseg.recordings.labels.label_file import Tracks, Video
from rtseg.recordings.open import read_labels, read_video_labels
from rtseg.recordings.recording import IGNORE


def read(tmp_path: Path, text: str, n_frames: int = 4, fps: float = 2.0) -> Tracks:
    path = tmp_path / "labels.csv"
    path.write_text(text)
    return read_labels(path, n_frames, fps)


@pytest.mark.parametrize("index", ["frame", "Frame", "frames", "", "Unnamed: 0", "frame_number"])
def test_an_index_counts_frames_under_any_name(tmp_path: Path, index: str) -> None:
    tracks = read(tmp_path, f"{index},attack,who\n0,0,a\n1,1,a\n2,1,b\n3,0,\n")
    assert list(tracks) == ["attack", "who"]
    assert tracks["attack"].frames.tolist() == [0, 1, 1, 0]
    assert tracks["who"].frames.tolist() == [0, 0, 1, IGNORE]


@pytest.mark.parametrize("words", [("0", "1"), ("0.0", "1.0"), ("False", "True"), ("FALSE", "TRUE")])
def test_zero_and_one_are_one_behaviour_however_they_are_written(tmp_path: Path, words: tuple[str, str]) -> None:
    no, yes = words
    track = read(tmp_path, f"frame,attack\n0.0,{no}\n1.0,{yes}\n2.0,{yes}\n3.0,\n")["attack"]
    assert track.classes == ("other", "attack")
    assert track.frames.tolist() == [0, 1, 1, IGNORE]


def test_numbers_beside_an_index_are_names(tmp_path: Path) -> None:
    for cells in (("0", "3", "3", "2"), ("0.0", "3.0", "3.0", "2.0")):
        rows = "\n".join(f"{t},{cell}" for t, cell in enumerate(cells))
        track = read(tmp_path, f"frame,S1\n{rows}\n")["S1"]
        assert track.classes == ("0", "3", "2")
        assert track.frames.tolist() == [0, 1, 1, 2]


def test_poses_and_measurements_are_no_labels(tmp_path: Path) -> None:
    text = ",Nose_1_x,Nose_1_y,Nose_1_p,Movement,Attack\n0,1,2,1,0.31,0\n1,1,2,1,0.72,1\n2,1,2,0,1.5,1\n3,1,2,1,9,0\n"
    tracks = read(tmp_path, text)
    assert list(tracks) == ["Attack"]
    assert tracks["Attack"].frames.tolist() == [0, 1, 1, 0]
    assert tracks["Attack"].warnings == (
        "columns of poses and measurements are no labels and are left out (4 columns)",
    )


def bouts(tracks: Tracks, track: str) -> list[tuple[int, int]]:
    return [(b.start, b.stop) for b in bouts_of(tracks[track].frames) if b.label == 1]


@pytest.mark.parametrize(("step_s", "fps"), [(0.1, 30), (1.0, 30), (0.5, 25), (0.04, 25), (0.1, 100), (0.1, 12.5)])
def test_rows_in_steps_of_time_cover_their_time(tmp_path: Path, step_s: float, fps: float) -> None:
    rows = "".join(f"{i * step_s:.3f},{int(10 <= i < 30)}\n" for i in range(60))
    n_frames = round(60 * step_s * fps)
    tracks = read(tmp_path, f"time,sniff\n{rows}", n_frames, fps)
    first, behind = -(-10 * step_s * fps // 1), -(-30 * step_s * fps // 1)  # the first frames at or after the edges
    assert bouts(tracks, "sniff") == [(int(round(first, 6)), int(round(behind, 6)))]
    assert (tracks["sniff"].frames != IGNORE).all()


def test_times_may_be_in_milliseconds_and_begin_late(tmp_path: Path) -> None:
    rows = "".join(f"{1000 + 100 * i},{int(i < 5)}\n" for i in range(20))
    tracks = read(tmp_path, f"Time (ms),rear\n{rows}", 90, 30)
    assert bouts(tracks, "rear") == [(30, 45)]
    assert (tracks["rear"].frames[:30] == IGNORE).all()


def test_a_column_of_times_beside_frames_is_no_label(tmp_path: Path) -> None:
    assert list(read(tmp_path, "frame,time,S1\n0,0.0,a\n1,0.5,b\n2,1.0,b\n3,1.5,a\n")) == ["S1"]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("time,S1\n0,a\n0.5,a\n0.6,b\n", 3, "expected times in equal steps of 0.3 s, got one of 0.5 s"),
        ("time,S1\n0,a\n", 2, "so that the step is not known"),
        ("time,S1\n" + "".join(f"{i},a\n" for i in range(20)), 21, "goes on for 18.0 s behind the video"),
        ("Onset_code,Offset_code,Code\n0,30,a\n30,60,b\n", 1, "and no column counts frames or time"),
        (
            "t_onset,t_offset,label\n3,30,a\n30,60,b\n",
            1,
            "column 't_onset' holds numbers beside labels, as the edges of",
        ),
        ("time,act,event\n0.5,run,START\n1.5,run,STOP\n", 1, "column 'event' says starts and stops"),
        ("S1,S2\n0.5,a\n0.7,b\n", 1, "holds numbers, neither names of behaviours nor 0 and 1"),
        ("frame,nose_x,nose_y\n0,1,2\n1,1,2\n", 1, "has no column of labels"),
        ("animal,doing\na,run\nb,bite\n", None, "and 2 rows are not the 4 frames of the video"),
        ("frame,S1\n", 1, "has a header and no rows"),
        ("frame,S1\n0,a\n2,b\n", 3, "expected frame 1, got '2'"),
    ],
)
def test_what_is_neither_is_refused(tmp_path: Path, text: str, line: int | None, words: str) -> None:
    with pytest.raises(RecordingError) as error:
        read(tmp_path, text)
    assert words in str(error.value)
    assert error.value.line == line


@pytest.mark.parametrize(("n_rows", "read_it"), [(600, True), (451, True), (449, False), (300, False), (751, False)])
def test_a_file_of_another_length_is_refused_beyond_five_seconds(tmp_path: Path, n_rows: int, read_it: bool) -> None:
    text = "frame,S1\n" + "".join(f"{t},a\n" for t in range(n_rows))
    if read_it:
        assert (read(tmp_path, text, 600, 30)["S1"].frames == 0).sum() == min(n_rows, 600)
        return
    with pytest.raises(RecordingError, match="more than 5 s"):
        read(tmp_path, text, 600, 30)


def test_a_table_without_a_header_is_refused(tmp_path: Path) -> None:
    """Its first frame would be the header, and every label a frame early."""
    for first, rows in (("0", "1\n0\n0\n"), ("run", "rest\nrest\nrun\n")):
        with pytest.raises(RecordingError, match=f"line 1: '{first}' stands in the first line and in others below"):
            read(tmp_path, f"{first}\n{rows}")
    # With a row for each frame below it, the first line is a header.
    assert read(tmp_path, "run\nrest\nrest\nrun\nrun\n")["run"].frames.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("unknown", ["", "NA", "nan", "#N/A", "n/a"])
def test_what_nobody_labelled_is_no_class(tmp_path: Path, unknown: str) -> None:
    track = read(tmp_path, f"frame,sniff\n0,0\n1,1\n2,{unknown}\n3,1\n")["sniff"]
    assert (track.classes, track.frames.tolist()) == (("other", "sniff"), [0, 1, IGNORE, 1])
    assert read(tmp_path, "frame,acts\n0,none\n1,run\n2,run\n3,none\n")["acts"].classes == ("none", "run")


def test_events_and_samples_of_time_are_no_labels_of_every_frame(tmp_path: Path) -> None:
    for text in ("time,act\n1,rear\n9,sniff\n", "time,act\n0,rest\n5,rest\n10,run\n15,rest\n"):
        with pytest.raises(RecordingError, match="line 2: expected a row for every step of 2 s or less"):
            read(tmp_path, text, n_frames=20, fps=1.0)


def test_a_clock_that_began_elsewhere_is_refused_or_told(tmp_path: Path) -> None:
    rows = "".join(f"{2 + t / 10:.1f},{int(t > 5)}\n" for t in range(10))
    with pytest.raises(RecordingError, match="a row for each of the video's 10 frames, and its times begin at 2 s"):
        read(tmp_path, f"time,run\n{rows}", n_frames=10, fps=10.0)
    track = read(tmp_path, f"time,run\n{rows}", n_frames=28, fps=10.0)["run"]
    assert track.frames.tolist() == [IGNORE] * 20 + [0] * 6 + [1] * 2
    assert {(w.kind.split(",")[0], w.n) for w in track.warnings} >= {
        ("times begin later than at 0", 20),
        ("frames labelled beyond the end of the video; cut", 2),
    }


def test_times_beside_frames_tell_another_rate(tmp_path: Path) -> None:
    rows = "".join(f"{t},{t / 25:.2f},{t % 2}\n" for t in range(100))
    tracks = read(tmp_path, f"frame,time,run\n{rows}", n_frames=100, fps=30.0)
    assert any("saw the video at 25 fps, the recording has 30" in w for w in tracks["run"].warnings)
    assert not read(tmp_path, f"frame,time,run\n{rows}", n_frames=100, fps=25.0)["run"].warnings


def test_texts_that_are_no_behaviours_are_left_out_or_refused(tmp_path: Path) -> None:
    """A time of day beside frames; and a table with a delimiter that nobody knows, which is one column."""
    rows = "".join(f"{t},12:00:{t:02d} h,{t % 2}\n" for t in range(60))
    tracks = read(tmp_path, f"frame,clock,run\n{rows}", n_frames=60)
    assert list(tracks) == ["run"]
    assert "columns of poses and measurements are no labels and are left out (1 columns)" in tracks["run"].warnings
    with pytest.raises(
        RecordingError, match="holds 60 different texts, which are no behaviours; are its columns apart"
    ):
        read(tmp_path, "frame|act\n" + "".join(f"{t}|run\n" for t in range(60)), n_frames=60)


@pytest.mark.parametrize("name", ["syllable", "Motif", "B-SOiD labels", "cluster"])
def test_numbers_under_a_name_that_says_labels(tmp_path: Path, name: str) -> None:
    rows = "".join(f"{t // 2},{100 + t},{t / 7:.3f}\n" for t in range(140))
    tracks = read(tmp_path, f"{name},centroid x,heading\n{rows}", n_frames=140)
    assert list(tracks) == [name]
    assert tracks[name].frames.tolist() == [t // 2 for t in range(140)]
    assert any("measurements are no labels and are left out (2 columns)" in w for w in tracks[name].warnings)


def test_an_index_of_pandas_counts_rows_and_not_frames(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="3 rows are not the 12 frames of the video"):
        read(tmp_path, ",mouse,comes,goes\n0,3,0,12\n1,5,12,30\n2,3,42,18\n", n_frames=12)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("frame,run,seen\n0,1,\n1,0,\n", "column 'seen' is empty"),
        ("time,run,seen\n0,1,\n0.5,0,\n", "column 'seen' is empty"),
    ],
)
def test_errors_about_a_column_name_the_line_of_the_header(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(RecordingError, match=words) as error:
        read(tmp_path, f"who scored,A. B.,\nwhen,Monday,\n{text}", 2)
    assert error.value.line == 3


def test_clusters_0_and_1_alone_are_numbers_as_in_other_videos(tmp_path: Path) -> None:
    (track,) = read(tmp_path, "frame,syllable\n0,1\n1,1\n2,0.0\n", n_frames=3).values()
    assert [track.classes[code] for code in track.frames] == ["1", "1", "0"]


def test_of_several_videos_the_own_rows_are_read(tmp_path: Path) -> None:
    path = tmp_path / "all.csv"
    path.write_text("Video Name,frame,act\n" + "".join(f"{m}.mp4,{t},{m}\n" for m in ("m1", "m2") for t in range(4)))
    tracks = read_labels(path, 4, 30, names=("m2DLC_resnet50.csv",))
    assert list(tracks) == ["act"]
    assert tracks["act"].classes == ("m2",)
    with pytest.raises(RecordingError, match="holds 2 observations and nothing in it is named like 'm3'"):
        read_labels(path, 4, 30, names=("m3",))


def test_the_only_video_is_told_where_it_is_another(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("frame,video,act\n0,m2,rest\n1,m2,run\n")
    for name, is_told in (("m1DLC_a.csv", True), ("m2DLC_a.csv", False)):
        (track,) = read_labels(path, 2, 30, names=(name,)).values()
        assert any("only video is not named like the poses" in w for w in track.warnings) is is_told
    path.write_text("frame,recording\n0,0\n1,1\n")  # a light that shows when it records
    assert list(read_labels(path, 2, 30, names=("m1",))) == ["recording"]


def test_an_index_of_pandas_beside_frames_is_no_label(tmp_path: Path) -> None:
    assert list(read(tmp_path, ",frame,run\n0,0,1\n1,1,0\n2,2,0\n3,3,1\n")) == ["run"]


def test_an_index_may_be_a_clock(tmp_path: Path) -> None:
    """DeepOF's tables: the index is a time."""
    rows = "".join(f"00:00:0{t // 2}.{t % 2 * 5}00000,{int(t > 1)},0.{t}\n" for t in range(4))
    tracks = read(tmp_path, f",climbing,speed\n{rows}")
    assert tracks["climbing"].frames.tolist() == [0, 0, 1, 1]


def test_minus_1_beside_0_and_1_is_no_behaviour(tmp_path: Path) -> None:
    """DeepEthogram's frames that nobody labelled, also where a behaviour never happened or fills all that was seen."""
    tracks = read(tmp_path, ",background,sniff,rear\n0,1,0,0\n1,1,0,0\n2,-1,-1,-1\n3,-1,-1,-1\n")
    assert {name: track.frames.tolist() for name, track in tracks.items()} == {
        "background": [1, 1, IGNORE, IGNORE],
        "sniff": [0, 0, IGNORE, IGNORE],
        "rear": [0, 0, IGNORE, IGNORE],
    }
    assert ("-1 beside 0 and 1 is taken for frames that nobody labelled; masked", 2) in {
        (w.kind, w.n) for w in tracks["sniff"].warnings
    }
    # A behaviour that nobody looked for in this video.
    tracks = read(tmp_path, ",sniff,rear\n0,0,-1\n1,1,-1\n2,-1,-1\n3,0,-1\n")
    assert (tracks["rear"].classes, tracks["rear"].frames.tolist()) == (("other", "rear"), [IGNORE] * 4)
    assert tracks["sniff"].frames.tolist() == [0, 1, IGNORE, 0]
    # Codes of two behaviours, and numbers of clusters, are names.
    assert read(tmp_path, "frame,side\n0,-1\n1,1\n2,1\n3,-1\n")["side"].classes == ("-1", "1")
    assert read(tmp_path, "frame,cluster\n0,-1\n1,0\n2,1\n3,-1\n")["cluster"].classes == ("-1", "0", "1")


def test_a_copy_of_another_frame_rate_is_told(tmp_path: Path) -> None:
    """Labels of a 25 fps copy have as many rows as that has frames; a few seconds are within the tolerance."""
    rows = "".join(f"{t},{int(25 <= t < 50)}\n" for t in range(250))
    for fps, is_told in ((30.0, True), (25.0, False)):
        track = read(tmp_path, f"frame,sniff\n{rows}", n_frames=round(10 * fps), fps=fps)["sniff"]
        assert any("as many as the video would have at 25 fps" in w.kind for w in track.warnings) is is_told


def test_rows_that_count_nothing_and_are_fewer_than_frames_are_told(tmp_path: Path) -> None:
    """VAME's motifs leave out half a window at either end: nothing says so in the file."""
    rows = [f"{t // 10}" for t in range(95)]
    for text, is_told in (
        ("motif\n" + "\n".join(rows), True),
        (",motif\n" + "\n".join(f"{t},{row}" for t, row in enumerate(rows)), True),
        ("frame,motif\n" + "\n".join(f"{t},{row}" for t, row in enumerate(rows)), False),
        ("motif\n" + "\n".join([*rows, *["9"] * 4]), False),
    ):
        (track,) = read(tmp_path, text + "\n", n_frames=100, fps=30).values()
        assert (FIRST_FRAMES in [w.kind for w in track.warnings]) is is_told


def test_as_many_rows_as_poses_that_lack_frames_are_refused(tmp_path: Path) -> None:
    """Labels of each row of a pose file from which frames were dropped: behind the gap they would be early."""
    path = tmp_path / "a.csv"
    path.write_text("frame,run\n" + "".join(f"{t},{t % 2}\n" for t in range(96)))
    with pytest.raises(RecordingError, match="96 rows, as many as the poses, which lack 4 of the video's 100 frames"):
        read_video_labels(path, Video(100, 30, n_tracked=96))
    for n_tracked in (0, 95, 100):
        assert "run" in read_video_labels(path, Video(100, 30, n_tracked=n_tracked))


def test_a_column_that_says_the_rate_is_no_label_and_held_to_the_poses(tmp_path: Path) -> None:
    for name in ("fps", "Frame_Rate"):
        tracks = read(tmp_path, f"frame,{name},attack\n0,2,0\n1,2,1\n2,2,1\n3,2,0\n")
        assert list(tracks) == ["attack"]
        assert [str(warning) for warning in tracks["attack"].warnings] == [
            "columns of poses and measurements are no labels and are left out (1 columns)"
        ]
        (other, _) = read(tmp_path, f"frame,{name},attack\n0,25,0\n1,25,1\n2,25,1\n3,25,0\n")["attack"].warnings
        assert "25" in other
        assert "2" in other


def test_one_number_all_through_is_a_setting_unless_its_name_says_otherwise(tmp_path: Path) -> None:
    text = "frame,{},attack\n0,22,0\n1,22,1\n2,22,1\n3,22,0\n"
    assert list(read(tmp_path, text.format("temperature"))) == ["attack"]
    for name in ("cluster", "behaviour", "annotation"):
        assert read(tmp_path, text.format(name))[name].classes == ("22",)
