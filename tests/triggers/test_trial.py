"""Trials beside labels, and the command that makes them."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rtseg.bundle.bundle import load_bundle
from rtseg.bundle.provenance import poses_hash
from rtseg.config import QUALITY_FLAGS, ConditionSettings, TriggerSettings
from rtseg.errors import SettingError
from rtseg.frames.skeleton import MICE7
from rtseg.inference.classifier import Classifier
from rtseg.inference.predictions import Predictions, Quality
from rtseg.recordings.recording import IGNORE, Labels, Recording, clean
from rtseg.simulate.tasks import simulate_sequence
from rtseg.triggers.report import run_trials
from rtseg.triggers.trial import Trial, TrialScore, load_triggers, score_trial, truth_of, try_triggers
from tests.commands import here
from tests.conftest import REPO
from tests.triggers.test_rule import ATTACK, FPS, HEADS, probabilities, trigger


def predictions(attack: list[float]) -> Predictions:
    n = len(attack)
    return Predictions(
        HEADS,
        np.arange(n),
        probabilities(attack),
        np.zeros((n, 2), np.int16),
        np.zeros(n, np.int32),
        np.zeros((n, 2), np.bool_),
    )


def tried(chosen: TriggerSettings, answers: Predictions, first_seq: int = 0, fps: float = FPS) -> Trial:
    """One trigger tried on answers to a recording without points; the model's rate is FPS."""
    bundle = replace(load_bundle(REPO / "engines" / "rats58"), fps=FPS)
    n = int(answers.seq[-1]) + 1 - first_seq
    clip = Recording("clip", MICE7, *clean(np.full((n, 2, 7, 2), np.nan), None), fps, first_seq=first_seq)
    return try_triggers({"laser": chosen}, answers, clip, bundle)


def test_flags_have_the_names_that_tables_print() -> None:
    assert tuple(str(flag.name).lower() for flag in Quality) == QUALITY_FLAGS
    assert [1 << i for i in range(len(QUALITY_FLAGS))] == [int(flag) for flag in Quality]


def test_hits_misses_false_starts_and_delays() -> None:
    #         0    1    2    3    4    5    6    7    8    9
    attack = [0.1, 0.1, 0.9, 0.9, 0.1, 0.9, 0.1, 0.1, 0.1, 0.9]
    truth = np.array([1, 1, 1, 1, 0, 0, 0, 1, 0, IGNORE], np.int8)
    trial = tried(trigger(), predictions(attack))
    score = score_trial(trial, "laser", truth)
    assert score == TrialScore(
        bouts=2, hits=1, false_starts=1, delays_s=(0.2,), labelled_s=pytest.approx(0.9), absent_s=pytest.approx(0.4)
    )
    assert score.false_starts_per_min == pytest.approx(150)
    assert (score + score).hits == 2


def test_a_recording_that_begins_late_is_scored_by_its_own_frames() -> None:
    answers = predictions([0.1, 0.9, 0.1, 0.9])
    truth = np.array([0, 1, 1, 0], np.int8)
    plain = score_trial(tried(trigger(), answers), "laser", truth)
    late = score_trial(tried(trigger(), replace(answers, seq=answers.seq + 100), first_seq=100), "laser", truth)
    assert (plain.hits, plain.false_starts) == (1, 1)
    assert late == plain


def test_an_event_that_still_runs_ends_with_the_recording() -> None:
    assert [event.ended for event in tried(trigger(), predictions([0.1, 0.9])).events] == ["closed"]


def test_a_resampled_recording_s_durations_are_those_of_its_answers() -> None:
    trial = tried(trigger(pulse_s=0.2), replace(predictions([0.9] * 4), seq=np.array([0, 2, 4, 6])), fps=2 * FPS)
    assert [(e.seq, e.last_seq) for e in trial.events] == [(0, 2)]
    assert (trial.fps, trial.answer_fps) == (2 * FPS, FPS)


def test_missing_points_must_be_known_where_a_trigger_asks_for_them() -> None:
    answers = predictions([0.9] * 3)
    with pytest.raises(SettingError, match="max_missing needs the frames"):
        tried(trigger(max_missing=0.5), answers)
    points = math.prod(load_bundle(REPO / "engines" / "rats58").skeleton.shape)
    known = replace(answers, missing=np.array([0, points // 2, 0], np.int32))
    assert [event.ended for event in tried(trigger(max_missing=0.4), known).events] == ["quality"]
    assert [event.ended for event in tried(trigger(max_missing=0.6), known).events] == ["closed"]


@pytest.mark.parametrize(("combine", "expected"), [("any", [1, 1, -1, 0, 1]), ("all", [1, 0, 0, 0, -1])])
def test_the_truth_of_several_conditions(combine: str, expected: list[int]) -> None:
    conditions = (ConditionSettings("social", ("attack", "mount")), ConditionSettings("posture", ("rear",)))
    labels = {
        "social": Labels("social", HEADS[0].classes, np.array([1, 2, 0, 0, 1], np.int16)),
        "posture": Labels("posture", HEADS[1].classes, np.array([1, 0, IGNORE, 0, IGNORE], np.int16)),
    }
    # A frame whose posture nobody knows is settled by the other head alone, where that is enough.
    truth = truth_of(trigger(conditions=conditions, combine=combine), HEADS, labels, 5)
    assert truth.tolist() == expected


def test_without_labels_of_its_head_nothing_is_known() -> None:
    assert truth_of(trigger(conditions=ATTACK), HEADS, {}, 3).tolist() == [IGNORE] * 3


def write_walk(path: Path) -> None:
    """A plain pose file of two rats that walk about for five seconds."""
    skeleton = load_bundle(REPO / "engines" / "rats58").skeleton
    rng = np.random.default_rng(0)
    xy = 300 + rng.normal(0, 2, (150, *skeleton.shape, 2)).cumsum(axis=0)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["frame", *(f"{a}.{k}.{c}" for a in skeleton.animals for k in skeleton.keypoints for c in "xy")]
        )
        writer.writerows([t, *(f"{v:.2f}" for v in xy[t].ravel())] for t in range(150))


def test_a_recording_is_tried_from_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_text(
        '[triggers.calm]\nconditions = [{head = "S1", behaviours = ["social", "nonsocial", "aggression"]}]\n'
        'on = 0.2\noff = 0.1\nmin_duration_s = 1.0\npulse_s = 0.5\nnever_on = ["reset"]\n',
        encoding="utf-8",
    )
    write_walk(tmp_path / "walk.csv")
    out = tmp_path / "out"
    done = here("trigger", "try", tmp_path / "t.toml", "engines/rats58", tmp_path / "walk.csv", "--out", out)
    assert done.returncode == 0, done.stderr
    assert "1 recording," in done.stdout
    log = (tmp_path / "out" / "walk.triggers.csv").read_text(encoding="utf-8").splitlines()
    assert log[1] == "walk,calm,29,fired,real,43,pulse over"
    assert (tmp_path / "out" / "walk.calm.png").read_bytes().startswith(b"\x89PNG")


def test_recordings_that_the_bundle_was_trained_on_are_told(tiny_bundle: Path, tmp_path: Path) -> None:
    """As by `trigger tune`: on these every threshold looks too good."""
    recordings = [simulate_sequence(seed, 30, name=f"mice {seed}")[0] for seed in (7, 8)]
    known = poses_hash(recordings[0].select(load_bundle(tiny_bundle).skeleton).keypoints)
    provenance = {"training": {"m": "0"}, "training_poses": [known]}
    bundle = replace(load_bundle(tiny_bundle), provenance=provenance)
    attack = ConditionSettings("task1", ("attack",))
    said, chosen = list[str](), {"attack": trigger(conditions=(attack,))}
    run_trials(chosen, Classifier(bundle, capacity=1), [(recording, {}) for recording in recordings], None, said.append)
    assert said == [
        "mice 7",
        "mice 8",
        "warning: The bundle was trained on mice 7: expect more false starts and fewer hits of other recordings than "
        "here.",
    ]


def test_a_wrong_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_text("[triggers.x]\nconditions = []\n", encoding="utf-8")
    done = here("trigger", "try", tmp_path / "t.toml", "engines/rats58", tmp_path / "none.csv")
    assert done.returncode == 1
    assert done.stderr == f"rtseg: {tmp_path}/t.toml: triggers.x: at least one condition is needed\n"
    (tmp_path / "t.toml").write_text('[triggers.x]\nconditions = [{head = "S1", behaviour = "x"}]\n', encoding="utf-8")
    done = here("trigger", "try", tmp_path / "t.toml", "engines/rats58", tmp_path / "none.csv")
    assert "unknown key behaviour; accepted: head, behaviours, negate" in done.stderr


def test_the_page_s_example_is_a_trigger_file(tmp_path: Path) -> None:
    page = (REPO / "docs" / "triggers.md").read_text(encoding="utf-8")
    (tmp_path / "t.toml").write_text(page.split("```toml\n")[1].split("```")[0], encoding="utf-8")
    assert list(load_triggers(tmp_path / "t.toml")) == ["attack"]
