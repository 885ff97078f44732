"""Plain CSV of poses, wide and long."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from rtseg.errors import RecordingError
from rtseg.recordings.files.probe import FileProbe
from rtseg.recordings.open import read_recording
from rtseg.recordings.poses.tables.plain import is_poses_csv, read_poses_csv
from rtseg.recordings.recording import Recording

NAN = np.nan


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "poses.csv"
    path.write_text(text)
    return path


def test_wide_with_two_animals(tmp_path: Path) -> None:
    head = "frame,a.nose.x,a.nose.y,a.nose.score,b.nose.x,b.nose.y,b.nose.score\n"
    recording = read_poses_csv(write(tmp_path, head + "0,1,2,.5,,,\n2,3,4,.25,5,6,1\n"), fps=50)
    assert recording.skeleton.animals == ("a", "b")
    np.testing.assert_array_equal(recording.keypoints[0], [[[1, 2]], [[NAN, NAN]]])
    assert np.isnan(recording.keypoints[1]).all()
    np.testing.assert_array_equal(recording.keypoints[2], [[[3, 4]], [[5, 6]]])
    np.testing.assert_array_equal(recording.confidence[..., 0], [[0.5, 0], [0, 0], [0.25, 1]])
    assert recording.warnings == ("frame indices skip frames, which are taken as never recorded (1 frames)",)


def test_wide_with_one_animal_and_no_scores(tmp_path: Path) -> None:
    recording = read_poses_csv(write(tmp_path, "frame,nose.x,nose.y\n0,1,2\n1,3,4\n"), fps=30)
    assert recording.skeleton.animals == ("animal",)
    assert (recording.confidence == 1).all()


def test_long_as_sleap_exports_it(tmp_path: Path) -> None:
    head = "track,frame_idx,instance.score,nose.x,nose.y,nose.score\n"
    text = "t0,0,.9,1,2,.5\nt1,0,.8,3,4,.5\nt1,1,.8,5,6,.5\n"
    recording = read_poses_csv(write(tmp_path, head + text), fps=30)
    assert recording.skeleton.animals == ("t0", "t1")
    np.testing.assert_array_equal(recording.keypoints[:, :, 0], [[[1, 2], [3, 4]], [[NAN, NAN], [5, 6]]])


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("frame,nose.x,nose.y\n0,1\n", 2, "expected 3 columns, got 2; the file was cut"),
        ("frame,nose.x,nose.y\n0,1,two\n", 2, "expected a number in column 'nose.y', got 'two'"),
        ("frame,nose.x,nose.y\n1,1,2\n0,1,2\n", 3, "frame 0 comes after frame 1"),
        ("frame,nose.x,nose.y\n1,1,2\n1,1,2\n", 3, "frame 1 comes twice"),
        ("frame,nose.x,nose.y\n-1,1,2\n", 2, "expected a frame number"),
        ("frame,nose.x,nose.y\n" + "9" * 30 + ",1,2\n", 2, "expected a frame number"),
        ("frame,nose.x,nose.y,nose.z\n0,1,2,3\n", 1, "column 'nose.z': expected x and y; only 2-D"),
        ("frame,frame_idx,nose.x,nose.y\n0,5,1,2\n", 1, "'frame' and 'frame_idx' both count frames"),
        ("frame,m1.nose.x,m1.nose.y,rump.x,rump.y\n0,1,2,3,4\n", 1, "seems to have an animal's name before its own"),
        (
            "frame,id,nose.x,nose.y\n0,1,1,2\n0,2,1,2\n1,1,1,2\n",
            1,
            "column 'id' has several values (1, 2, ...); call it 'track'",
        ),
        ("frame;nose.x;nose.y\n0;1.234;998\n1;1.235;997\n", 2, "may part thousands"),
        ("frame,nose.x,nose.y\n0,1,2\n33,1,2\n67,1,2\n100,1,2\n", None, "rise by 33 from row to row"),
        ("frame,nose.x\n0,1\n", None, "animal/nose/y is missing"),
        ("time,nose.x,nose.y\n0,1,2\n", 1, "expected the header"),
        ("frame,track,a.nose.x,a.nose.y\n0,t,1,2\n", 1, "keep one of them"),
        ("frame,nose.x,nose.y\n", 1, "has a header and no frames"),
    ],
)
def test_mistakes_name_the_line(tmp_path: Path, text: str, line: int | None, words: str) -> None:
    with pytest.raises(RecordingError) as error:
        read_poses_csv(write(tmp_path, text), fps=30)
    assert error.value.line == line
    assert words in str(error.value)


HEAD = "track,frame_idx,instance.score,nose.x,nose.y,nose.score\n"


def test_tracks_are_in_the_order_of_their_names_whoever_is_seen_first(tmp_path: Path) -> None:
    text = "track_10,0,.9,1,2,.5\ntrack_2,0,.8,3,4,.5\n"
    recording = read_poses_csv(write(tmp_path, HEAD + text), fps=30)
    assert recording.skeleton.animals == ("track_2", "track_10")
    assert recording.keypoints[0, :, 0].tolist() == [[3, 4], [1, 2]]


def test_instances_without_a_track_and_two_on_one_are_counted(tmp_path: Path) -> None:
    text = "t0,0,.9,1,2,.5\n,0,.9,7,8,.5\nt0,1,.3,3,4,.5\nt0,1,.8,5,6,.5\n"
    recording = read_poses_csv(write(tmp_path, HEAD + text), fps=30)
    assert recording.keypoints[:, 0, 0].tolist() == [[1, 2], [5, 6]]
    assert recording.warnings == (
        "instances without a track are left out; give them a track in SLEAP (1 instances)",
        "instances beside another one on the same track are left out; correct the tracks in SLEAP (1 instances)",
    )


def test_untracked_instances_are_one_animal_or_refused(tmp_path: Path) -> None:
    recording = read_poses_csv(write(tmp_path, HEAD + ",0,.9,1,2,.5\n,1,.9,3,4,.5\n"), fps=30)
    assert recording.skeleton.animals == ("animal",)
    with pytest.raises(RecordingError, match="frame 0 holds several instances without a track; run tracking") as error:
        read_poses_csv(write(tmp_path, HEAD + ",0,.9,1,2,.5\n,0,.9,3,4,.5\n"), fps=30)
    assert error.value.line == 3


def test_columns_with_underscores_are_keypoints_of_one_animal(tmp_path: Path) -> None:
    recording = read_poses_csv(write(tmp_path, "FrameIndex,Fish0_x,Fish0_y,Fish1_x,Fish1_y\n1,1,2,3,4\n"), fps=30)
    assert recording.skeleton.keypoints == ("Fish0", "Fish1")
    assert recording.keypoints[1, 0].tolist() == [[1, 2], [3, 4]]
    assert any("frames begin with 1, and frame 0 is taken as never recorded" in w for w in recording.warnings)


def test_an_index_without_a_name_counts_frames_where_all_else_are_points(tmp_path: Path) -> None:
    """As SimBA writes them; its labels have other columns, and are no poses."""
    path = write(tmp_path, ",Nose_x,Nose_y,Nose_p\n0,1,20,.5\n2,3,40,.25\n")
    recording = read_poses_csv(path, fps=30)
    assert (recording.skeleton.keypoints, len(recording)) == (("Nose",), 3)
    for header in (",Nose_x,Nose_y,Nose_p,Attack", ",sniff_p,rear_p"):
        assert not is_poses_csv(FileProbe(write(tmp_path, f"{header}\n0,1,2,.5,0\n")))


def test_points_numbered_behind_their_names_are_those_of_several_animals(tmp_path: Path) -> None:
    """SimBA's of two mice, in any order of the columns."""
    names = ["Nose_2", "Tail_base_2", "Nose_1", "Tail_base_1"]
    header = "," + ",".join(f"{name}_{coord}" for name in names for coord in "xyp")
    path = write(tmp_path, f"{header}\n0,21,22,.2,23,24,.4,11,12,.6,13,14,.8\n1,,,,5,6,.5,7,8,.7,,,\n")
    recording = read_poses_csv(path, fps=30)
    assert recording.skeleton.animals == ("animal_1", "animal_2")
    assert recording.skeleton.keypoints == ("Nose", "Tail_base")
    assert recording.keypoints[0].tolist() == [[[11, 12], [13, 14]], [[21, 22], [23, 24]]]
    assert recording.confidence[0].tolist() == pytest.approx(np.array([[0.6, 0.8], [0.2, 0.4]]))
    assert "beside their own are taken as those of animal_1, animal_2 (12 columns)" in recording.warnings[0]


def test_points_behind_an_animals_name_are_those_of_several_animals(tmp_path: Path) -> None:
    header = ",".join(
        f"{name}_{coord}" for name in ("m2_nose", "m2_tail_base", "m1_nose", "m1_tail_base") for coord in "xy"
    )
    recording = read_poses_csv(write(tmp_path, f"frame,{header}\n0,21,22,23,24,11,12,13,14\n"), fps=30)
    assert recording.skeleton.animals == ("m2", "m1")
    assert recording.skeleton.keypoints == ("nose", "tail_base")
    assert recording.keypoints[0].tolist() == [[[21, 22], [23, 24]], [[11, 12], [13, 14]]]
    assert "beside their own are taken as those of m2, m1 (8 columns)" in recording.warnings[0]


@pytest.mark.parametrize(
    "names",
    [
        ("nose", "spine_1", "spine_2"),
        ("leg_1", "leg_2"),
        ("nose_1", "nose_2", "tail_1"),
        ("left_head", "left_ear", "right_head", "right_ear"),
        ("head_left", "head_right", "tail_left", "tail_right"),
        ("m1_nose", "m1_tail", "m2_tail"),
        ("head_center", "head_left", "tail_center", "tail_left"),
    ],
)
def test_other_names_are_points_of_one_animal(tmp_path: Path, names: tuple[str, ...]) -> None:
    header = "," + ",".join(f"{name}_{coord}" for name in names for coord in "xy")
    recording = read_poses_csv(write(tmp_path, f"{header}\n0{',5' * 2 * len(names)}\n"), fps=30)
    assert recording.skeleton.keypoints == names


def test_tracks_that_are_never_there_together_may_be_pieces(tmp_path: Path) -> None:
    head = "track,frame_idx,nose.x,nose.y\n"
    pieces = read_poses_csv(write(tmp_path, head + "a,0,1,20\nb,0,3,40\nc,1,5,60\n"), fps=30)
    (warning,) = pieces.warnings
    assert "no more than 2 are ever seen at once" in warning
    assert warning.n == 3


ROWS = "".join(f"{t},{100 + t},200,{120 + t},210\n" for t in range(6))


@pytest.mark.parametrize(
    ("names", "points"),
    [
        (("left.ear", "right.ear"), ("left.ear", "right.ear")),  # R writes blanks as dots
        (("nose", "tail.base"), ("nose", "tail.base")),
        (("tail.base", "tail.tip"), ("tail.base", "tail.tip")),
        (("nose_tip", "tail_tip"), ("nose_tip", "tail_tip")),
        (("nose_raw", "nose_filtered"), ("nose_raw", "nose_filtered")),
    ],
)
def test_words_of_a_body_before_or_behind_a_name_are_no_animals(
    tmp_path: Path, names: tuple[str, ...], points: tuple[str, ...]
) -> None:
    sign = "." if "." in "".join(names) else "_"
    header = ",".join(f"{name}{sign}{coord}" for name in names for coord in "xy")
    recording = read_poses_csv(write(tmp_path, f"frame,{header}\n{ROWS}"), fps=30)
    assert (recording.skeleton.animals, recording.skeleton.keypoints) == (("animal",), points)
    assert recording.warnings == ()


@pytest.mark.parametrize("animals", [("left", "right"), ("m1", "m2"), ("a", "b")])
def test_sides_with_a_nose_each_are_animals(tmp_path: Path, animals: tuple[str, str]) -> None:
    header = ",".join(f"{animal}.nose.{coord}" for animal in animals for coord in "xy")
    recording = read_poses_csv(write(tmp_path, f"frame,{header}\n{ROWS}"), fps=30)
    assert (recording.skeleton.animals, recording.skeleton.keypoints) == (animals, ("nose",))


@pytest.mark.parametrize(
    ("written", "animals"),
    [
        ("mouse_1_{}", ("mouse_1", "mouse_2")),
        ("mouse{1}_{0}", ("mouse1", "mouse2")),
        ("{}_m1", ("m1", "m2")),
        ("{}1", ("animal_1", "animal_2")),
        ("{}_black", ("black", "white")),
        ("m1-{}", ("m1", "m2")),
        ("m1.{}", ("m1", "m2")),
    ],
)
def test_every_way_to_write_two_animals_names(tmp_path: Path, written: str, animals: tuple[str, str]) -> None:
    forms = [written, written.replace("1", "2").replace("black", "white").replace("{2}", "{1}")]
    names = [form.format(point, i + 1) for i, form in enumerate(forms) for point in ("nose", "tail_base")]
    header = ",".join(f"{name}_{coord}" for name in names for coord in "xy")
    recording = read_poses_csv(write(tmp_path, f"frame,{header}\n0,1,2,3,4,5,6,7,8\n"), fps=30)
    assert (recording.skeleton.animals, recording.skeleton.keypoints) == (animals, ("nose", "tail_base"))
    assert recording.keypoints[0].tolist() == [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]
    # A dot behind an animal's name is how this layout is documented, and needs no word.
    assert written == "m1.{}" or "are taken as those of" in recording.warnings[0]


@pytest.mark.parametrize("name", ["velocity", "head_direction", "resolution", "bbox_min"])
def test_pairs_that_are_no_places_are_left_out(tmp_path: Path, name: str) -> None:
    recording = read_poses_csv(write(tmp_path, f"frame,nose_x,nose_y,{name}_x,{name}_y\n{ROWS}"), fps=30)
    assert recording.skeleton.keypoints == ("nose",)
    assert recording.warnings == (f"columns that are no points are left out: {name}_x, {name}_y (2 columns)",)


@pytest.mark.parametrize("name", ["fps", "Frame rate", "frame_rate", "sampling_rate"])
def test_a_column_that_says_the_rate_is_the_rate_and_no_data(tmp_path: Path, name: str) -> None:
    rows = "".join(f"{t},25,{100 + t},200\n" for t in range(4))
    path = write(tmp_path, f"frame,{name},nose.x,nose.y\n{rows}")
    recording = read_recording(path)
    assert (recording.fps, recording.skeleton.keypoints, recording.warnings) == (25, ("nose",), ())
    with pytest.raises(RecordingError, match="was recorded at 25 fps, not 30; name the fps of the file"):
        read_recording(path, fps=30)


def test_times_beside_frames_say_the_rate(tmp_path: Path) -> None:
    def at(name: str, times: Sequence[str], frames: Sequence[int] | None = None) -> Recording:
        rows = "".join(f"{frame},{time},1,2\n" for frame, time in zip(frames or range(9), times, strict=False))
        return read_recording(write(tmp_path, f"frame,{name},nose.x,nose.y\n{rows}"))

    assert at("time", [f"{t / 25:.2f}" for t in range(9)]).fps == 25
    assert at("timestamp_ms", [f"{1000 + t * 20}" for t in range(9)]).fps == 50
    assert at("time_s", [f"{t / 25:.2f}" for t in (0, 1, 2, 7, 8)], (0, 1, 2, 7, 8)).fps == 25
    dates = at("time", [f"2024-01-01 12:00:0{t}" for t in range(9)])
    assert dates.fps == 30
    assert any("frame rate is not known" in warning for warning in dates.warnings)
    milliseconds = at("time", [f"{t * 40}" for t in range(9)])
    assert milliseconds.fps == 25
    assert any("times in column 'time' are taken as milliseconds" in warning for warning in milliseconds.warnings)
    nothing = at("time", [f"{t * 40_000}" for t in range(9)])
    assert nothing.fps == 30
    assert any("are 4e+04 s apart, which no video's are" in warning for warning in nothing.warnings)
    uneven = at("time", [f"{t / 25:.2f}" for t in (0, 1, 2, 3, 9, 10, 11, 12, 13)])
    assert any("keep no steady rate" in warning for warning in uneven.warnings)


def test_other_columns_are_left_out_and_named(tmp_path: Path) -> None:
    rows = "".join(f"{t},v.mp4,{100 + t},200,0.5,7,img{t}.png,0.1\n" for t in range(4))
    header = "frame,video,nose.x,nose.y,nose.score,speed,file,attack.score"
    recording = read_recording(write(tmp_path, f"{header}\n{rows}"), fps=30)
    assert (recording.skeleton.keypoints, recording.confidence[0, 0, 0]) == (("nose",), 0.5)
    assert [str(warning) for warning in recording.warnings] == [
        "columns that are no points are left out: video, speed, file, attack.score (4 columns)"
    ]


@pytest.mark.parametrize("word", ["conf", "prob", "confidence", "likelihood", "p"])
def test_a_likelihood_by_any_name(tmp_path: Path, word: str) -> None:
    recording = read_poses_csv(write(tmp_path, f"frame,nose_x,nose_y,nose_{word}\n0,1,20,.5\n1,2,20,.25\n"), fps=30)
    assert recording.confidence[:, 0, 0].tolist() == [0.5, 0.25]


@pytest.mark.parametrize("word", ["-1", "nan", "None", "-1.0", "<NA>"])
def test_words_for_no_track_are_no_animal(tmp_path: Path, word: str) -> None:
    text = f"0,0,1,20\n1,0,3,40\n{word},0,5,60\n0,1,1,20\n1,1,3,40\n"
    recording = read_poses_csv(write(tmp_path, "track,frame_idx,nose.x,nose.y\n" + text), fps=30)
    assert recording.skeleton.animals == ("0", "1")
    assert recording.warnings == ("instances without a track are left out; give them a track in SLEAP (1 instances)",)


def test_points_that_part_thousands_are_told_from_decimals(tmp_path: Path) -> None:
    header = "frame;nose.x;nose.y\n"
    for rows in ("0;123.456;99\n1;123.457;98\n", "0;123,456;998\n1;123,5;997\n", "0;123,456;998,000\n"):
        assert read_poses_csv(write(tmp_path, header + rows), fps=30).keypoints[0, 0, 0, 0] == np.float32(123.456)
    with pytest.raises(RecordingError, match="may part thousands"):
        read_poses_csv(write(tmp_path, header.replace(";", "\t") + "0\t1,234\t998\n1\t1,235\t1,001\n"), fps=30)


def test_animals_with_other_points_each_are_told(tmp_path: Path) -> None:
    header = ",".join(f"{name}_{coord}" for name in ("m1_nose", "m1_tail", "m2_nose") for coord in "xy")
    recording = read_poses_csv(write(tmp_path, f"frame,{header}\n0,1,2,3,4,5,6\n"), fps=30)
    assert "named like those of several animals (m1, m2), and are taken as one animal's" in recording.warnings[0]


def test_excels_own_first_line(tmp_path: Path) -> None:
    path = write(tmp_path, "sep=;\nframe;nose_x;nose_y\n0;1,5;2\n1;3,5;4\n")
    assert read_recording(path, fps=30).keypoints[:, 0, 0].tolist() == [[1.5, 2], [3.5, 4]]
