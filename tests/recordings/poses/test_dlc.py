"""DeepLabCut CSV: every real file, and real files damaged in the ways that users' files are."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rtseg.errors import RecordingError
from rtseg.recordings.poses.dlc import read_dlc_csv

Damage = Callable[[list[str]], list[str]]


def slow_read(path: Path, n_header: int) -> np.ndarray:
    """(T, columns) with csv and float, the index column left out; empty = NaN."""
    with path.open(newline="") as file:
        rows = list(csv.reader(file))[n_header:]
    return np.array([[float(c) if c else np.nan for c in row[1:]] for row in rows])


@pytest.mark.parametrize(
    ("pattern", "shape", "animals", "n_header"),
    [
        ("formats/dlc_single_mouse.csv", (97, 1, 14, 2), ("animal",), 3),
        ("formats/dlc_openfield_missing.csv", (2330, 1, 4, 2), ("animal",), 3),
        ("formats/madlc_two_mice.csv", (97, 2, 14, 2), ("mouse_black_tail", "mouse_white_tail"), 4),
        ("mice7/e3v813a*.csv", (5700, 2, 7, 2), ("adult", "juvenile"), 4),
        ("rats58/poses/01DLC*.csv", (14734, 2, 5, 2), ("individual1", "individual2"), 4),
    ],
)
def test_real_files_equal_a_slow_reading(
    data_root: Path, pattern: str, shape: tuple[int, ...], animals: tuple[str, ...], n_header: int
) -> None:
    (path,) = data_root.glob(pattern)
    recording = read_dlc_csv(path, fps=30)
    cells = slow_read(path, n_header).reshape(*shape[:3], 3)
    absent = np.isnan(cells[..., :2]).any(axis=-1) | (cells == 0).all(axis=-1)
    expected = np.where(absent[..., None], np.nan, cells[..., :2]).astype(np.float32)
    np.testing.assert_array_equal(recording.keypoints, expected)
    np.testing.assert_array_equal(recording.confidence, np.where(absent, 0, cells[..., 2]).astype(np.float32))
    assert recording.skeleton.animals == animals
    assert recording.keypoints.dtype == recording.confidence.dtype == np.float32
    assert absent.any() == (not pattern.startswith(("mice7", "formats/dlc_single")))


def test_names_are_those_of_the_file(data_root: Path) -> None:
    recording = read_dlc_csv(next((data_root / "rats58/poses").glob("02DLC*.csv")), fps=30, name="02")
    assert recording.skeleton.keypoints == ("top", "body", "tail", "tail-m", "tail-e")
    assert (recording.name, recording.fps, recording.warnings) == ("02", 30, ())


@pytest.fixture
def damaged(data_root: Path, tmp_path: Path) -> Callable[[Damage], Path]:
    """A damaged copy of the first rows of a real multi-animal file (four header lines, 96 frames)."""
    lines = (data_root / "formats/madlc_two_mice.csv").read_text().splitlines()[:100]

    def make(damage: Damage) -> Path:
        path = tmp_path / "damaged.csv"
        path.write_bytes(("\n".join(damage(list(lines))) + "\n").encode())
        return path

    return make


def on_line(number: int, change: Callable[[str], str]) -> Damage:
    def damage(lines: list[str]) -> list[str]:
        lines[number - 1] = change(lines[number - 1])
        return lines

    return damage


def with_index(number: int, index: str) -> Damage:
    return on_line(number, lambda line: index + line[line.index(",") :])


@pytest.mark.parametrize(
    ("damage", "line", "words"),
    [
        (on_line(50, lambda s: s + ",1.0"), 50, "expected 85 columns, got 86"),
        (on_line(50, lambda s: s.rsplit(",", 2)[0]), 50, "expected 85 columns, got 83"),
        (on_line(100, lambda s: s[: len(s) // 2]), 100, "the file was cut here; copy it again"),
        (on_line(60, lambda s: ""), 60, "expected 85 columns, got 0"),
        (on_line(50, lambda s: s.replace(",1.0,", ",one,", 1)), 50, "expected a number in column"),
        (with_index(50, "44"), 50, "repeats the one before it (1 such rows)"),
        (with_index(50, "3"), 50, "runs backwards (1 such rows)"),
        (with_index(50, "-1"), 50, "runs backwards"),
        (with_index(50, ""), 50, "expected a frame index in column 1"),
        (with_index(50, "4.5"), 50, "expected a frame index"),
        (with_index(50, "labeled-data/a/img0045.png"), 50, "labelled training images"),
        (with_index(100, "1000000000"), 100, "skip more frames (999999905) than there are rows (96)"),
        (with_index(100, "9" * 40), None, "is no table of numbers"),
        (lambda lines: lines[:4], 4, "has a header and no frames"),
        (lambda lines: lines[3:], 1, "expected the header rows"),
        (on_line(2, lambda s: s.rsplit(",", 1)[0]), 2, "'individuals' has 83 columns and 'coords' has 84"),
        (on_line(4, lambda s: s.replace("likelihood", "z")), None, "only 2-D tracks are read"),
        (on_line(4, lambda s: s.replace("x,y", "x,x", 1)), None, "comes twice"),
        (
            on_line(3, lambda s: s[::-1].replace("esoN", "tuonS", 1)[::-1]),
            None,
            "mouse_white_tail/Snout/x is missing",
        ),
        (on_line(4, lambda s: s.replace("x,y", "x,likelihood", 1)), None, "comes twice"),
    ],
)
def test_damaged_files_name_file_line_and_mend(
    damaged: Callable[[Damage], Path], damage: Damage, line: int | None, words: str
) -> None:
    path = damaged(damage)
    with pytest.raises(RecordingError) as error:
        read_dlc_csv(path, fps=30)
    assert error.value.line == line
    assert str(path) in str(error.value)
    assert words in str(error.value)


def test_skipped_frames_are_filled_and_counted(damaged: Callable[[Damage], Path]) -> None:
    whole = read_dlc_csv(damaged(lambda lines: lines), fps=30)
    holed = read_dlc_csv(damaged(lambda lines: lines[:4] + lines[6:50] + lines[53:]), fps=30)
    gone = [0, 1, 46, 47, 48]
    assert holed.warnings[:2] == (
        "frames before the first tracked one are missing (2 frames)",
        "frame indices skip frames, which are taken as never recorded (3 frames)",
    )
    assert len(holed) == len(whole)
    assert np.isnan(holed.keypoints[gone]).all()
    assert (holed.confidence[gone] == 0).all()
    np.testing.assert_array_equal(np.delete(holed.keypoints, gone, 0), np.delete(whole.keypoints, gone, 0))


@pytest.mark.parametrize(
    ("encoding", "warning"),
    [
        ("utf-8-sig", None),
        ("utf-16", "encoding: read as UTF-16 (1 file)"),
        ("latin-1", "line 2: encoding: not UTF-8 from here on, read as Latin-1 (42 bytes outside ASCII)"),
    ],
)
def test_other_encodings_are_read_with_a_warning(
    damaged: Callable[[Damage], Path], encoding: str, warning: str | None
) -> None:
    path = damaged(on_line(2, lambda s: s.replace("mouse_black_tail", "schwarzmäuse")))
    plain = read_dlc_csv(path, fps=30)
    path.write_bytes(path.read_text("utf-8").replace("\n", "\r\n").encode(encoding))
    other = read_dlc_csv(path, fps=30)
    assert other.skeleton == plain.skeleton
    assert other.skeleton.animals[0] == "schwarzmäuse"
    np.testing.assert_array_equal(other.keypoints, plain.keypoints)
    assert other.warnings == ((warning,) if warning else ()) + plain.warnings


def test_no_text_at_all_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    for raw, words in [(b"", "empty"), (b"scorer,a\n\0\0", "NUL"), ("scorer,a".encode("utf-16")[:-1], "UTF-16")]:
        path.write_bytes(raw)
        with pytest.raises(RecordingError, match=words):
            read_dlc_csv(path, fps=30)
    with pytest.raises(RecordingError, match="No such file"):
        read_dlc_csv(tmp_path / "absent.csv", fps=30)


def test_unique_bodyparts_are_set_apart_and_animals_may_differ(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    names = "scorer,s,s,s,s,s,s\nindividuals,{0},{0},{0},{1},{1},{1}\nbodyparts,nose,nose,nose,corner,corner,corner\n"
    body = "coords,x,y,likelihood,x,y,likelihood\n0,1,2,0.5,3,4,0.5\n"
    path.write_text(names.format("mouse", "single") + body)
    recording = read_dlc_csv(path, fps=30)
    assert recording.skeleton.animals == ("mouse",)
    assert recording.warnings == ("unique bodyparts that are no animal are left out: corner (1 bodyparts)",)
    np.testing.assert_array_equal(recording.keypoints, [[[[1, 2]]]])
    assert recording.unique is not None
    np.testing.assert_array_equal(recording.unique.keypoints, [[[[3, 4]]]])
    path.write_text(names.format("mouse", "rat") + body)
    recording = read_dlc_csv(path, fps=30)
    assert (recording.skeleton.animals, recording.skeleton.keypoints) == (("mouse", "rat"), ("nose", "corner"))
    nan = np.nan
    np.testing.assert_array_equal(recording.keypoints, [[[[1, 2], [nan, nan]], [[nan, nan], [3, 4]]]])
    np.testing.assert_array_equal(recording.confidence, [[[0.5, 0], [0, 0.5]]])
    kind = "keypoints that only other animals have are missing in every frame (2 keypoints)"
    assert recording.warnings == (f"mouse, corner: {kind}",)


def test_what_spreadsheets_do_to_a_file_changes_nothing(damaged: Callable[[Damage], Path]) -> None:
    plain = read_dlc_csv(damaged(lambda lines: lines), fps=30)
    quoted: Damage = lambda lines: [",".join(f'"{cell}"' for cell in line.split(",")) for line in lines]  # noqa: E731
    european: Damage = lambda lines: [  # noqa: E731
        line.replace(",", ";").replace(".", ",") if i > 3 else line.replace(",", ";") for i, line in enumerate(lines)
    ]
    rests: Damage = lambda lines: [line + ",," for line in [*lines, "," * 84, "," * 84]]  # noqa: E731
    tabs: Damage = lambda lines: [line.replace(",", "\t") for line in lines]  # noqa: E731
    for change in (quoted, european, rests, tabs):
        other = read_dlc_csv(damaged(change), fps=30)
        assert other.skeleton == plain.skeleton
        np.testing.assert_array_equal(other.keypoints, plain.keypoints)
        np.testing.assert_array_equal(other.confidence, plain.confidence)
    assert (
        "rows without anything at the end of the file are left out (2 rows)"
        in read_dlc_csv(damaged(rests), fps=30).warnings
    )


def test_lines_before_and_between_the_header_are_named(data_root: Path, tmp_path: Path) -> None:
    lines = (data_root / "formats/madlc_two_mice.csv").read_text().splitlines()[:20]
    for damaged in (["sep=,", *lines], [cell for line in lines for cell in (line, "")]):
        path = tmp_path / "a.csv"
        path.write_text("\n".join(damaged) + "\n")
        with pytest.raises(RecordingError, match=r"'scorer'.*; remove lines before and between them"):
            read_dlc_csv(path, fps=30)


ONE = "scorer,s,s,s\nbodyparts,nose,nose,nose\ncoords,x,y,{}\n0,1,20,.5\n1,2,20,.25\n"


@pytest.mark.parametrize("word", ["confidence", "score", "Likelihood"])
def test_a_likelihood_by_another_name_is_one(tmp_path: Path, word: str) -> None:
    (tmp_path / "a.csv").write_text(ONE.format(word))
    recording = read_dlc_csv(tmp_path / "a.csv", fps=30)
    assert recording.confidence[:, 0, 0].tolist() == [0.5, 0.25]
    assert recording.warnings == ()


def test_joined_cells_of_a_header_and_the_row_below_it_for_the_index(tmp_path: Path) -> None:
    """As pandas writes them into a workbook."""
    header = "scorer,s,,,,,\nindividuals,a,,,b,,\nbodyparts,nose,,,nose,,\ncoords,x,y,likelihood,x,y,likelihood\n"
    (tmp_path / "a.csv").write_text(f"{header},,,,,,\n0,1,20,.5,3,40,.25\n1,1,20,.5,3,x,.25\n")
    with pytest.raises(RecordingError, match="got 'x'") as error:
        read_dlc_csv(tmp_path / "a.csv", fps=30)
    assert error.value.line == 7
    (tmp_path / "a.csv").write_text(f"{header},,,,,,\n0,1,20,.5,3,40,.25\n")
    recording = read_dlc_csv(tmp_path / "a.csv", fps=30)
    assert recording.skeleton.animals == ("a", "b")
    assert recording.keypoints[0, :, 0].tolist() == [[1, 20], [3, 40]]
    assert recording.confidence[0, :, 0].tolist() == [0.5, 0.25]


def test_numbers_that_are_no_frames_are_refused(tmp_path: Path) -> None:
    rows = "".join(f"{round(t * 100 / 3)},1,20,.5\n" for t in range(9))
    (tmp_path / "a.csv").write_text(ONE.format("likelihood").partition("0,")[0] + rows)
    with pytest.raises(RecordingError, match="rise by 33 from row to row, mostly, as milliseconds"):
        read_dlc_csv(tmp_path / "a.csv", fps=30)


def test_points_that_may_part_thousands_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("scorer;s;s\nbodyparts;nose;nose\ncoords;x;y\n0;1.234;998\n1;1.235;999\n")
    with pytest.raises(RecordingError, match="may part thousands"):
        read_dlc_csv(tmp_path / "a.csv", fps=30)


def test_bodyparts_that_are_named_like_several_animals_are_told(tmp_path: Path) -> None:
    names = ("nose_1", "tail_1", "nose_2", "tail_2")
    bodyparts, coords = (",".join(cells) for cells in zip(*((n, c) for n in names for c in "xy"), strict=True))
    (tmp_path / "a.csv").write_text(f"bodyparts,{bodyparts}\ncoords,{coords}\n0,1,2,3,4,5,6,7,8\n")
    recording = read_dlc_csv(tmp_path / "a.csv", fps=30)
    assert recording.skeleton.keypoints == names
    assert "named like those of several animals (animal_1, animal_2), and are taken as one" in recording.warnings[0]
