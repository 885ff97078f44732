"""Names of columns that count, in the spellings that programs and labs use."""

from __future__ import annotations

import pytest

from rtseg.recordings.files.column_names import counts_frames, is_index, is_rate, time_unit


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("time", 1.0),
        ("Time (s)", 1.0),
        ("timestamp_ms", 1e-3),
        ("t [ms]", 1e-3),
        ("Seconds", 1.0),
        ("frame_time", 1.0),
        ("time_in_box", None),
        ("tail", None),
        ("sniff", None),
    ],
)
def test_times_and_their_units(name: str, unit: float | None) -> None:
    assert time_unit(name) == unit


def test_frames_rates_and_indices() -> None:
    names = ("Frame", "frame_idx", "Frame No.", "fnum", "frames per second", "FPS", "Unnamed: 0", "", "index", "groom")
    assert [name for name in names if counts_frames(name)] == ["Frame", "frame_idx", "Frame No.", "fnum"]
    assert [name for name in names if is_rate(name)] == ["frames per second", "FPS"]
    assert [name for name in names if is_index(name)] == ["Unnamed: 0", "", "index"]
