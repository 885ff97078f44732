"""Which label files hold the videos of several pose files."""

from __future__ import annotations

from pathlib import Path

import pytest

from rtseg.project.pairing import Pair
from rtseg.project.questions import ProposalTaker, Wishes
from rtseg.project.reading import holds_video, read_project


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("video,start,stop,behaviour\nm1.mp4,0,9,run\nm10.mp4,0,9,run\n", ["m1", "m10"]),
        ("start,stop,behaviour\n0,9,run\n", []),  # of whichever video
        ("video,start,stop,behaviour\nm1.mp4,0,9,run\n", []),
        ("video,start,stop,behaviour\nm1.mp4,9,0,run\nm2.mp4,0,9,run\n", ["m2"]),  # m1's cannot be read
        ("frame,run\n0,1\n1,0\n", []),
    ],
)
def test_a_table_of_several_videos_holds_those_that_it_names(tmp_path: Path, text: str, names: list[str]) -> None:
    labels = tmp_path / "all.csv"
    labels.write_text(text)
    poses = [tmp_path / f"{name}DLC_resnet50.csv" for name in ("m1", "m2", "m10")]
    assert [path.name.partition("DLC")[0] for path in poses if holds_video(labels, path)] == names


@pytest.mark.parametrize("rate", ["25.000", "25,000", "25"])
def test_the_rate_is_the_one_at_which_an_annotation_program_saw_the_video(tmp_path: Path, rate: str) -> None:
    """Also where a spreadsheet has saved BORIS' table with decimal commas."""
    poses, labels = tmp_path / "m1.csv", tmp_path / "m1_boris.csv"
    poses.write_text("frame,nose.x,nose.y,tail.x,tail.y\n" + "".join(f"{t},1,2,3,4\n" for t in range(100)))
    labels.write_text(f"FPS;Subject;Behavior;Behavior type;Time\n{rate};a;run;START;0\n{rate};a;run;STOP;1\n")
    read = read_project([Pair("m1", poses, labels)], Wishes(), ProposalTaker(), lambda done, of: None)
    assert (read.fps, read.fps_said) == (25, True)
    assert read.tracks[0]["a"].frames[:26].tolist() == [0] * 25 + [-1]
