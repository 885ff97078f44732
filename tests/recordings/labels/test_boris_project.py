"""BORIS' own project files: the observation of a video, states that toggle, and images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rtseg.errors import RecordingError
from rtseg.recordings.bouts import bouts_of
from rtseg.recordings.labels.boris_project import read_boris_project
from rtseg.recordings.labels.label_file import Tracks, Video
from rtseg.recordings.open import read_labels


def observation(events: list[list[Any]], media: str = "m1.mp4", **more: Any) -> dict[str, Any]:
    return {"type": "MEDIA", "time offset": 0.0, "file": {"1": [f"/videos/{media}"], "2": []}, "events": events} | more


def write(tmp_path: Path, **observations: dict[str, Any]) -> Path:
    project = {
        "project_name": "p",
        "behaviors_conf": {
            "0": {"type": "State event", "code": "sniff"},
            "1": {"type": "Point event", "code": "rear"},
        },
        "observations": observations,
    }
    path = tmp_path / "p.boris"
    path.write_text(json.dumps(project))
    return path


def bouts(tracks: Tracks, track: str) -> list[tuple[int, int]]:
    return [(b.start, b.stop) for b in bouts_of(tracks[track].frames) if b.label >= 0]


def test_states_toggle_and_points_are_one_frame(tmp_path: Path) -> None:
    events = [[3.0, "A", "sniff", "", ""], [1.0, "A", "sniff", "", "first\nline"], [2.0, "", "rear", "", ""]]
    tracks = read_labels(write(tmp_path, one=observation(events)), 300, 30)
    assert bouts(tracks, "A:sniff") == [(30, 90)]
    assert bouts(tracks, "No focal subject:rear") == [(60, 61)]


def test_time_offset_and_other_rate(tmp_path: Path) -> None:
    one = observation([[3.5, "A", "sniff", "", ""], [5.5, "A", "sniff", "", ""]], media_info={"fps": {"m1.mp4": 25.0}})
    tracks = read_boris_project(write(tmp_path, one=one | {"time offset": 2.5}), Video(300, 30))
    assert bouts(tracks, "A") == [(30, 90)]
    assert "BORIS saw the video at 25 fps, the recording has 30 (2 events)" in tracks["A"].warnings


def test_offsets_of_players_are_told(tmp_path: Path) -> None:
    events = [[1.0, "A", "sniff", "", ""], [3.0, "A", "sniff", "", ""]]
    for offset, is_told in ((0.0, False), (5.0, True)):
        info = {"offset": {"1": 0.0, "2": offset}}
        tracks = read_boris_project(write(tmp_path, one=observation(events, media_info=info)), Video(300, 30))
        assert any("offsets to each other, which are not applied" in w for w in tracks["A"].warnings) is is_told


def test_two_modifiers_at_once_are_one_behaviour(tmp_path: Path) -> None:
    events = [[1.0, "A", "sniff", "head", ""], [2.0, "A", "sniff", "tail", ""]]
    events += [[3.0, "A", "sniff", "head", ""], [4.0, "A", "sniff", "tail", ""]]
    assert bouts(read_boris_project(write(tmp_path, one=observation(events)), Video(300, 30)), "A") == [(30, 120)]


def test_images_have_numbers_instead_of_times(tmp_path: Path) -> None:
    events = [[None, "A", "sniff", "", "", 30, "a.png"], [None, "A", "sniff", "", "", 90, "b.png"]]
    one = observation(events) | {"type": "IMAGES", "file": {}}
    assert bouts(read_boris_project(write(tmp_path, one=one), Video(300, 30)), "A") == [(30, 90)]


def test_the_observation_is_that_of_the_video(tmp_path: Path) -> None:
    one = observation([[1.0, "A", "sniff", "", ""], [2.0, "A", "sniff", "", ""]], "m1.mp4")
    path = write(tmp_path, first=one, second=observation([], "m10.mp4"))
    assert bouts(read_boris_project(path, Video(300, 30, ("m1DLC_net.csv",))), "A") == [(30, 60)]
    nothing = read_boris_project(path, Video(300, 30, ("m10DLC_net.csv",)))
    assert nothing == {}
    assert nothing.lists_events
    with pytest.raises(RecordingError, match=r"holds 2 observations and none is named; there are: 'first' \(m1\)"):
        read_boris_project(path, Video(300, 30))


def test_of_several_media_files_the_own_is_read(tmp_path: Path) -> None:
    events = [[float(time), "A", "sniff", "", ""] for time in (1, 2, 8, 12, 28, 31)]
    info = {"length": {"v/m1.mp4": 10.0, "v/m2.mp4": 20.0}, "fps": {"v/m1.mp4": 30.0}}
    one = observation(events) | {"file": {"1": ["v/m1.mp4", "v/m2.mp4"], "2": []}, "media_info": info}
    path = write(tmp_path, one=one)
    assert bouts(read_boris_project(path, Video(300, 30, ("m1DLC_x.csv",))), "A") == [(30, 60), (240, 300)]
    # What goes on behind the last file is cut at its end.
    assert bouts(read_boris_project(path, Video(600, 30, ("m2DLC_x.csv",))), "A") == [(0, 60), (540, 600)]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"events": [[1.0, "A", "sniff", "", ""]]}, "'sniff' of 'A' starts and never stops"),
        ({"events": [[1.0, "A", "jump", "", ""]]}, "is not as BORIS writes it"),
        ({"file": {"1": ["a.mp4", "b.mp4"]}}, "plays 2 media files one after another"),
    ],
)
def test_mistakes_name_the_file(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    with pytest.raises(RecordingError, match=words) as error:
        read_boris_project(write(tmp_path, one=observation([]) | change), Video(300, 30))
    assert "p.boris" in str(error.value)


def test_a_cut_project_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, one=observation([]))
    path.write_text(path.read_text()[:-20])
    with pytest.raises(RecordingError, match="is no whole BORIS project"):
        read_labels(path, 300, 30)
