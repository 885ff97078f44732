"""Whatever is done to a file, it is read or refused with its name; never a traceback of something else."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtseg.errors import RecordingError
from rtseg.recordings.open import read_labels, read_recordings
from tests.recordings import writers
from tests.recordings.writers import Observation, State, Style

POINTS = np.random.default_rng(0).uniform(0, 500, (20, 2, 2, 2)).round(3)
LIKELIHOOD = np.full((20, 2, 2), 0.5)
NAMES = (["m", "n"], ["a", "b"])
STATES = (State("A", "s", 1, 2, "h"), State("A", "s", 2, 3), State("B", "c", 1, 4))
OBSERVATIONS = [Observation("o", "m.mp4", STATES, 2.5)]

POSES: dict[str, Callable[[Path], Path]] = {
    "dlc": lambda path: writers.write_dlc(path, POINTS, LIKELIHOOD, *NAMES),
    "dlc of a spreadsheet": lambda path: writers.write_dlc(
        path, POINTS, LIKELIHOOD, *NAMES, style=Style(";", decimal_comma=True, quote=True, rest_rows=2)
    ),
    "sleap": lambda path: writers.write_sleap_csv(path, POINTS, LIKELIHOOD, *NAMES, lambda t: [0, 1]),
    "plain": lambda path: writers.write_plain_poses(path, POINTS, LIKELIHOOD, *NAMES),
}
LABELS: dict[str, Callable[[Path], Path]] = {
    "boris": lambda path: writers.write_boris_tabular(path, OBSERVATIONS, comment="x\ny"),
    "boris of a spreadsheet": lambda path: writers.write_boris_aggregated(path, OBSERVATIONS, Style(";", True)),
    "boris of old": lambda path: writers.write_boris_old(path, OBSERVATIONS[0]),
    "caltech": lambda path: writers.write_caltech(path, ["x", "y"], {"S1": [(0, 300, "x"), (300, 600, "y")]}),
    "bouts": lambda path: Style().write(path, [["start_s", "stop_s", "label", "track"], ["1", "2.5", "a", "x"]]),
    "steps of time": lambda path: Style().write(
        path, [["time", "a"], *[[f"{i / 10:.1f}", str(i % 2)] for i in range(200)]]
    ),
    "frames": lambda path: Style().write(path, [["", "a"], *[[str(i), f"{i % 2}.0"] for i in range(600)]]),
}
CELLS = [b"", b"nan", b"inf", b"-1", b"1e400", b"999999999999", b"START", b"NA", b'"', b"\xff", b"1,5", b"-0.0", b"\0"]


@st.composite
def damage(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """One thing that happens to files: cut, a byte changed, bytes inserted or gone, a line doubled, a cell replaced."""
    kind = draw(st.integers(0, 5))
    where, other = draw(st.floats(0, 0.999)), draw(st.floats(0, 0.999))
    new = draw(st.sampled_from(CELLS)) if kind == 5 else draw(st.binary(min_size=1, max_size=3))

    def change(raw: bytes) -> bytes:
        i = int(where * len(raw))
        if kind == 0:
            return raw[:i]
        if kind in (1, 2):
            return raw[:i] + new + raw[i + (kind == 1) :]
        if kind == 3:
            return raw[:i] + raw[i + int(30 * other) :]
        separator = b"\n" if kind == 4 else b","
        parts = raw.split(separator)
        j = int(where * len(parts))
        parts[j : j + (kind == 5)] = [parts[int(other * len(parts))] if kind == 4 else new]
        return separator.join(parts)

    return change


@pytest.mark.parametrize("kind", [*POSES, *LABELS])
@settings(max_examples=60, deadline=None)
@given(changes=st.lists(damage(), min_size=1, max_size=3))
def test_damaged_files_are_read_or_refused_by_name(kind: str, changes: list[Callable[[bytes], bytes]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = (POSES | LABELS)[kind](Path(name) / "file.csv")
        raw = path.read_bytes()
        for change in changes:
            raw = change(raw)
        path.write_bytes(raw)
        try:
            if kind in POSES:
                recordings = list(read_recordings(path))
                assert all(0 <= r.confidence.min() <= r.confidence.max() <= 1 for r in recordings)
            else:
                assert all(track.frames.shape == (600,) for track in read_labels(path, 600, 30).values())
            refusal = ""
        except RecordingError as error:
            refusal = str(error)
        assert not refusal or str(path) in refusal
