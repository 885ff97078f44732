"""Predictions in a recording as tables: what a table can't hold is damaged."""

from __future__ import annotations

import csv
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rtseg.client import Publisher
from rtseg.errors import RtsegError
from rtseg.inference.annotate import annotate
from rtseg.inference.classifier import load
from rtseg.playback.export import _checked_answer, export_recording
from tests.live import daemon, random_walk

HEADS = {"task": ("other", "attack")}
WHOLE: dict[str, Any] = {
    "v": 1,
    "stream": "cage",
    "seq": 3,
    "t_source_ns": 5,
    "t_recv_ns": 6,
    "t_pub_ns": 7,
    "probs": {"task": np.array([0.25, 0.75], "<f4").tobytes()},
    "label": {"task": "attack"},
    "event": {},
    "quality": 8,
    "model": "m",
}


def test_a_whole_prediction_is_taken() -> None:
    assert _checked_answer(WHOLE, "m", HEADS).label == {"task": "attack"}


@pytest.mark.parametrize("field", ["seq", "t_source_ns", "t_recv_ns", "t_pub_ns", "quality"])
@pytest.mark.parametrize("value", [-1, 2**63, 2**64 - 1, 1.5, "3", True])
def test_numbers_that_no_column_holds_are_damaged(field: str, value: object) -> None:
    with pytest.raises(ValueError, match="numbers out of range"):
        _checked_answer(WHOLE | {field: value}, "m", HEADS)


def test_flags_beyond_their_column_are_damaged() -> None:
    with pytest.raises(ValueError, match="numbers out of range"):
        _checked_answer(WHOLE | {"quality": 2**31}, "m", HEADS)


def test_times_of_a_resampled_stream_are_its_cameras(tiny_bundle: Path, tmp_path: Path) -> None:
    """A camera of 60 frames per second: its frame 60 is one second in, though the model counts 30."""
    walk = replace(random_walk(120, 5), fps=60.0, name="fast")
    with daemon(tiny_bundle, record=str(tmp_path / "recordings")) as child:
        with Publisher(child.frames, "fast", walk.skeleton, fps=60.0, resample=True, clock="recording") as camera:
            for t in range(len(walk)):
                camera.send(walk.keypoints[t], walk.confidence[t], seq=t, t_source_ns=round(t * 1e9 / 60))
            camera.close()
        child.signal(signal.SIGTERM)
        child.rest()
    (file,) = (tmp_path / "recordings").glob("*.mcap")
    (exported,) = export_recording(file, tmp_path / "exported")
    classifier = load(tiny_bundle)
    (annotated,) = annotate(classifier, [file], tmp_path / "annotated", resample=True)
    assert exported.bouts_file.read_text() == annotated.bouts_file.read_text()
    with exported.bouts_file.open(newline="") as lines:
        for row in csv.DictReader(lines):
            assert float(row["start_s"]) == pytest.approx(int(row["first_seq"]) / 60, abs=6e-4)
    with exported.frames_file.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == 60
    assert all(float(row["time_s"]) == pytest.approx(int(row["seq"]) / 60, abs=1e-6) for row in rows)


def test_streams_whose_names_differ_in_a_slash_have_files_of_their_own(tiny_bundle: Path, tmp_path: Path) -> None:
    walks = {name: random_walk(30, seed) for seed, name in enumerate(("rack/1", "rack_1"))}
    with daemon(tiny_bundle, record=str(tmp_path / "recordings")) as child:
        for name, walk in walks.items():
            with Publisher(child.frames, name, walk.skeleton, fps=walk.fps) as camera:
                for t in range(len(walk)):
                    camera.send(walk.keypoints[t], walk.confidence[t], seq=t)
                camera.close()
        child.signal(signal.SIGTERM)
        child.rest()
    (file,) = (tmp_path / "recordings").glob("*.mcap")
    out = tmp_path / "exported"
    (out / "rack_1-2.bouts.csv").mkdir(parents=True)
    with pytest.raises(RtsegError, match=r"rack_1-2\.bouts\.csv exists already"):
        list(export_recording(file, out))
    assert [path.name for path in out.iterdir()] == ["rack_1-2.bouts.csv"]
    (out / "rack_1-2.bouts.csv").rmdir()
    done = list(export_recording(file, out, overwrite=True))
    assert [(one.name, one.frames_file.name) for one in done] == [
        ("rack/1", "rack_1.predictions.csv"),
        ("rack_1", "rack_1-2.predictions.csv"),
    ]
    assert all(len(one.frames_file.read_text().splitlines()) == 31 for one in done)
