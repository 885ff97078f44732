"""`rtseg trigger tune` on simulated mice: the new file, the table of all settings, the picture."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rtseg.bundle.provenance import poses_hash
from rtseg.errors import SettingError
from rtseg.evaluation.fold_answers import FoldAnswers, FoldVideo
from rtseg.inference.classifier import Classifier, load
from rtseg.recordings.heads import HeadLabels
from rtseg.recordings.sources import Item
from rtseg.simulate.tasks import simulate_sequence
from rtseg.triggers.trial import load_triggers
from rtseg.tuning.choose import Goal
from rtseg.tuning.report import COLUMNS, run_tuning, tuned_path
from tests.commands import here
from tests.conftest import REPO

FILE = """[triggers.near]
conditions = [{ head = "task1", behaviours = ["investigation", "attack", "mount"] }]
on = 0.5   # mine
off = 0.3
refractory_s = 0.2
never_on = ["reset"]
"""


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return load(REPO / "engines" / "mice-sim", capacity=1)


@pytest.fixture(scope="module")
def items() -> list[Item]:
    made = []
    for seed in (2028, 7, 8):
        recording, labels = simulate_sequence(seed, 600, name=f"mice {seed}", aggressive=True)
        why = np.full(len(recording), -1, np.int8)
        made.append(Item(recording, {"task1": HeadLabels("task1", labels.classes, labels.frames, why=why)}))
    return made


def test_a_new_file_a_table_and_a_picture(tmp_path: Path, classifier: Classifier, items: list[Item]) -> None:
    path = tmp_path / "near.toml"
    path.write_text(FILE, encoding="utf-8")
    said = ["3 of the recordings are parts of one video"]
    (tuned,) = run_tuning(path, (), Goal(30.0), classifier, items, tuned_path(path, None), remarks=said)
    assert path.read_text(encoding="utf-8") == FILE
    new, taken = tmp_path / "near.tuned.toml", tuned.tried[tuned.chosen]
    trigger = load_triggers(new)["near"]
    assert (trigger.on, trigger.off, trigger.min_duration_s) == (taken.on, taken.off, taken.min_duration_s)
    text = new.read_text(encoding="utf-8")
    assert "# mine" in text
    assert "fewer than 5" in text
    assert said[0] in text
    assert f"{tuned.held_out.hits} of {tuned.held_out.bouts} bouts hit" in text
    with (tmp_path / "near.tuned.near.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == len(tuned.tried)
    assert sum(int(row["chosen"]) for row in rows) == 3
    assert float(rows[tuned.chosen]["false_starts_per_min"]) <= 30
    assert (tmp_path / "near.tuned.near.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(SettingError, match="not overwritten"):
        tuned_path(path, None)
    with pytest.raises(SettingError, match=r"there is no folder .*nowhere; make it"):
        tuned_path(path, tmp_path / "nowhere" / "new.toml")


def test_recordings_that_the_bundle_was_trained_on_are_told(
    tmp_path: Path, classifier: Classifier, items: list[Item]
) -> None:
    path, said = tmp_path / "near.toml", list[str]()
    path.write_text(FILE, encoding="utf-8")
    poses = [poses_hash(items[1].recording.select(classifier.bundle.skeleton).keypoints)]
    bundle = replace(classifier.bundle, provenance={"training": {"m": "0"}, "training_poses": poses})
    run_tuning(path, (), Goal(30.0), Classifier(bundle, capacity=1), items, tuned_path(path, None), said.append)
    (warning,) = [text for text in said if text.startswith("warning: ")]
    assert "The bundle was trained on mice 7: expect more false starts" in warning
    assert "# The bundle was trained on mice 7" in (tmp_path / "near.tuned.toml").read_text(encoding="utf-8")


def test_answers_out_of_fold_take_the_place_of_the_bundles_own(
    tmp_path: Path, classifier: Classifier, items: list[Item]
) -> None:
    weights = dict(classifier.bundle.weights)
    for name in (name for name in weights if ".calibration." in name):
        weights[name] = np.full_like(weights[name], name.endswith(".scale"))
    classifier = Classifier(replace(classifier.bundle, weights=weights), capacity=1)
    bundle, videos = classifier.bundle, []
    for item in items:
        probs = classifier.run(item.recording).by_frame(item.recording).probs
        probs[len(probs) - bundle.lookahead_frames :] = np.nan  # which a fold never answers
        videos.append(FoldVideo(item, probs, [(0, len(probs))]))
    folds = FoldAnswers(bundle, ("train",), tuple(videos), {}, {"trained_on": [2, 2], "folds": 3})
    path, said = tmp_path / "near.toml", list[str]()
    path.write_text(FILE, encoding="utf-8")
    (own,) = run_tuning(path, (), Goal(30.0), classifier, items, tmp_path / "own.toml")
    (tuned,) = run_tuning(path, (), Goal(30.0), classifier, folds, tmp_path / "folds.toml", said.append)
    assert tuned.tried[tuned.chosen] == own.tried[own.chosen]
    assert tuned.held_out.hits == own.held_out.hits
    assert "# Out of fold: every recording was answered by" in (tmp_path / "folds.toml").read_text(encoding="utf-8")
    assert not [text for text in said if text.startswith("warning")]


@pytest.mark.parametrize(
    ("file", "only", "words"),
    [
        (FILE, ["far"], "no trigger far; it has: near"),
        (FILE.replace("task1", "task9"), [], "no head 'task9'"),
    ],
)
def test_what_cannot_be_tuned_is_told_before_the_work(
    tmp_path: Path, classifier: Classifier, file: str, only: list[str], words: str
) -> None:
    path = tmp_path / "t.toml"
    path.write_text(file, encoding="utf-8")
    with pytest.raises(SettingError, match=words):
        run_tuning(path, only, Goal(1.0), classifier, iter(()), tmp_path / "new.toml")


def test_yoked_triggers_have_no_thresholds(tmp_path: Path, classifier: Classifier) -> None:
    (tmp_path / "log.csv").write_text(
        "stream,trigger,seq,decision,arm,last_seq,ended\na,near,5,fired,real,9,closed\n", encoding="utf-8"
    )
    path = tmp_path / "t.toml"
    path.write_text('[triggers.b]\narms = { yoked = "log.csv" }\n', encoding="utf-8")
    for only, words in (([], "all triggers follow recorded sessions"), (["b"], "b follows a recorded session")):
        with pytest.raises(SettingError, match=words):
            run_tuning(path, only, Goal(1.0), classifier, iter(()), tmp_path / "new.toml")


def test_the_command_wants_one_goal(tmp_path: Path) -> None:
    done = here("trigger", "tune", tmp_path / "t.toml", "engines/mice-sim", "--dataset", tmp_path / "d.toml")
    assert done.returncode == 1
    assert done.stderr == "rtseg: name one goal: --false-starts-per-min or --delay\n"
