"""Scale in a session: one that is given, one that is measured, and a flag where there is none; live as offline."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtseg.bundle.bundle import Bundle, load_bundle, save_bundle
from rtseg.config import BodySettings
from rtseg.features.scale import fit_body_size
from rtseg.features.spec import FeatureSpec
from rtseg.inference.classifier import Classifier
from rtseg.inference.predictions import Predictions, Quality
from rtseg.recordings.recording import Recording
from tests.inference.test_session import frames_of, same, stepped, wandering

OUT = Quality.OUT_OF_RANGE
SPEC = FeatureSpec(scale="body", identities="relinked", lags=(1, 4), windows_s=(0.3,))


def bundle_of(tiny_bundle: Path, spec: FeatureSpec | None = None) -> Bundle:
    """The tiny bundle, knowing how large the wandering animals are; for other features its weights are cut to fit."""
    made = load_bundle(tiny_bundle)
    size = fit_body_size([wandering(400).keypoints], made.skeleton, made.fps, BodySettings(frames=20))
    if spec is None:
        return replace(made, body_size=size, px_per_mm=2.5)
    network = replace(made.network, n_features=len(spec.features(made.skeleton)))
    cut = {n: tuple(slice(k) for k in shape) for n, shape in network.shapes().items()}
    weights = {n: np.ascontiguousarray(made.weights[n][cut[n]]) for n in cut}
    assert {n: w.shape for n, w in weights.items()} == {n: tuple(s) for n, s in network.shapes().items()}
    return replace(made, body_size=size, features=spec, architecture=network, weights=weights)


@pytest.fixture(scope="module")
def in_px(tiny_bundle: Path) -> Classifier:
    return Classifier(bundle_of(tiny_bundle), capacity=3)


@pytest.fixture(scope="module", params=["flag", "swap"])
def in_bodies(tiny_bundle: Path, request: pytest.FixtureRequest) -> Classifier:
    return Classifier(bundle_of(tiny_bundle, SPEC), capacity=3, identity=request.param)


def scaled(recording: Recording, factor: float, px_per_mm: float | None = None) -> Recording:
    return replace(recording, keypoints=recording.keypoints * np.float32(factor), px_per_mm=px_per_mm)


def live(classifier: Classifier, recording: Recording, cut: int) -> Predictions:
    """Frame by frame, moved to another slot by a snapshot after `cut` frames."""
    frames = frames_of(recording)
    first, second = (classifier.open("s", px_per_mm=recording.px_per_mm) for _ in range(2))
    answers = stepped(first, frames[:cut])
    second.restore(first.snapshot())
    answers += stepped(second, frames[cut:]) + second.finish()
    assert second.size() == {} or second.size()["measured"] == 0
    first.close()
    second.close()
    return Predictions.collect(classifier.bundle.heads, answers)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 100), power=st.integers(-10, 10), cut=st.integers(0, 120))
def test_a_scale_free_session_does_not_know_the_scale(in_bodies: Classifier, seed: int, power: int, cut: int) -> None:
    recording = wandering(120, seed, missing=0.3)
    own = in_bodies.run(recording)
    assert same(own, in_bodies.run(scaled(recording, 2.0**power)))
    assert same(own, live(in_bodies, scaled(recording, 2.0**power), cut))
    assert not (own.quality & OUT).any()


def test_a_scale_free_session_hardly_knows_any_other_scale(in_bodies: Classifier) -> None:
    recording = wandering(400)
    own = in_bodies.run(recording)
    for factor in (1 / 3, 2 / 3, 1.5):
        there = in_bodies.run(scaled(recording, factor))
        assert (there.labels != own.labels).mean() < 0.01
        np.testing.assert_allclose(there.probs, own.probs, atol=2e-3)
    assert own.drift["body_size"]["low"] is None
    assert own.drift["body_size"]["ratio"] == pytest.approx(1, abs=0.1)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 100), power=st.integers(-8, 8), cut=st.integers(0, 120))
def test_a_scale_that_is_given_brings_px_to_trainings(in_px: Classifier, seed: int, power: int, cut: int) -> None:
    recording = wandering(120, seed, missing=0.3)
    own = in_px.run(recording)
    there = scaled(recording, 2.0**power, px_per_mm=2.5 * 2.0**power)
    assert same(own, in_px.run(there))
    assert same(own, live(in_px, there, cut))
    box = tuple(end * 2.0**power for end in in_px.bundle.arena)
    assert same(own, in_px.run(there, arena=box))  # type: ignore[arg-type]
    assert same(own, in_px.run(replace(recording, px_per_mm=2.5)))


@pytest.mark.parametrize("factor", [1 / 3, 0.5, 1.5])
def test_without_a_scale_nearly_every_frame_is_flagged(in_px: Classifier, factor: float) -> None:
    recording, there = wandering(400), scaled(wandering(400), factor)
    assert (in_px.run(recording).quality & OUT > 0).mean() < 0.01
    offline, session = in_px.run(there), in_px.open("s")
    assert (offline.quality & OUT > 0).mean() > 0.9
    answers = stepped(session, frames_of(there))
    assert same(offline, Predictions.collect(in_px.bundle.heads, answers))
    assert session.counters.out_of_range == (offline.quality & OUT > 0).sum()
    assert session.size() == session.drift()["body_size"]
    assert session.size()["ratio"] == pytest.approx(factor, rel=0.1)
    assert offline.drift["body_size"] == session.size() | {"measured": 0}, "a run ends with a reset"
    session.close()


def test_a_jump_that_restarts_is_judged_at_the_streams_scale(tiny_bundle: Path) -> None:
    """Animals that are mixed up restart the stream at every scale, given or measured."""
    recording = wandering(120, missing=0.0)
    points = recording.keypoints.copy()
    points[:, 1] += 300
    points[60:80] = points[60:80, ::-1]
    mixed = replace(recording, keypoints=points)
    for bundle, px_per_mm in ((bundle_of(tiny_bundle), 2.5 / 64), (bundle_of(tiny_bundle, SPEC), None)):
        classifier = Classifier(bundle, capacity=1, identity="reset")
        own = classifier.run(mixed)
        assert np.flatnonzero(own.quality & Quality.RESET).tolist() == [60, 80]
        assert same(own, classifier.run(scaled(mixed, 1 / 64, px_per_mm)))


def test_a_folder_keeps_what_is_known_of_the_scale(tiny_bundle: Path, tmp_path: Path) -> None:
    for spec in (None, SPEC):
        bundle = bundle_of(tiny_bundle, spec)
        save_bundle(bundle, tmp_path / "saved")
        again = load_bundle(tmp_path / "saved")
        assert (again.body_size, again.px_per_mm) == (bundle.body_size, bundle.px_per_mm)
        assert again.features == bundle.features
    assert bundle_of(tiny_bundle).scale_of(5.0) == 2.0
    assert bundle_of(tiny_bundle).scale_of(None) is None
    assert bundle_of(tiny_bundle, SPEC).scale_of(5.0) is None, "it is measured"
