"""Which label files hold the videos of several pose files."""

from __future__ import annotations

from pathlib import Path

import pytest

from rtseg.project.reading import holds_video


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
