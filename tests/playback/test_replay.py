"""Replay equals offline, byte for byte, over a real socket."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rtseg.bundle.bundle import load_bundle
from rtseg.client import ask_load
from rtseg.errors import ServeError
from rtseg.frames.skeleton import MICE7, Skeleton
from rtseg.inference.classifier import load
from rtseg.inference.predictions import Predictions, Quality
from rtseg.playback.replay import replay
from rtseg.recordings.open import read_recording
from rtseg.wire.messages import PredictionMessage
from tests.bundles import delayed_bundle, reordered_bundle
from tests.live import REPO, Child, daemon, random_walk, without_frames


@pytest.fixture(scope="module", params=[0, 5], ids=["at once", "lookahead 5"])
def bundle(request: pytest.FixtureRequest, tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return delayed_bundle(tiny_bundle, tmp_path_factory.mktemp("bundles") / "lookahead", request.param)


@pytest.fixture(scope="module")
def child(bundle: Path) -> Iterator[Child]:
    with daemon(bundle) as child:
        yield child


@pytest.mark.parametrize("speed", [None, 50.0])
def test_replay_equals_offline(child: Child, bundle: Path, speed: float | None) -> None:
    walk = random_walk(700, 40)
    offline = load(bundle).run(walk)
    heard: list[PredictionMessage] = []
    live = replay(walk, child.frames, speed=speed, on_prediction=heard.append)
    assert live.predictions.probs.tobytes() == offline.probs.tobytes()
    np.testing.assert_array_equal(live.predictions.seq, np.arange(700))
    np.testing.assert_array_equal(live.predictions.labels, offline.labels)
    np.testing.assert_array_equal(live.predictions.quality & ~Quality.LATE, offline.quality)
    assert [(h.name, h.classes) for h in live.predictions.heads] == [(h.name, h.classes) for h in offline.heads]
    np.testing.assert_array_equal(live.begins[1:], np.diff(live.predictions.labels, axis=0) != 0)
    assert [p.seq for p in heard] == list(range(700))
    assert (live.latency_ns > 0).all()
    assert (live.daemon_ns > 0).all()
    assert (live.latency_ns > live.daemon_ns).all()
    assert live.model == load_bundle(bundle).hash
    assert (live.counters["frames"], live.counters["refused"], live.counters["gaps"]) == (700, 0, 0)


def test_another_skeleton_gives_the_same_answers(child: Child, bundle: Path) -> None:
    shuffled = Skeleton(("intruder", "resident"), ("tip", *reversed(MICE7.keypoints)))
    walk = random_walk(50, 41, shuffled)
    live = replay(walk, child.frames, speed=None)
    assert live.predictions.probs.tobytes() == load(bundle).run(walk).probs.tobytes()


@pytest.mark.parametrize("skeleton", [MICE7, Skeleton(MICE7.animals, MICE7.keypoints[::-1])], ids=["same", "turned"])
def test_confidences_above_1_are_taken_as_1(child: Child, bundle: Path, skeleton: Skeleton) -> None:
    """By the compiled parser, and where points come in another order by the general way."""
    walk = random_walk(50, 47, skeleton)
    raw = replace(walk, confidence=walk.confidence * np.float32(1.06))
    clipped = replace(walk, confidence=np.minimum(raw.confidence, np.float32(1)))
    live = replay(raw, child.frames, speed=None)
    assert live.predictions.probs.tobytes() == load(bundle).run(clipped).probs.tobytes()
    assert live.counters["clipped"] == (raw.confidence > 1).any(axis=(1, 2)).sum() > 10
    assert live.counters["refused"] == 0


def test_an_arena_can_be_named(child: Child, bundle: Path) -> None:
    walk, arena = random_walk(50, 42), (100.0, 50.0, 700.0, 600.0)
    live = replay(walk, child.frames, speed=None, arena=arena)
    offline = load(bundle).run(walk, arena)
    assert live.predictions.probs.tobytes() == offline.probs.tobytes()
    assert offline.probs.tobytes() != load(bundle).run(walk).probs.tobytes()


def test_a_window_of_one_frame_is_enough(child: Child, bundle: Path) -> None:
    walk = random_walk(60, 43)
    live = replay(walk, child.frames, speed=None, window_frames=1)
    assert live.predictions.probs.tobytes() == load(bundle).run(walk).probs.tobytes()


def test_a_recording_of_one_frame_is_answered_and_one_of_none_too(child: Child) -> None:
    assert len(replay(random_walk(1, 44), child.frames, speed=None).predictions) == 1
    assert len(replay(random_walk(0, 44), child.frames, speed=None).predictions) == 0


def test_answers_of_two_models_are_not_one_table(tiny_bundle: Path, tmp_path: Path) -> None:
    """Another program swaps the bundle while a recording is played; its classes stand in another order."""
    other = reordered_bundle(tiny_bundle, tmp_path / "reordered")

    def swap(answer: PredictionMessage) -> None:
        if answer.seq == 5:
            ask_load(child.frames, other)

    with daemon(tiny_bundle) as child, pytest.raises(ServeError, match="a model other than"):
        replay(random_walk(200, 46), child.frames, speed=None, on_prediction=swap)


def test_a_recording_that_does_not_fit_is_refused(child: Child) -> None:
    with pytest.raises(ServeError, match="the model was trained at 30"):
        replay(replace(random_walk(5, 0), fps=50.0), child.frames)
    with pytest.raises(ServeError, match="without a counterpart"):
        replay(random_walk(5, 0, Skeleton(("a", "b"), ("nose", "tail"))), child.frames)
    with pytest.raises(ServeError, match="speed must be above 0"):
        replay(random_walk(5, 0), child.frames, speed=0.0)


def test_the_shipped_model_answers_a_real_recording_as_offline(data_root: Path) -> None:
    bundle, poses = REPO / "engines" / "rats58", sorted(data_root.glob("rats58/poses/01*.csv"))
    if not (bundle / "manifest.json").is_file() or not poses:
        pytest.skip("needs engines/rats58 and the recordings of rats58")
    model = load(bundle)
    whole = read_recording(poses[0], fps=model.bundle.fps)
    recording = replace(whole, keypoints=whole.keypoints[:1500], confidence=whole.confidence[:1500])
    with daemon(bundle) as shipped:
        live = replay(recording, shipped.frames, speed=None)
    assert live.predictions.probs.tobytes() == model.run(recording).probs.tobytes()


def test_a_daemon_s_recording_is_a_camera_to_another_daemon(data_root: Path, tmp_path: Path) -> None:
    """Real rats, of which many points are missing, with a gap within the limit and one beyond it."""
    (poses,) = (data_root / "rats58" / "poses").glob("01DLC*.csv")
    recording = replace(read_recording(poses, fps=30).between(3000, 3600), name="arena")
    absent = np.zeros(len(recording), np.bool_)
    absent[[0, 40, 41]] = absent[300:350] = True
    answers: list[Predictions] = []
    played = without_frames(recording, absent)
    for folder in (tmp_path / "first", tmp_path / "second"):
        with daemon(REPO / "engines" / "rats58", record=str(folder)) as child:
            answers.append(replay(played, child.frames, speed=None).predictions)
        (file,) = folder.glob("*.mcap")
        played = read_recording(file)
    first, second = answers
    assert (first.quality & Quality.GAP_FILLED).any()
    assert (first.quality & Quality.RESET).any()
    assert (first.quality & Quality.MISSING_POINTS).any()
    for name in ("seq", "quality", "probs", "labels", "unsure"):
        assert getattr(second, name).tobytes() == getattr(first, name).tobytes(), name
