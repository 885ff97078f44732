"""Tables of bouts under the names that programs give their columns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rtseg.errors import RecordingError
from rtseg.inference.predictions import Predictions, write_bouts
from rtseg.recordings.bouts import bouts_of
from rtseg.recordings.heads import Head
from rtseg.recordings.labels.bout_table import SAID_LAST_INCLUDED, SEEM_FROM_ONE, SEEM_LAST_TIMES, bout_columns
from rtseg.recordings.labels.label_file import Tracks, Video
from rtseg.recordings.open import read_labels, read_video_labels
from rtseg.recordings.recording import IGNORE


def read(tmp_path: Path, text: str, video: Video | None = None) -> Tracks:
    path = tmp_path / "bouts.csv"
    path.write_text(text)
    return read_video_labels(path, video or Video(300, 30))


def bouts(tracks: Tracks, track: str = "labels") -> list[tuple[int, int, str]]:
    own = tracks[track]
    return [(b.start, b.stop, own.classes[b.label]) for b in bouts_of(own.frames) if b.label >= 0]


@pytest.mark.parametrize(
    "header",
    [
        "start,stop,behaviour",
        "Start,Stop,Behavior",
        "START,END,LABEL",
        "start,end,label",
        "Start Frame,End Frame,Class",
        "start_frame,stop_frame,behaviour",
        "onset,offset,event",
        "start_idx,end_idx,label",
        "start (frames),end (frames),label",
        "Start frame #,End frame #,label",
        "Begin,Finish,Action",
        "from,to,type",
    ],
)
def test_frames_under_any_name_and_case(tmp_path: Path, header: str) -> None:
    assert bouts(read(tmp_path, f"{header}\n0,30,a\n60,90,b\n")) == [(0, 30, "a"), (60, 90, "b")]


@pytest.mark.parametrize(
    "header",
    [
        "start_s,stop_s,behaviour",
        "Start (s),End (s),Label",
        "start_time,end_time,behavior",
        "onset_sec,offset_sec,label",
    ],
)
def test_seconds_under_any_name_and_case(tmp_path: Path, header: str) -> None:
    assert bouts(read(tmp_path, f"{header}\n0.5,1.5,a\n2,2.001,b\n")) == [(15, 45, "a"), (60, 61, "b")]


@pytest.mark.parametrize(
    "text",
    [
        "start,stop,behaviour\n0:00:01,0:00:02.5,a\n0:01:00,00:01:01,b\n",
        "Start (hh:mm:ss);Stop (hh:mm:ss);Label\n00:00:01,000;00:00:02,500;a\n00:01:00,000;00:01:01,000;b\n",
        "start_time,end_time,label\n1.0,2.5,a\n0:01:00,0:01:01,b\n",
    ],
)
def test_times_may_be_hours_minutes_and_seconds(tmp_path: Path, text: str) -> None:
    tracks = read(tmp_path, text, Video(2000, 30))
    assert bouts(tracks) == [(30, 75, "a"), (1800, 1830, "b")]
    assert not any("taken as frames" in warning for warning in tracks["labels"].warnings)


@pytest.mark.parametrize(
    "text",
    [
        # As hours and minutes all of these lie far beyond the video, or have fractions that no minute has.
        "start,stop,behaviour\n0:30,0:45,a\n1:00,1:30,b\n",
        "start_s,stop_s,behaviour\n0:30.0,0:45.0,a\n1:00.0,1:30.0,b\n",
        "Start;End;Label\n00:30,00;00:45,00;a\n01:00,00;01:30,00;b\n",
        "start (s),stop (s),behaviour\n30,45,a\n1:00,90.0,b\n",
        "start,duration,behaviour\n0:30,0:15,a\n1:00,0:30,b\n",
    ],
)
def test_times_may_be_minutes_and_seconds(tmp_path: Path, text: str) -> None:
    assert bouts(read(tmp_path, text, Video(3000, 30))) == [(900, 1350, "a"), (1800, 2700, "b")]


@pytest.mark.parametrize("n_frames", [30 * 7200, 0])
def test_minutes_and_seconds_that_may_be_hours_and_minutes_are_refused(tmp_path: Path, n_frames: int) -> None:
    video = Video(n_frames, 30, open_ended=not n_frames)
    with pytest.raises(RecordingError, match=r"line 2: .*got '0:30', which is m:ss or h:mm; write h:mm:ss"):
        read(tmp_path, "start,stop,behaviour\n0:30,0:45,a\n", video)
    # A fraction anywhere in the file says what all of its times are.
    tracks = read(tmp_path, "start,stop,behaviour\n0:30,0:45,a\n0:50,0:51.5,a\n", video)
    assert bouts(tracks) == [(900, 1350, "a"), (1500, 1545, "a")]


@pytest.mark.parametrize(
    ("header", "rows"),
    [
        ("start,duration,behaviour", "30,15,a\n60,1,b\n"),
        ("onset_frame,duration_frames,label", "30,15,a\n60,1,b\n"),
        ("start_s,duration_s,behaviour", "1.0,0.5,a\n2,0.03,b\n"),
        ("Start (s);Duration;Label", "1,0;0,5;a\n2,0;0,03;b\n"),
        ("Start Time,Duration (sec),Behavior", "0:00:01,0.5,a\n0:00:02,0.03,b\n"),
        ("start,stop,duration,behaviour", "30,45,7,a\n60,61,7,b\n"),
    ],
)
def test_bouts_may_say_how_long_they_last(tmp_path: Path, header: str, rows: str) -> None:
    assert bouts(read(tmp_path, f"{header}\n{rows}")) == [(30, 45, "a"), (60, 61, "b")]


def test_a_duration_counts_no_last_frame(tmp_path: Path) -> None:
    tracks = read(tmp_path, "start,duration,behaviour\n31,15,a\n", Video(300, 30, first_frame=1, last_included=True))
    assert bouts(tracks) == [(30, 45, "a")]
    # Frames and seconds beside one another tell nothing.
    with pytest.raises(RecordingError, match="column 'start' holds numbers that are not 0 and 1"):
        read(tmp_path, "start,duration_s,behaviour\n31,0.5,a\n")
    with pytest.raises(RecordingError, match="ends after it starts"):
        read(tmp_path, "start,duration,behaviour\n31,0,a\n")


@pytest.mark.parametrize("cell", ["0:61:00", "0:00:75", "-0:00:01", "0:00:01:00", "1:75"])
def test_other_times_are_refused(tmp_path: Path, cell: str) -> None:
    with pytest.raises(RecordingError, match=f"line 2: expected a frame number or time .* or h:mm:ss, got '{cell}'"):
        read(tmp_path, f"start_s,stop_s,behaviour\n{cell},0:02:00,a\n", Video(9000, 30))


def test_at_one_frame_per_second_seconds_are_seconds(tmp_path: Path) -> None:
    assert bouts(read(tmp_path, "start_s,stop_s,behaviour\n0.6,3.5,attack\n", Video(6, 1))) == [(1, 4, "attack")]


def test_the_columns_may_stand_in_any_order_with_an_index_and_durations(tmp_path: Path) -> None:
    text = ",Label,Duration (s),Stop (s),Start (s),Subject\n0,a,1,2,1,x\n1,b,1,3,2,y\n"
    tracks = read(tmp_path, text)
    assert bouts(tracks, "x") == [(30, 60, "a")]
    assert bouts(tracks, "y") == [(60, 90, "b")]


def test_rtsegs_own_bouts_come_back(tmp_path: Path) -> None:
    head = "head,behaviour,first_seq,last_seq,start_s,duration_s\n"
    text = (
        head + "social,other,0,99,0.000,3.333\nsocial,interact,100,100,3.333,0.033\nsocial,other,101,299,3.367,6.633\n"
    )
    tracks = read(tmp_path, text)
    assert bouts(tracks, "social") == [(0, 100, "other"), (100, 101, "interact"), (101, 300, "other")]
    assert tracks["social"].warnings == ()
    with pytest.raises(RecordingError, match="labels end after 300 frames and the video has 600"):
        read(tmp_path, text, Video(600, 30))
    # Bouts that were written before had no time of the source.
    timed = [f"{line},{'start_t_source_ns' if not t else t * 10**9}" for t, line in enumerate(text.splitlines())]
    assert bouts(read(tmp_path, "\n".join(timed) + "\n"), "social") == bouts(tracks, "social")


def test_frames_from_1_with_the_last_included_are_read_where_the_dataset_says_so(tmp_path: Path) -> None:
    text = "BehaviorName,StartFrame,EndFrame\nchase,1,16\nbite,17,27\n"
    video = Video(300, 30, first_frame=1, last_included=True)
    tracks = read(tmp_path, text, video)
    assert bouts(tracks) == [(0, 16, "chase"), (16, 27, "bite")]
    assert not [w for w in tracks["labels"].warnings if "bouts" in w]
    doubted = read(tmp_path, text)["labels"].warnings
    assert any("bouts seem to include their last frame" in w for w in doubted)
    with pytest.raises(RecordingError, match="starts at frame 0, and the dataset file says that frames count from 1"):
        read(tmp_path, text.replace("chase,1", "chase,0"), video)


def test_a_convention_that_nothing_tells_is_a_warning(tmp_path: Path) -> None:
    kind = "bouts are taken as frames from 0 whose last is not included"
    assert any(kind in w for w in read(tmp_path, "start_frame,stop_frame,behaviour\n5,9,a\n")["labels"].warnings)
    assert not any(kind in w for w in read(tmp_path, "start,stop,behaviour\n5,9,a\n")["labels"].warnings)


def test_of_several_videos_the_own_is_read(tmp_path: Path) -> None:
    text = "video,start,stop,behaviour\nm1.mp4,0,30,a\nm2.mp4,60,90,b\n"
    assert bouts(read(tmp_path, text, Video(300, 30, ("m2DLC_net.csv",)))) == [(60, 90, "b")]
    with pytest.raises(RecordingError, match="holds 2 observations"):
        read(tmp_path, text)


def test_a_table_without_bouts_is_a_video_in_which_nothing_happened(tmp_path: Path) -> None:
    tracks = read(tmp_path, "start,stop,behaviour\n")
    assert tracks == {}
    assert tracks.lists_events


@pytest.mark.parametrize("header", ["frame,S1", "time,start,behaviour", "attack,sniff", "start,behaviour"])
def test_other_headers_are_no_bouts(header: str) -> None:
    assert bout_columns(header.split(",")) is None


def test_fractions_of_frames_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"call the columns start_s and stop_s if seconds") as error:
        read(tmp_path, "start,end,label\n0,1,a\n1.5,3.2,a\n")
    assert error.value.line == 3


def test_predictions_are_told_from_labels(tmp_path: Path) -> None:
    path = tmp_path / "a.predictions.csv"
    path.write_text("seq,quality,S1,S1.a,unsure\n0,1,a,0.9,\n")
    with pytest.raises(RecordingError, match=r"its labels are in the \.bouts\.csv beside it"):
        read_labels(path, 300, 30)


def test_whole_seconds_that_look_like_frames_are_told(tmp_path: Path) -> None:
    text = "start,stop,behaviour\n0,3,a\n3,5,b\n6,9,a\n"
    kind = "bouts in frames end before as many frames as the video has seconds"
    assert any(w.startswith(kind) for w in read(tmp_path, text)["labels"].warnings)
    assert not any(w.startswith(kind) for w in read(tmp_path, text.replace("6,9,a", "60,90,a"))["labels"].warnings)


@pytest.mark.parametrize("first_seq", [0, 7])
def test_what_annotate_writes_is_what_is_read(tmp_path: Path, first_seq: int) -> None:
    rng = np.random.default_rng(4)
    heads = (Head("social", ("other", "interact"), ("interact",), "g"), Head("S2", ("a", "b", "c"), ("a",), "g"))
    labels = np.stack([rng.integers(0, 2, 90), rng.integers(0, 3, 90)], axis=1).astype(np.int16)
    answers = Predictions(
        heads,
        np.arange(first_seq, first_seq + 90),
        rng.random((90, 5)).astype(np.float32),
        labels,
        np.zeros(90, np.int32),
        np.zeros((90, 2), bool),
    )
    path = tmp_path / "a.bouts.csv"
    write_bouts(answers, path, 30.0)
    tracks = read_labels(path, first_seq + 90, 30)
    for h, head in enumerate(heads):
        track = tracks[head.name]
        assert (track.frames[:first_seq] == IGNORE).all()
        assert [track.classes[code] for code in track.frames[first_seq:]] == [head.classes[i] for i in labels[:, h]]


def test_a_cell_that_says_whose_a_bout_is_must_not_be_empty_beside_others(tmp_path: Path) -> None:
    """A spreadsheet's joined cells: those rows were another video's, or a track of nobody's."""
    for column in ("video", "subject"):
        text = f"{column},start_s,stop_s,behaviour\nm1,1,2,a\n,3,4,a\n"
        with pytest.raises(RecordingError, match="line 3: column 1 is empty here and filled in other rows"):
            read(tmp_path, text, Video(300, 30, ("m1",)))
        assert len(read(tmp_path, text.replace("m1", ""))) == 1  # nowhere: the file's own


def test_the_only_video_of_a_table_is_told_where_it_is_another(tmp_path: Path) -> None:
    text = "video,start_s,stop_s,behaviour\nm2.mp4,1,2,a\n"
    for name, n_warnings in (("m1DLC_a.csv", 1), ("m2DLC_a.csv", 0)):
        track = read(tmp_path, text, Video(60, 30, (name,)))["labels"]
        assert sum("only video is not named like the poses" in w for w in track.warnings) == n_warnings


def test_ids_that_come_again_are_no_bouts(tmp_path: Path) -> None:
    text = "id,start_s,stop_s,behaviour\n1,1,2,a\n{},3,4,a\n"
    assert bouts(read(tmp_path, text.format(2))) == [(30, 60, "a"), (90, 120, "a")]
    with pytest.raises(RecordingError, match="rename or remove 'id'"):
        read(tmp_path, text.format(1))


def test_frames_and_seconds_of_another_rate_are_told(tmp_path: Path) -> None:
    text = "start_frame,stop_frame,start_s,stop_s,behaviour\n25,50,1,2,a\n250,275,10,11,a\n"
    tracks = read(tmp_path, text)
    assert bouts(tracks) == [(25, 50, "a"), (250, 275, "a")]
    assert any("saw the video at 25 fps, the recording has 30" in w for w in tracks["labels"].warnings)
    assert not any("fps" in w for w in read(tmp_path, text, Video(300, 25))["labels"].warnings)


def test_a_point_that_may_part_thousands_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"line 2: expected whole frames, got '1\.000', which may be thousands"):
        read(tmp_path, "start;stop;behaviour\n1.000;2.000;a\n")
    assert bouts(read(tmp_path, "start,stop,behaviour\n1.000,2.000,a\n")) == [(1, 2, "a")]


def test_frames_that_count_from_1_and_times_in_days_are_told(tmp_path: Path) -> None:
    text = "start_frame,stop_frame,behaviour\n1,100,a\n101,200,b\n201,300,a\n"
    for video in (Video(300, 30), Video(300, 30, last_included=True)):
        assert any("count frames from 1" in w for w in read(tmp_path, text, video)["labels"].warnings)
    right = read(tmp_path, text, Video(300, 30, first_frame=1, last_included=True))
    assert (bouts(right)[-1], right["labels"].warnings) == ((200, 300, "a"), ())
    days = "start_s,stop_s,behaviour\n" + "".join(f"{t / 86400:.9f},{(t + 1) / 86400:.9f},a\n" for t in (1, 3, 5))
    assert any("a spreadsheet's times are days" in w for w in read(tmp_path, days)["labels"].warnings)


@pytest.mark.parametrize(
    "text",
    [
        ",B-SOiD labels,Start time (frames),Run lengths\n0,3,1,2\n1,5,3,1\n",
        "Tier\tBegin Time - ss.msec\tEnd Time - ss.msec\tDuration - ss.msec\tAnnotation\nlabels\t0.5\t1.5\t1.0\t3\n"
        "labels\t1.5\t2.0\t0.5\t5\n",
        "Tier\tBegin Time - hh:mm:ss.ms\tEnd Time - hh:mm:ss.ms\tAnnotation\nlabels\t00:00:00.500\t00:00:01.500\t3\n"
        "labels\t00:00:01.500\t00:00:02.000\t5\n",
    ],
)
def test_bouts_of_b_soid_and_elan(tmp_path: Path, text: str) -> None:
    assert bouts(read(tmp_path, text, Video(4, 2))) == [(1, 3, "3"), (3, 4, "5")]


def test_a_plural_says_no_seconds(tmp_path: Path) -> None:
    assert bouts(read(tmp_path, "starts,Stops,behaviour\n3,12,run\n")) == [(3, 12, "run")]
    assert bouts(read(tmp_path, "start s,Stop_s,behaviour\n3,4,run\n")) == [(90, 120, "run")]


@pytest.mark.parametrize(
    "header",
    [
        *("start_ms,stop_ms", "onset (ms),offset (ms)", "Start [ms],End [ms]", "start_time_ms,end_time_ms"),
        "Begin Time - msec,End Time - msec",  # ELAN's
    ],
)
def test_milliseconds_are_no_frames(tmp_path: Path, header: str) -> None:
    assert bouts(read(tmp_path, f"{header},behaviour\n1000,2000,a\n3000,4500,b\n")) == [(30, 60, "a"), (90, 135, "b")]


@pytest.mark.parametrize(
    ("names", "durations"),
    [
        ("start,stop,duration", ("30", "60")),
        ("start_frame,end_frame,duration (s)", ("1.00", "2.00")),
        ("Start Frame,End Frame,Bout time", ("1.000", "2.000")),
        ("start_frame,end_frame,n_frames", ("30", "60")),
        ("start_frame,end_frame,duration_ms", ("1000", "2000")),
    ],
)
def test_durations_say_whether_bouts_include_their_last_frame(
    tmp_path: Path, names: str, durations: tuple[str, str]
) -> None:
    first, second = durations
    told = read(tmp_path, f"{names},behaviour\n30,59,{first},a\n90,149,{second},b\n")
    assert bouts(told) == [(30, 60, "a"), (90, 150, "b")]
    assert SAID_LAST_INCLUDED in [w.kind for w in told["labels"].warnings]
    plain = read(tmp_path, f"{names},behaviour\n30,60,{first},a\n90,150,{second},b\n")
    assert bouts(plain) == [(30, 60, "a"), (90, 150, "b")]
    assert SAID_LAST_INCLUDED not in [w.kind for w in plain["labels"].warnings]
    # The dataset file said so already.
    video = Video(300, 30, last_included=True)
    assert bouts(read(tmp_path, f"{names},behaviour\n30,59,{first},a\n90,149,{second},b\n", video)) == bouts(told)


def test_rounded_durations_say_nothing_of_a_frame(tmp_path: Path) -> None:
    for decimals, n_bouts, is_told in ((0, 1, False), (1, 2, False), (1, 6, True), (2, 1, True)):
        rows = "".join(f"{60 * i},{60 * i + 29},{1:.{decimals}f},a\n" for i in range(n_bouts))
        kinds = [
            w.kind
            for w in read(tmp_path, f"start,stop,duration_s,behaviour\n{rows}", Video(400, 30))["labels"].warnings
        ]
        assert (SAID_LAST_INCLUDED in kinds) is is_told
    # Whole seconds are no other frame rate either.
    track = read(tmp_path, "start_frame,end_frame,duration_s,behaviour\n30,60,1,a\n90,100,0,b\n")["labels"]
    assert not any("fps" in w.kind for w in track.warnings)


def test_durations_beside_frames_tell_another_rate(tmp_path: Path) -> None:
    text = "start_frame,end_frame,duration_s,behaviour\n25,50,1.00,a\n100,150,2.00,b\n"
    for fps, is_told in ((30, True), (25, False)):
        warnings = read(tmp_path, text, Video(300, fps))["labels"].warnings
        assert any("saw the video at 25 fps" in w.kind for w in warnings) is is_told


def test_frames_from_1_whose_stop_is_not_included_are_told(tmp_path: Path) -> None:
    text = "start_frame,stop_frame,behaviour\n1,101,a\n101,201,b\n201,301,a\n"
    assert SEEM_FROM_ONE in [w.kind for w in read(tmp_path, text)["labels"].warnings]
    assert bouts(read(tmp_path, text, Video(300, 30, first_frame=1)))[-1] == (200, 300, "a")


def test_a_bout_of_one_frame_names_the_way_out(tmp_path: Path) -> None:
    text = "start,stop,behaviour\n30,30,lick\n40,45,lick\n"
    with pytest.raises(RecordingError, match=r"line 2: .* say last_included = true .*where bouts include their last"):
        read(tmp_path, text)
    assert bouts(read(tmp_path, text, Video(300, 30, last_included=True))) == [(30, 31, "lick"), (40, 46, "lick")]
    with pytest.raises(RecordingError, match=r"'1,1,lick'$"):
        read(tmp_path, "start_s,stop_s,behaviour\n1,1,lick\n")


def test_seconds_of_the_last_frame_are_told(tmp_path: Path) -> None:
    """Written as frame / fps of bouts that include their last frame: each would be a frame short."""
    edges = [(0, 29), (30, 44), (45, 99), (100, 150)]
    for shift, is_told in ((0, True), (1, False)):
        rows = "".join(f"{a / 30:.4f},{(b + shift) / 30:.4f},{'ab'[a % 2]}\n" for a, b in edges)
        track = read(tmp_path, f"start_s,stop_s,behaviour\n{rows}")["labels"]
        assert (SEEM_LAST_TIMES in [w.kind for w in track.warnings]) is is_told
