"""Warnings are counted by kind over files, each once."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

from rtseg.recordings.files.reading_warnings import ReadingWarning, WarningLog, with_file


def test_a_warning_is_its_text_with_what_it_counts_beside_it() -> None:
    warning = ReadingWarning("frames without a label", 3, where="track 'S1'")
    assert warning == "track 'S1': frames without a label (3 frames)"
    assert (warning.kind, warning.n, warning.unit, warning.file) == ("frames without a label", 3, "frames", "")
    (found,) = with_file([warning], Path("a.csv"))
    assert (found, found.file) == (warning, "a.csv")
    assert with_file([found], Path("b.csv"))[0].file == "a.csv"


def test_a_log_has_a_line_for_each_kind_and_every_file_once() -> None:
    log = WarningLog()
    for name in "abcde":
        some = with_file([ReadingWarning("points", 2, "points"), ReadingWarning("gap", 1)], Path(f"x/{name}.csv"))
        for _ in range(2):  # training reads a file again and again
            log.add_warnings(some)
    log.add_warnings(
        [ReadingWarning("gap", 5, where="track 'S1'", file="a.csv"), ReadingWarning("no file", 1, "video")]
    )
    assert log.summary() == [
        "points (10 points in 5 files: a.csv, b.csv, c.csv, ...)",
        "gap (10 frames in 5 files: a.csv, b.csv, c.csv, ...)",
        "no file (1 video)",
    ]
    assert len(log.warnings()) == 12


def test_what_is_told_is_told_once() -> None:
    log, said = WarningLog(), list[str]()
    log.tell(said.append)
    assert said == []
    first = with_file([ReadingWarning("gap", 1)], Path("a.csv"))
    for _ in range(2):  # an evaluation may read a split several times
        log.add_warnings(first)
        log.tell(said.append)
    assert said == ["warning: gap (1 frames in 1 file: a.csv)"]
    log.add_warnings(with_file([ReadingWarning("gap", 2)], Path("b.csv")))
    log.tell(said.append)
    assert said[1:] == ["warning: gap (2 frames in 1 file: b.csv)"]
    assert log.summary() == ["gap (3 frames in 2 files: a.csv, b.csv)"]


def test_a_warning_passes_from_process_to_process() -> None:
    """Of `rtseg annotate --workers 2`, which broke at the first file with a warning."""
    warning = ReadingWarning("frames without a label", 3, "frames", "track 'a'", "a.csv")
    for copied in (copy.deepcopy(warning), pickle.loads(pickle.dumps(warning))):  # noqa: S301
        assert (copied, vars(copied)) == (warning, vars(warning))


def test_files_that_are_counted_are_counted_once() -> None:
    log = WarningLog()
    log.add_warnings(ReadingWarning("no frame rate", 1, "file", file=f"v{i}.csv") for i in range(2))
    assert log.summary() == ["no frame rate (2 files: v0.csv, v1.csv)"]
