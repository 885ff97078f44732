"""EthoVision's raw data: cm with y upwards, a subject a file or a sheet, '-' where nothing was found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rtseg.errors import RecordingError
from rtseg.recordings.open import find_label_reader, read_recording
from tests.recordings.poses.tables.test_workbook import save

NAMES = ["Trial time", "Recording time", "X center", "Y center", "X nose", "Y nose", "Area", "Velocity"]
CENTER = [(1.5, -2.5), (2.5, -2.5), (3.5, 2.0)]
NOSE = [(3.25, 4.0), None, (0.0, 0.0)]


def track(
    subject: str = "Subject 1", *, arena: str = "Arena 1", unit: str = "cm", late_s: float = 0.0
) -> list[list[str]]:
    above = [["Number of header lines:", "8"], ["Experiment", "Pilot"], ["Arena name", arena]]
    above += [["Subject name", subject], ["Video file", r"C:\\videos\\m1.mp4"], []]
    rows = []
    for t, (center, nose) in enumerate(zip(CENTER, NOSE, strict=True)):
        found = [f"{value:.4f}" for value in center] + (["-", "-"] if nose is None else [f"{v:.4f}" for v in nose])
        rows.append([f"{t / 25:.4f}", f"{t / 25 + late_s:.4f}", *found, "2.1000", "-"])
    return [*above, NAMES, ["s", "s", *[unit] * 4, "cm²", "cm/s"], *rows]


def text(rows: list[list[str]], *, comma: bool = False) -> str:
    decimal = [[cell.replace(".", ",") if comma and i >= 8 else cell for cell in row] for i, row in enumerate(rows)]
    return "".join(";".join(f'"{cell}"' for cell in row) + "\n" for row in decimal)


def in_mm(points: list[tuple[float, float] | None]) -> np.ndarray:
    """(T, 2), y downwards."""
    return np.array([(np.nan, np.nan) if p is None else (10 * p[0], -10 * p[1]) for p in points], np.float32)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "cp1252"])
@pytest.mark.parametrize("comma", [False, True])
def test_cm_with_y_upwards_become_mm_with_y_downwards(tmp_path: Path, encoding: str, comma: bool) -> None:
    (tmp_path / "a.txt").write_bytes(text(track(), comma=comma).encode(encoding))
    recording = read_recording(tmp_path / "a.txt")
    assert (recording.skeleton.animals, recording.skeleton.keypoints) == (("Subject 1",), ("center", "nose"))
    assert (recording.fps, recording.px_per_mm) == (25, 1.0)
    np.testing.assert_array_equal(recording.keypoints[:, 0, 0], in_mm(CENTER))
    np.testing.assert_array_equal(recording.keypoints[:, 0, 1], in_mm(NOSE))  # 0, 0 is the arena's middle
    assert recording.confidence[:, 0].tolist() == [[1, 1], [1, 0], [1, 1]]
    assert any("in cm and y upwards, are read as mm and y downwards" in warning for warning in recording.warnings)


def test_sheets_of_one_arena_are_animals_and_of_several_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.xlsx", track(), track("Subject 2"), [["Hardware log"]])
    recording = read_recording(path)
    assert recording.skeleton.animals == ("Subject 1", "Subject 2")
    np.testing.assert_array_equal(recording.keypoints[:, 1, 0], in_mm(CENTER))
    with pytest.raises(RecordingError, match=r"tracks of several arenas \(Arena 1, Arena 2\); export each"):
        read_recording(save(tmp_path / "b.xlsx", track(), track(arena="Arena 2")))
    with pytest.raises(RecordingError, match="several tracks of 'Subject 1'; export each trial"):
        read_recording(save(tmp_path / "c.xlsx", track(), track()))


def test_px_have_no_scale_and_other_units_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(text(track(unit="px")))
    recording = read_recording(tmp_path / "a.txt")
    assert recording.px_per_mm is None
    assert recording.keypoints[0, 0, 0].tolist() == [1.5, 2.5]
    (tmp_path / "a.txt").write_text(text(track(unit="deg")))
    with pytest.raises(RecordingError, match=r"expected coordinates in one of mm, cm, .* got deg") as error:
        read_recording(tmp_path / "a.txt")
    assert error.value.line == 8


def test_a_trial_that_begins_late_in_its_video_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(text(track(late_s=2.5)))
    recording = read_recording(tmp_path / "a.txt")
    assert any("the trial begins 2.50 s after the recording" in warning for warning in recording.warnings)


def test_another_rate_damage_and_labels_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(text(track()))
    with pytest.raises(RecordingError, match="was recorded at 25 fps, not 30"):
        read_recording(path, fps=30)
    with pytest.raises(RecordingError, match="is EthoVision's track or another export"):
        find_label_reader(path)
    path.write_text(text(track())[:-20] + "\n")
    with pytest.raises(RecordingError, match=r"expected 8 columns, got|a quote opens here"):
        read_recording(path)
