"""README's way from a folder of files to an own model that serves, command by command, on a real video of two mice."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

from tests.commands import here
from tests.live import REPO, daemon

README = (REPO / "README.md").read_text(encoding="utf-8")
SECTION = README.split("## Training on your own recordings")[1].split("\n## ")[0]
BLOCK = SECTION.split("```")[1].splitlines()
WAY = [re.split(r"\s#", line)[0].strip() for line in BLOCK if line.startswith("rtseg ")]
TINY = ("train.epochs=1", "train.crop_frames=200", "train.warmup_frames=50", "train.batch=2")
QUICK = [word for setting in TINY for word in ("--set", setting)]


def test_the_way_has_all_its_steps() -> None:
    assert [line.split()[1] for line in WAY] == ["inspect", "init", "check", "train", "evaluate", "calibrate", "serve"]


@pytest.mark.parametrize("name", ["mice7", "freezing", "zebrafish2"])
def test_from_a_folder_of_files_to_a_model_that_serves(name: str, data_root: Path, tmp_path: Path) -> None:
    """Two mice with events of one behaviour; one mouse; two fish of one point each, with samples of five behaviours."""
    pytest.importorskip("torch")
    if not (data_root / name).is_dir():
        pytest.skip(f"no recordings at {data_root / name}")
    folder = tmp_path / "mymice"
    folder.mkdir()
    for file in (data_root / name).glob("*.csv"):
        shutil.copy(file, folder)
    files = sorted(path.name for path in folder.glob("*.csv"))
    said = {}
    for line in WAY:
        _, command, *words = shlex.split(line)
        words = [name for word in words for name in (files if word == "*.csv" else [word])]
        if command == "serve":
            with daemon(folder / words[0]) as child:  # it must come up, and stop when told
                assert child.about["frames"]
            continue
        done = here(command, *words, *(QUICK if command == "train" else ()), cwd=folder)
        assert done.returncode == 0, f"{line}: {done.stderr}"
        said[command] = done.stdout
    assert "mymice-model" in README
    # What was held out has labels on both sides, so that the scores are about something.
    scored = {"mice7": "interact", "freezing": "freezing", "zebrafish2": "display"}[name]
    assert scored in said["evaluate"]
    assert "ECE" in said["calibrate"]
