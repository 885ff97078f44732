"""A CSV that a tracker is writing: the readers' own headers and rows, row by row."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rtseg.errors import FrameError, RecordingError, SkeletonError
from rtseg.recordings.naming import NameMap
from rtseg.recordings.open import read_recording
from rtseg.recordings.recording import Recording
from rtseg.sources.bridge import SourceFrame
from rtseg.sources.growing_csv import GrowingCsv
from tests.live import REPO, TIMEOUT_S

Growing = Callable[..., GrowingCsv]
PLAIN = "frame,nose.x,nose.y,nose.score,tail.x,tail.y,tail.score\n"
DLC = "scorer,s,s,s,s,s,s\nbodyparts,nose,nose,nose,tail,tail,tail\ncoords,x,y,likelihood,x,y,likelihood\n"
LONG = "track,frame_idx,instance.score,nose.x,nose.y,nose.score\n"


@pytest.fixture
def growing() -> Iterator[Growing]:
    with ExitStack() as stack:
        yield lambda path, **more: stack.enter_context(closing(GrowingCsv(path, fps=30.0, **({"wait_s": 0.0} | more))))


def append(path: Path, text: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


def frames_of(source: GrowingCsv) -> list[SourceFrame]:
    found = []
    while (frame := source.receive(0)) is not None:
        found.append(frame)
    return found


def assert_is_whole_file(frames: list[SourceFrame], whole: Recording, first: int = 0) -> None:
    """The frames that came are those of the file as its reader reads it, bit for bit."""
    assert [frame.number for frame in frames] == (first + whole.came).tolist()
    poses = np.stack([frame.pose for frame in frames])
    assert poses[..., :2].tobytes() == whole.keypoints[whole.came].tobytes()
    assert poses[..., 2].tobytes() == whole.confidence[whole.came].tobytes()


@pytest.mark.parametrize(
    ("header", "rows"),
    [
        (DLC, ["0,1.5,2.25,0.9,3,4,0.8", "1,,,,3.125,4,1", "5,0.1,0.2,0.3,-1,-1,-1", "6,1e2,7,1.0000002,,,"]),
        (DLC.replace(",", ";"), ["0;1,5;2,25;0,9;3,0;4,0;0,8", '1;"1,5";2,0;1,0;;;']),
        (PLAIN, ["0,1.5,2.25,0.9,3,4,0.8", "4,nan,NA,,3.125,4,1", "5.0,0,0,0,1,2,0.3"]),
        ("frame,nose_x,nose_y\n", ["0,1,2", "1,,", "3,0,0"]),
    ],
    ids=["DeepLabCut", "European", "plain", "two columns"],
)
def test_rows_mean_what_they_mean_in_the_whole_file(
    growing: Growing, tmp_path: Path, header: str, rows: list[str]
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(header)
    source = growing(path)
    frames: list[SourceFrame] = []
    for row in rows:
        append(path, row)  # without its end
        assert frames_of(source) == []
        append(path, "\n")
        frames += frames_of(source)
    whole = read_recording(path, fps=30)
    assert source.skeleton == whole.skeleton
    assert_is_whole_file(frames, whole)
    # A program that starts later reads them all at once.
    assert_is_whole_file(frames_of(growing(path)), whole)
    assert frames_of(growing(path, from_end=True)) == []


def test_real_files_grow_as_they_are_read(growing: Growing, data_root: Path, tmp_path: Path) -> None:
    files = [*sorted(data_root.glob("rats58/poses/01*.csv")), *sorted(data_root.glob("formats/*.csv"))]
    assert files
    for file in files:
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)[:60]
        path = tmp_path / file.name
        path.write_text("".join(lines[:8]))
        source = growing(path)
        frames = frames_of(source)
        for line in lines[8:]:
            append(path, line)
            frames += frames_of(source)
        assert_is_whole_file(frames, read_recording(path, fps=30))


def test_a_row_a_track(growing: Growing, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(LONG)
    source = growing(path, animals=("b", "a"))
    append(path, "a,0,0.9,1,2,1\nb,0,0.9,3,4,1\na,1,0.9,5,6,1\n")
    (first,) = frames_of(source)
    np.testing.assert_array_equal(first.pose, [[[3, 4, 1]], [[1, 2, 1]]])
    append(path, "c,1,0.9,7,8,1\nb,3,0.9,7,8,1\n")  # more of frame 1, and the first of frame 3
    (second,) = frames_of(source)
    assert (first.number, second.number) == (0, 1)
    np.testing.assert_array_equal(second.pose, [[[np.nan, np.nan, 0]], [[5, 6, 1]]])
    with pytest.raises(RecordingError, match="name those that take part by --animals"):
        growing(path)


def test_rows_that_cannot_be_read_leave_the_others_alone(growing: Growing, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    rows = ["0,1,2,1,3,4,1", "1,1,2,1,3,4", "2,1,2,x,3,4,1", "3,1,2,50,3,4,1", "4,1e9,2,1,3,4,1", "5_0,1,2,1,3,4,1",
            "5,1,2,1,3,4,1", "5,1,2,1,3,4,1", "4,1,2,1,3,4,1", "", ",,,,,,", "6,1,2,1,3,4,1"]  # fmt: skip
    path.write_text(DLC + "\n".join(rows) + "\n")
    source = growing(path)
    came: list[Any] = []
    for _ in rows:
        try:
            frame = source.receive(0)
            came.append(frame and frame.number)
        except FrameError as error:
            came.append(str(error).removeprefix(f"{path}, "))
    assert came[0] == 0
    reasons = ("line 5: expected 7 columns, got 6", "line 6: expected a number in column 4, got 'x'",
               "line 7: frame 0, animal 0, keypoint 0 .from 0.: expected a likelihood from 0 to 1, got 50",
               "line 8: .* is beyond 1000000 px", "line 9: expected a frame index")  # fmt: skip
    for reason, found in zip(reasons, came[1:6], strict=True):
        assert re.match(reason, str(found)), found
    assert came[6:] == [
        5,
        "line 11: frame 5 comes after frame 5",
        "line 12: frame 4 comes after frame 5",
        6,
        None,
        None,
    ]


def test_a_file_that_begins_again(growing: Growing, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.csv"
    path.write_text(PLAIN + "7,1,2,1,3,4,1\n")
    source = growing(path)
    assert [(f.number, f.begins) for f in frames_of(source)] == [(7, False)]
    path.write_text(PLAIN)
    assert frames_of(source) == []
    append(path, "0,1,2,1,3,4,1\n1,1,2,1,3,4,1\n")
    assert [(f.number, f.begins) for f in frames_of(source)] == [(0, True), (1, False)]
    assert "was truncated" in caplog.text
    path.write_text("frame,ear.x,ear.y\n0,1,2\n")
    with pytest.raises(SkeletonError, match="has another header now"):
        frames_of(source)


@pytest.mark.parametrize("header", [PLAIN, DLC])
def test_a_tracker_that_was_started_again_and_appends(growing: Growing, tmp_path: Path, header: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text("\n" + header + "3,1,2,1,3,4,1\n4,1,2,1,3,4,1\n")
    source = growing(path)
    assert [(f.number, f.begins) for f in frames_of(source)] == [(3, False), (4, False)]
    for line in (*header.splitlines(), "0,1,2,1,3,4,1", "1,1,2,1,3,4,1"):  # with its header
        append(path, line + "\r\n")
        source._take(source._text.read())
    assert [(f.number, f.begins) for f in frames_of(source)] == [(0, True), (1, False)]
    append(path, "0,5,2,1,3,4,1\n1,6,2,1,3,4,1\n")  # without
    assert [(f.number, f.begins) for f in frames_of(source)] == [(0, True), (1, False)]


def test_the_first_frame_once_more_is_a_double_where_the_file_goes_on(growing: Growing, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    row = "{},1,2,1,3,4,1\n".format
    path.write_text(PLAIN + "".join(map(row, (0, 1, 2))))
    source = growing(path)
    assert [frame.number for frame in frames_of(source)] == [0, 1, 2]
    append(path, row(0))
    assert source.receive(0) is None  # what it is, the next row says
    append(path, row(3) + row(4))
    with pytest.raises(FrameError, match=r"line 5: frame 0 comes after frame 2"):
        source.receive(0)
    assert [(f.number, f.begins) for f in frames_of(source)] == [(3, False), (4, False)]
    append(path, "".join(map(row, (0, 0, 1))))  # a double, and a recording that begins
    with pytest.raises(FrameError, match=r"line 8: frame 0 comes after frame 4"):
        source.receive(0)
    assert [(f.number, f.begins) for f in frames_of(source)] == [(0, True), (1, False)]


@pytest.mark.parametrize("header", [PLAIN, DLC])
def test_another_header_further_down_ends_the_source(growing: Growing, tmp_path: Path, header: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(header + "0,1,2,1,3,4,1\n")
    source = growing(path)
    append(path, header.replace("nose", "ear") + "0,1,2,1,3,4,1\n")
    assert source.receive(0) is not None
    with pytest.raises(SkeletonError, match=r"line \d: another header"):
        source.receive(0)


def test_a_row_a_track_when_the_header_comes_again(growing: Growing, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(LONG + "a,0,1,1,2,1\nb,0,1,3,4,1\na,1,1,5,6,1\n")
    source = growing(path, animals=("a", "b"))
    append(path, LONG + "a,0,1,7,8,1\na,1,1,9,9,1\na,0,1,2,2,1\na,1,1,3,3,1\na,2,1,3,3,1\n")
    came = [(f.number, f.begins, float(f.pose[0, 0, 0])) for f in frames_of(source)]
    assert came == [(0, False, 1), (1, False, 5), (0, True, 7), (1, False, 9), (0, True, 2), (1, False, 3)]


def test_names(growing: Growing, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(PLAIN + "0,1,2,1,3,4,1\n")
    source = growing(path, names=NameMap({"tail": "tail_base"}, {"animal": "rat"}))
    assert (source.skeleton.animals, source.skeleton.keypoints) == (("rat",), ("nose", "tail_base"))
    assert len(frames_of(source)) == 1
    with pytest.raises(SkeletonError, match="no 'snout'"):
        growing(path, names=NameMap({"snout": "ear"}))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a,b\n", "expected the header"),
        ("scorer,a\n" * 6, "expected DeepLabCut's header rows"),
        (DLC[:30], "no header came within 0 s"),
        ("frame,nose.x\n", "nose/y is missing"),
        ("frame,nose.x,nose.y,nose.z\n", "column 'nose.z': expected x and y"),
    ],
)
def test_headers_that_cannot_be_used(growing: Growing, tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(RecordingError, match=reason):
        growing(path)


def test_a_file_that_never_comes(growing: Growing, tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="no header came within 0 s; is its writer running"):
        growing(tmp_path / "none.csv")


def test_what_reads_a_row_is_compiled_before_the_file_is_there(tmp_path: Path) -> None:
    """In a process that has read no file: the first frames would come seconds late."""
    code = (
        "import sys, threading, time\nfrom pathlib import Path\nfrom rtseg.frames.frame import clean_frames\n"
        "from rtseg.sources.growing_csv import GrowingCsv\n"
        "source = threading.Thread(target=GrowingCsv, args=(Path(sys.argv[1]),), kwargs={'fps': 30}, daemon=True)\n"
        "source.start()\n"
        "while not clean_frames.signatures:\n    time.sleep(0.01)\n"
        "print('compiled')"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "none.csv")]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert (done.returncode, done.stdout) == (0, "compiled\n"), done.stderr


def test_a_place_without_a_likelihood_is_refused_until_one_has_come(growing: Growing, tmp_path: Path) -> None:
    """Were it empty in every row, the finished file would have the place as sure, and with others as not."""
    path = tmp_path / "a.csv"
    path.write_text(DLC + "0,1,2,,3,4,0.5\n")
    source = growing(path)
    with pytest.raises(FrameError, match="line 4: animal, nose has a place and an empty likelihood, as in every row"):
        source.receive(0)
    for row in ("1,,,,3,4,", "2,0,0,,3,4,0.5", "3,1,2,0.75,3,4,0.5", "4,1,2,,3,4,0.5"):
        append(path, row + "\n")
    assert_is_whole_file(frames_of(source), read_recording(path, fps=30).part("a", 1, 5), first=1)


def test_likelihoods_that_stay_empty_are_never_answered_by_another_rule(growing: Growing, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("frame,nose.x,nose.y,nose.score\n" + "".join(f"{t},{t + 1},2,\n" for t in range(5)))
    source = growing(path)
    for line in range(2, 7):
        with pytest.raises(FrameError, match=f"line {line}: animal, nose has a place and an empty likelihood"):
            source.receive(0)
    assert source.receive(0) is None
    assert (read_recording(path, fps=30).confidence == 1).all()


def test_the_rate_in_a_column_is_held_to_the_one_that_was_said(growing: Growing, tmp_path: Path) -> None:
    for rate, number in ((30, "a.csv"), (25, "b.csv")):
        (tmp_path / number).write_text(f"frame,fps,nose.x,nose.y\n0,{rate},1,2\n")
    frame = growing(tmp_path / "a.csv").receive(0)
    assert frame is not None
    assert frame.pose[0, 0].tolist() == [1, 2, 1]
    with pytest.raises(FrameError, match="line 2: was recorded at 25 fps, not 30"):
        growing(tmp_path / "b.csv").receive(0)
