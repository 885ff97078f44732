"""Live, replayed from the recording and tried on the poses: the same events on the same frames, byte for byte."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rtseg.bundle.bundle import load_bundle
from rtseg.client import ask_arm
from rtseg.inference.classifier import Classifier, load
from rtseg.playback.export import export_recording
from rtseg.playback.replay import replay
from rtseg.playback.verify import verify_recording
from rtseg.recordings.open import read_recording
from rtseg.recordings.recording import Recording
from rtseg.triggers.report import run_trials
from rtseg.triggers.trial import load_triggers
from tests.live import REPO, daemon, random_walk

TRIGGER = """
[triggers.at{level}]
conditions = [{{ head = "{head}", behaviours = ["{behaviour}"] }}]
on = {threshold:.9f}
off = {threshold:.9f}
min_duration_s = {level}e-3
pulse_s = {pulse_s}
refractory_s = 0.1
max_duty = 0.5
window_s = 2.0
# Frames come as fast as they are answered, and a busy machine may pause: neither is a camera's doing.
grace_s = 60.0
never_on = ["warming_up", "gap_filled", "reset"]
arms = {{ shares = {{ real = 0.5, sham = 0.5 }}, seed = 1 }}
"""
LEVELS = (20, 35, 50, 65, 80)


def write_triggers(model: Classifier, recording: Recording, path: Path) -> None:
    """Triggers at several levels of what changes most: so that events come whatever the model makes of the animals."""
    head, probs = model.bundle.heads[0], model.run(recording).probs
    of_head = probs[:, : len(head.classes)]
    watched = int(np.argmax(np.diff(np.quantile(of_head, [0.2, 0.8], axis=0), axis=0)))
    texts = []
    for level in LEVELS:
        at = {"head": head.name, "behaviour": head.classes[watched]}
        threshold = np.quantile(of_head[:, watched], level / 100)
        texts.append(TRIGGER.format(level=level, threshold=threshold, pulse_s=level % 2 / 10, **at))
    path.write_text("".join(texts), encoding="utf-8")


def events_are_the_same(bundle: Path, recording: Recording, folder: Path, *, again: bool = False) -> None:
    model = load(bundle, capacity=1)
    file = folder / "triggers.toml"
    write_triggers(model, recording, file)
    run_trials(load_triggers(file), model, [(recording, {})], folder / "tried")
    with daemon(bundle, triggers=str(file), record=str(folder / "live")) as child:
        assert child.about["triggers"]["armed"] == []
        assert ask_arm(child.frames)["all"]
        replay(recording, child.frames, speed=None)
    (mcap,) = (folder / "live").glob("*.mcap")
    found = verify_recording(mcap, bundle)
    assert (found.differences, found.first, found.predictions) == (0, "", len(recording.came))
    list(export_recording(mcap, folder / "exported"))
    name = f"{recording.name}.triggers.csv"
    tried = (folder / "tried" / name).read_bytes()
    assert (folder / "exported" / name).read_bytes() == tried
    assert tried.count(b",fired,real,") > 1
    assert tried.count(b",fired,sham,") > 0
    assert found.decisions > tried.count(b"\n") - 1  # ends are compared as well
    if again:
        assert _replayed_logs(bundle, file, mcap, folder) == [tried]


def _replayed_logs(bundle: Path, file: Path, mcap: Path, folder: Path) -> list[bytes]:
    """The log of a daemon that gets the recorded frames."""
    recorded = read_recording(mcap, fps=load_bundle(bundle).fps)
    with daemon(bundle, triggers=str(file), record=str(folder / "again")) as child:
        ask_arm(child.frames)
        replay(recorded, child.frames, speed=None)
    (second,) = (folder / "again").glob("*.mcap")
    list(export_recording(second, folder / "exported-again"))
    return [path.read_bytes() for path in (folder / "exported-again").glob("*.triggers.csv")]


@pytest.mark.parametrize("name", ["mice-sim", "rats58-delayed"])
def test_events_of_a_walk_are_the_same_live_tried_and_verified(name: str, tmp_path: Path) -> None:
    bundle = REPO / "engines" / name
    recording = random_walk(900, 3, load_bundle(bundle).skeleton)
    events_are_the_same(bundle, recording, tmp_path, again=name == "mice-sim")


def test_events_of_real_rats_are_the_same_live_tried_and_verified(data_root: Path, tmp_path: Path) -> None:
    poses = sorted(data_root.glob("rats58/poses/01*.csv"))
    if not poses:
        pytest.skip("needs the recordings of rats58")
    whole = read_recording(poses[0], fps=30.0)
    recording = replace(whole, keypoints=whole.keypoints[:1500], confidence=whole.confidence[:1500])
    events_are_the_same(REPO / "engines" / "rats58", recording, tmp_path)
