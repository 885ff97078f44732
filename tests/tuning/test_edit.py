"""A copy of a trigger file with other numbers, and the rest as its author wrote it."""

from __future__ import annotations

from pathlib import Path

import pytest

from rtseg.errors import SettingError
from rtseg.tuning.edit import check_text, tuned_text
from rtseg.tuning.sweep import Candidate

FILE = """# mine
[triggers.led]
conditions = [{ head = "S1", behaviours = ["social"] }]
on = 0.9

# the strong one
[triggers."my laser"] # careful
conditions = [{ head = "S1", behaviours = ["aggression"] }]
on = 0.7    # was 0.8
 off=0.5
pulse_s = 1.0

# not on = 0.1
[triggers."my laser".arms]
shares = { real = 0.5, sham = 0.5 }
"""
CHOSEN = {"my laser": Candidate(0.42, 0.3, 0.2)}


def written(folder: Path, text: str) -> Path:
    (folder / "t.toml").write_text(text, encoding="utf-8")
    return folder / "t.toml"


def test_only_the_chosen_numbers_change(tmp_path: Path) -> None:
    path = written(tmp_path, FILE)
    text = tuned_text(path, CHOSEN)
    expected = FILE.replace("on = 0.7    # was", "on = 0.42    # was").replace(" off=0.5", " off=0.3")
    assert text == expected.replace("pulse_s = 1.0\n", "pulse_s = 1.0\nmin_duration_s = 0.2\n")
    (tmp_path / "new.toml").write_text(text, encoding="utf-8")
    check_text(path, tmp_path / "new.toml", CHOSEN)


def test_what_stays_the_same_is_not_written(tmp_path: Path) -> None:
    path = written(tmp_path, FILE)
    assert tuned_text(path, {"led": Candidate(0.9, 0.6, 0.0)}) == FILE


def test_a_file_of_another_form_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, '[triggers]\nx = { conditions = [{ head = "S1", behaviours = ["social"] }], on = 0.9 }\n')
    with pytest.raises(SettingError, match=r"section \[triggers\.x\]"):
        tuned_text(path, {"x": Candidate(0.4, 0.3, 0.2)})


def test_a_copy_that_says_something_else_is_deleted(tmp_path: Path) -> None:
    path, new = written(tmp_path, FILE), tmp_path / "new.toml"
    new.write_text(FILE, encoding="utf-8")
    with pytest.raises(SettingError, match="could not be changed"):
        check_text(path, new, CHOSEN)
    assert not new.exists()
