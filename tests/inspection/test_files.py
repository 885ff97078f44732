"""`rtseg inspect`: any file, alone or labels over their poses, as words, JSON and a picture."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from unittest import mock

import pytest

from rtseg.errors import SettingError
from rtseg.inspection.files import inspect_files
from tests.commands import here
from tests.project.scenes import N_FRAMES, regular_bouts, write_boris, write_bouts, write_poses


def test_labels_lie_over_the_poses_of_their_video(tmp_path: Path) -> None:
    poses = write_poses(tmp_path / "m1DLC_x.csv")
    labels = write_boris(tmp_path / "m1.csv", regular_bouts())
    first, second = inspect_files([labels, poses])
    assert (first.path, second.path, second.video) == (poses, labels, poses.name)
    assert first.format == "DeepLabCut .csv"
    assert second.format.startswith("BORIS")
    track = second.tracks[0]
    assert (track.track, track.frames, track.unlabelled) == ("adult", N_FRAMES, N_FRAMES - 12 * 45)
    assert [(b.name, b.bouts, b.frames, b.median_s) for b in track.behaviours] == [("sniff", 12, 540, 1.5)]


@pytest.mark.parametrize("kind", ["boris", "bouts", "frames"])
def test_labels_alone_say_how_long_they_are(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.csv"
    if kind == "boris":
        write_boris(path, regular_bouts())
    elif kind == "bouts":
        write_bouts(path, [(30, 75, "sniff"), (1680, 1725, "sniff")])
    else:
        path.write_text("frame,sniff\n" + "".join(f"{t},{int(t >= 1680)}\n" for t in range(1725)), encoding="utf-8")
    (report,) = inspect_files([path])
    assert report.video == ""
    assert report.tracks[0].frames == 1725
    assert report.tracks[0].behaviours[-1].name == "sniff"


def test_a_silent_end_and_a_lone_bout_look_odd(tmp_path: Path) -> None:
    poses = write_poses(tmp_path / "v_tracking.csv")
    labels = write_bouts(tmp_path / "v_bouts.csv", [(10, 50, "a"), (100, 101, "b"), (200, 230, "a")])
    odd = inspect_files([poses, labels])[1].tracks[0].odd
    assert "the last 1570 frames carry no label: did somebody look at them?" in odd
    assert "b happens once" in odd
    assert "b: 1 of 1 bouts are shorter than 3 frames" in odd


def test_what_is_neither_poses_nor_labels_keeps_no_other_from_being_looked_at(tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("bought food\n", encoding="utf-8")
    cut = write_poses(tmp_path / "cut.csv")
    cut.write_bytes(cut.read_bytes()[:-20])
    whole = write_poses(tmp_path / "whole.csv")
    reports = inspect_files([notes, cut, whole])
    assert [report.path for report in reports] == [whole, notes, cut]
    assert [bool(report.problem) for report in reports] == [False, True, True]
    done = here("inspect", notes, whole)
    assert done.returncode == 1
    assert "whole.csv: DeepLabCut .csv" in done.stdout
    assert "notes.txt, line 1: its header 'bought food' is none that is read" in done.stderr
    assert "Traceback" not in done.stderr
    with pytest.raises(SettingError, match="is a folder"):
        inspect_files([tmp_path])


def test_the_command_and_its_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    poses = write_poses(tmp_path / "m1DLC_x.csv", 300)
    labels = write_boris(tmp_path / "m1.csv", regular_bouts(n=2))
    done = here("inspect", poses, labels, "--fps", "30", "--picture", tmp_path / "pictures")
    assert (done.returncode, done.stderr) == (0, "")
    assert "300 frames at 30 fps (10.0 s)" in done.stdout
    assert "adult" in done.stdout
    assert (tmp_path / "pictures" / "m1DLC_x.png").read_bytes().startswith(b"\x89PNG")
    plain = json.loads(here("inspect", poses, labels, "--json").stdout)
    assert [one["file"] for one in plain] == [str(poses), str(labels)]
    assert plain[0]["poses"][0]["frames"] == 300
    assert plain[1]["tracks"][0]["behaviours"][0]["name"] == "sniff"


def test_without_matplotlib_one_line_says_what_to_install(tmp_path: Path) -> None:
    poses = write_poses(tmp_path / "m1DLC_x.csv", 60)
    with mock.patch.dict(sys.modules, {"matplotlib.figure": None}):
        done = here("inspect", poses, "--picture", tmp_path / "pictures")
    assert done.returncode == 1
    assert done.stderr == "rtseg: drawing needs the package 'matplotlib': pip install 'rtseg[plot]'\n"
