"""BORIS exports: the real file, and events that do not add up."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from rtseg.errors import RecordingError
from rtseg.recordings.bouts import bouts_of
from rtseg.recordings.labels.boris import read_boris
from rtseg.recordings.labels.label_file import Tracks, Video
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
        (HEAD + "00:01,30,a,rear,POINT\n", 4, "expected a time, as seconds or h:mm:ss, got '00:01'"),
        (HEAD + "nan,30,a,rear,POINT\n", 4, "expected a time, got 'nan'"),
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


def bouts(tracks: Tracks, track: str) -> list[tuple[int, int]]:
    return [(b.start, b.stop) for b in bouts_of(tracks[track].frames) if b.label >= 0]


def test_a_video_in_which_nothing_happened_has_no_tracks_and_says_so(tmp_path: Path) -> None:
    tracks = read(tmp_path, HEAD)
    assert tracks == {}
    assert tracks.lists_events


def test_the_time_offset_is_taken_off_whichever_way_it_is_written(tmp_path: Path) -> None:
    above = HEAD.replace(",,,,\n", "Time offset (s),2.5,,,\n", 1)
    beside = "Time offset (s),Subject,Behavior,Behavior type,Time\n2.5,a,rear,START,3.5\n2.5,a,rear,STOP,5.5\n"
    marks = "3.5,30,a,rear,START\n5.5,30,a,rear,STOP\n"
    clock = HEAD.replace(",,,,\n", "Time offset (hh:mm:ss),00:00:02.500,,,\n", 1)  # as old versions write it, too
    for text in (above + marks, clock + marks, beside):
        assert bouts(read(tmp_path, text), "a") == [(30, 90)]
    with pytest.raises(RecordingError, match=r"lies at 1 s, before the observation's time offset of 2\.5 s"):
        read(tmp_path, above + "1,30,a,rear,POINT\n")


def test_times_may_be_hours_minutes_and_seconds(tmp_path: Path) -> None:
    tracks = read(tmp_path, NEW + "o,a,rear,START,00:00:01.500\no,a,rear,STOP,00:00:02.000\n")
    assert bouts(tracks, "a") == [(45, 60)]


def test_images_have_numbers_instead_of_times(tmp_path: Path) -> None:
    tabular = "Subject,Behavior,Behavior type,Time,Image index\na,rear,START,NA,30\na,rear,STOP,NA,90\n"
    aggregated = "Subject,Behavior,Behavior type,Start (s),Stop (s),Image index start,Image index stop\n"
    for text in (tabular, aggregated + "a,rear,STATE,NA,NA,30,90\n"):
        assert bouts(read(tmp_path, text), "a") == [(30, 90)]


MODIFIED = "Subject,Behavior,Modifier #1,Behavior type,Time\n"


@pytest.mark.parametrize("stops", [("head", "tail"), ("tail", "head")])
def test_one_behaviour_with_two_modifiers_at_once_is_one_behaviour(tmp_path: Path, stops: tuple[str, str]) -> None:
    text = "a,contact,head,START,1\na,contact,tail,START,2\n"
    text += f"a,contact,{stops[0]},STOP,3\na,contact,{stops[1]},STOP,4\n"
    assert bouts(read(tmp_path, MODIFIED + text), "a") == [(30, 120)]


def test_a_stop_may_leave_out_the_modifier_of_its_start(tmp_path: Path) -> None:
    assert bouts(read(tmp_path, MODIFIED + "a,contact,head,START,1\na,contact,,STOP,3\n"), "a") == [(30, 90)]


@pytest.mark.parametrize("order", [("STOP", "START"), ("START", "STOP")])
def test_stop_and_start_at_one_time_come_in_any_order(tmp_path: Path, order: tuple[str, str]) -> None:
    text = "".join(
        f"{t},30,a,rear,{status}\n" for t, status in ((1, "START"), (2, order[0]), (2, order[1]), (3, "STOP"))
    )
    assert bouts(read(tmp_path, HEAD + text), "a") == [(30, 90)]
    # Where nothing runs, the same two rows are an event of no length, which covers a frame.
    assert bouts(read(tmp_path, HEAD + f"2,30,a,rear,{order[0]}\n2,30,a,rear,{order[1]}\n"), "a") == [(60, 61)]


def test_a_comment_may_have_lines(tmp_path: Path) -> None:
    text = 'Subject,Behavior,Behavior type,Time,Comment\na,rear,START,1,"one\n\ntwo; ""three"""\na,rear,STOP,3,\n'
    assert bouts(read(tmp_path, text), "a") == [(30, 90)]
    with pytest.raises(RecordingError, match="a quote opens here and never closes") as error:
        read(tmp_path, text.replace('three"""', "three"))
    assert error.value.line == 2


def test_lists_of_frame_rates_are_compared_one_by_one(tmp_path: Path) -> None:
    text = "FPS,Subject,Behavior,Behavior type,Time\n{},a,rear,POINT,1\n"
    assert "BORIS saw" not in " ".join(read(tmp_path, text.format("30.000;30.0"))["a"].warnings)
    assert "BORIS saw the video at 25.000 fps" in " ".join(read(tmp_path, text.format("30.000;25.000"))["a"].warnings)


def test_several_observations_are_told_apart_by_name(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    text = "Observation id,Subject,Behavior,Behavior type,Time,Media file name\n"
    text += "day 1,a,rear,POINT,1,m1.mp4\nday 2,a,rear,POINT,2,m10.mp4\n"
    path.write_text(text)
    for name, frame in (("m1DLC_resnet50", 30), ("m10DLC_resnet50", 60), ("day 2", 60), ("m10.predictions", 60)):
        assert bouts(read_boris(path, Video(300, 30, (name,))), "a") == [(frame, frame + 1)]
    assert bouts(read_boris(path, Video(300, 30, ("m1",), "day 2")), "a") == [(60, 61)]
    for video in (Video(300, 30), Video(300, 30, ("m100DLC_resnet50",)), Video(300, 30, ("m1",), "day 3")):
        with pytest.raises(RecordingError, match=r"'day 1' \(m1\); 'day 2' \(m10\)"):
            read_boris(path, video)


SEVERAL = (
    "Observation id,Source,Time offset (s),Media duration (s),Subject,Behavior,Behavior type,Time,Media file name\n"
)
ROW = "o,player #1:v/m1.mp4;v/m2.mp4;v/m10.mp4|player #2:x.mp4;y.mp4,2.0,10.000;20.500;9|9;9,a,{},{},{},{}\n"


@pytest.mark.parametrize(
    ("name", "n_frames", "sniff", "rear"),
    [
        ("m1DLC_net.csv", 300, [(30, 60), (240, 300)], [(75, 76)]),
        ("m2DLC_net.csv", 615, [(0, 90), (600, 615)], [(0, 1)]),
        ("m10DLC_net.csv", 270, [(0, 45)], []),
    ],
)
def test_of_several_media_files_the_own_is_read(
    tmp_path: Path, name: str, n_frames: int, sniff: list[tuple[int, int]], rear: list[tuple[int, int]]
) -> None:
    """m1 lasts 10 s, m2 20.5 s and m10 9 s; every time has an offset of 2 s."""
    marks = [(3, "START", 1), (4, "STOP", 1), (10, "START", 1), (15, "STOP", 2), (32, "START", 2), (34, "STOP", 3)]
    rows = [ROW.format("sniff", status, time, f"m{number}.mp4") for time, status, number in marks]
    rows += [ROW.format("rear", "POINT", time, "m1.mp4") for time in (4.5, 12)]
    (tmp_path / "e.csv").write_text(SEVERAL + "".join(rows))
    tracks = read_boris(tmp_path / "e.csv", Video(n_frames, 30, (name,)))
    assert bouts(tracks, "a:sniff") == sniff
    assert ("a:rear" in tracks) == bool(rear)
    assert not rear or bouts(tracks, "a:rear") == rear
    assert not any("BORIS" in warning for warning in tracks["a"].warnings)
    other = read_boris(tmp_path / "e.csv", Video(n_frames + 300, 30, (name,)))
    assert "BORIS saw a video of another length than the recording (10 seconds)" in other["a"].warnings


def test_media_files_of_which_nothing_tells_the_own_are_refused(tmp_path: Path) -> None:
    text = "Observation id,Subject,Behavior,Behavior type,Time,Media file name\n"
    path = tmp_path / "e.csv"
    path.write_text(text + "o,a,rear,POINT,1,m1.mp4\no,a,rear,POINT,2,m2.mp4\no,a,rear,POINT,9,Not found\n")
    for names, words in ((("m2",), "nothing says how long they are"), (("m3",), "none is named like the poses")):
        with pytest.raises(RecordingError, match=rf"plays 2 media files .* \(m1\.mp4, m2\.mp4\), and {words}"):
            read_boris(path, Video(300, 30, names))
    # Older versions name them above the table; here all events lie in the second one.
    above = "Observation id,o\nPlayer #1,v/m1.mp4\nPlayer #1,v/m2.mp4\n"
    path.write_text(above + "Time,Media file path,Behavior,Status\n12,v/m2.mp4,rear,POINT\n")
    with pytest.raises(RecordingError, match="plays 2 media files"):
        read_boris(path, Video(300, 30, ("m2",)))


@pytest.mark.parametrize(
    ("columns", "cells"),
    [
        ("Media file name,Media duration (s)", "v/m1.mp4;v/m2.mp4,10.0;20.0"),
        ("Media file name,Media duration (s)", "player #1:v/m1.mp4; v/m2.mp4|player #2:x.mp4; y.mp4,10.0; 20.0"),
        ("Media file name,Media file path,Media duration (s)", "m1.mp4;m2.mp4,v/m1.mp4;v/m2.mp4,10;20"),
        ("Media file,Media file 2,Media duration (s)", r"C:\v\m1.mp4,C:\v\m2.mp4,10;20"),
    ],
)
def test_media_files_may_stand_in_one_cell_or_in_several(tmp_path: Path, columns: str, cells: str) -> None:
    """Also without `Source`, as BORIS 7 writes them: what happens at 12 s happens 2 s into m2."""
    text = f"Observation id,Time offset (s),Subject,Behavior,Behavior type,Time,{columns}\n"
    path = tmp_path / "e.csv"
    path.write_text(text + f"o,0,a,rear,POINT,12,{cells}\n")
    assert bouts(read_boris(path, Video(600, 30, ("m2DLC_net",))), "a") == [(60, 61)]
    assert "a" not in read_boris(path, Video(300, 30, ("m1DLC_net",)))
    with pytest.raises(RecordingError, match=r"plays 2 media files .* none is named like the poses"):
        read_boris(path, Video(600, 30, ("m3DLC_net",)))
    # Without lengths nobody knows where m2 begins.
    path.write_text(text.rpartition(",")[0] + "\n" + f"o,0,a,rear,POINT,12,{cells.rpartition(',')[0]}\n")
    with pytest.raises(RecordingError, match=r"plays 2 media files .* nothing says how long they are"):
        read_boris(path, Video(600, 30, ("m2DLC_net",)))


def test_players_beside_one_another_play_one_file_each(tmp_path: Path) -> None:
    text = "Observation id,Subject,Behavior,Behavior type,Time,Media file name\n"
    path = tmp_path / "e.csv"
    path.write_text(text + "o,a,rear,POINT,2,player #1:top.mp4|player #2:side.mp4\n")
    for name in ("topDLC_net", "sideDLC_net"):
        tracks = read_boris(path, Video(300, 30, (name,)))
        assert bouts(tracks, "a") == [(60, 61)]
        assert not any("named like" in warning for warning in tracks["a"].warnings)


def test_another_video_is_told(tmp_path: Path) -> None:
    text = "Observation id,Subject,Behavior,Behavior type,Time,Media file name,Media duration (s)\n"
    (tmp_path / "e.csv").write_text(text + "o,a,rear,POINT,1,m1.mp4,60.0\n")
    warnings = read_boris(tmp_path / "e.csv", Video(300, 30, ("cageDLC_net",)))["a"].warnings
    assert "BORIS saw a video of another length than the recording (50 seconds)" in warnings
    assert "neither the observation nor its media file is named like the poses (1 observation)" in warnings
    assert not [
        w for w in read_boris(tmp_path / "e.csv", Video(1800, 30, ("m1DLC_net",)))["a"].warnings if "BORIS" in w
    ]


def test_a_state_that_never_stops_is_no_point(tmp_path: Path) -> None:
    for cell in ("", "NA"):
        with pytest.raises(RecordingError, match="line 2: 'rear' starts and never stops"):
            read(tmp_path, AGGREGATED + f"a,rear,STATE,1,{cell}\n")
    assert read(tmp_path, AGGREGATED + "a,rear,POINT,1,NA\n")["a"].frames[29:32].tolist() == [IGNORE, 0, IGNORE]


def test_rows_without_an_observation_id_beside_others(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="line 3: has no observation id, which other rows have"):
        read(tmp_path, NEW + "o,a,rear,START,1\n,a,rear,STOP,2\n")


def test_names_of_videos_in_any_language_and_form(tmp_path: Path) -> None:
    """macOS writes ä as two characters; and 1 is not the name of a video that is called ä1."""
    path = tmp_path / "events.csv"
    names = ("K\u00e4fig 2", "1", "\u5bfe\u7167\u7532", "\u5bfe\u7167\u4e59")
    path.write_text(NEW + "".join(f"{n},{i},rear,POINT,1\n" for i, n in enumerate(names)), encoding="utf-8")
    for name, subject in (("Ka\u0308fig 2DLC_x.csv", "0"), ("1DLC_x.csv", "1"), ("\u5bfe\u7167\u7532.csv", "2")):
        assert next(iter(read_boris(path, Video(60, 30, (name,))))) == subject
    with pytest.raises(RecordingError, match="named like"):
        read_boris(path, Video(60, 30, ("\u00e41.csv",)))
    asked = Video(60, 30, ("x.csv",), observation="Ka\u0308fig 2")
    assert next(iter(read_boris(path, asked))) == "0"


def test_a_rate_of_0_is_not_known(tmp_path: Path) -> None:
    track = read(tmp_path, HEAD + "1,0,a,rear,POINT\n")["a"]
    assert not any("fps" in w for w in track.warnings)


def test_an_event_without_a_behaviour_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="line 3: names no behaviour"):
        read(tmp_path, NEW + "o,a,rear,POINT,1\no,a,,POINT,2\n")
