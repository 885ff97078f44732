"""One gap rule: a daemon, its recording, a table of poses and `Classifier.run` give the same answers, bit for bit.

The recording has gaps of every length from 1 to 100 frames, begins late and has confidences above 1, as SLEAP's are.
"""

from __future__ import annotations

import csv
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rtseg.bundle.bundle import load_bundle, save_bundle
from rtseg.inference.annotate import annotate
from rtseg.inference.classifier import Classifier
from rtseg.inference.predictions import Predictions, Quality
from rtseg.playback.export import export_recording
from rtseg.playback.replay import replay
from rtseg.recordings.open import read_recording
from rtseg.recordings.recording import Recording
from tests.live import REPO, daemon, gaps, random_walk, without_frames, write_gapped_poses

LATE, LENGTHS = 37, list(range(1, 101))


def recording_with_gaps(bundle: Path) -> Recording:
    rng = np.random.default_rng(3)
    absent = gaps(rng.permutation(LENGTHS).tolist(), LATE, rng)
    walk = without_frames(random_walk(len(absent), 8, load_bundle(bundle).skeleton), absent)
    # As SLEAP gives them, and not clipped by anyone yet.
    return replace(walk, name="gaps", confidence=walk.confidence * np.float32(1.06))


def bundle_of(name: str, lookahead: int, folder: Path) -> Path:
    bundle = load_bundle(REPO / "engines" / name)
    save_bundle(replace(bundle, lookahead_frames=lookahead), folder / name)
    return folder / name


def stepped(classifier: Classifier, recording: Recording) -> Predictions:
    session = classifier.open("live")
    answers = []
    for t in recording.came.tolist():
        frame = classifier.frame(recording.keypoints[t], recording.confidence[t], seq=recording.first_seq + t)
        answers += session.step(frame)
    answers += session.finish()
    session.close()
    assert session.counters.clipped > 100
    return Predictions.collect(classifier.bundle.heads, answers)


def bits(answers: Predictions) -> list[bytes]:
    # Late is what a clock says.
    quality = answers.quality & ~int(Quality.LATE)
    return [part.tobytes() for part in (answers.seq, answers.probs, answers.labels, quality, answers.unsure)]


def rows_of(file: Path) -> list[list[str]]:
    """A table of predictions without its flags, among which `late` is."""
    with file.open(newline="", encoding="utf-8") as lines:
        return [[value for name, value in row.items() if "quality" not in name] for row in csv.DictReader(lines)]


@pytest.mark.parametrize("lookahead", [0, 7])
@pytest.mark.parametrize("name", ["mice-sim", "rats58"])
def test_offline_is_what_a_stream_of_the_frames_that_came_gets(name: str, lookahead: int, tmp_path: Path) -> None:
    folder = bundle_of(name, lookahead, tmp_path)
    recording, classifier = recording_with_gaps(folder), Classifier(load_bundle(folder), capacity=1)
    poses = write_gapped_poses(recording, tmp_path / "gaps.csv")
    expected = stepped(classifier, recording)
    assert bits(classifier.run(read_recording(poses, fps=30.0))) == bits(expected)
    (done,) = annotate(classifier, [poses], tmp_path / "out", fps=30.0)
    assert bits(done.predictions) == bits(expected)
    assert [int(row[0]) for row in rows_of(done.frames_file)] == expected.seq.tolist()
    assert expected.seq[0] == LATE
    filled = sum(range(1, 31))
    assert len(expected) == len(recording.came) + filled
    assert np.count_nonzero(expected.quality & Quality.GAP_FILLED) == filled
    assert np.count_nonzero(expected.quality & Quality.RESET) == 70


@pytest.mark.parametrize(("name", "lookahead"), [("mice-sim", 7), ("rats58", 0)])
def test_a_daemon_and_its_recording_agree_with_a_table_of_poses(name: str, lookahead: int, tmp_path: Path) -> None:
    folder = bundle_of(name, lookahead, tmp_path)
    recording, classifier = recording_with_gaps(folder), Classifier(load_bundle(folder), capacity=1)
    with daemon(folder, record=str(tmp_path / "recordings")) as child:
        live = replay(recording, child.frames, speed=None)
        child.signal(signal.SIGTERM)
        _, log, _ = child.rest()
    assert log.count("confidences above 1 are taken as 1") == 1
    expected = classifier.run(read_recording(write_gapped_poses(recording, tmp_path / "gaps.csv"), fps=30.0))
    assert bits(live.predictions) == bits(expected)
    counted = {key: live.counters[key] for key in ("frames", "gaps", "restarts", "filled")}
    assert counted == {"frames": len(recording.came), "gaps": 100, "restarts": 70, "filled": sum(range(1, 31))}
    assert live.counters["clipped"] > 100
    (file,) = (tmp_path / "recordings").glob("*.mcap")
    (again,) = annotate(classifier, [file], tmp_path / "annotated")
    assert bits(again.predictions) == bits(expected)
    (exported,) = export_recording(file, tmp_path / "exported")
    assert rows_of(exported.frames_file) == rows_of(again.frames_file)
    assert exported.bouts_file.read_text() == again.bouts_file.read_text()
