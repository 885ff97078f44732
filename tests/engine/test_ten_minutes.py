"""Ten minutes of frames through the shipped bundles: every engine within the tolerance of torch in double, and the very
same decoded labels and bouts. Real recordings where there are some, else simulated ones.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from rtseg.bundle.bundle import Bundle, load_bundle
from rtseg.engine.select import ENGINES, make_engine, why_unavailable
from rtseg.features.extractor import FeatureExtractor
from rtseg.inference.decoding import Decoder
from rtseg.recordings.open import read_recording
from rtseg.simulate.tasks import simulate_sequence
from tests.conftest import REPO
from tests.engine.networks import F32, torch_in_double

DATA = Path(os.environ.get("RTSEG_DATA", REPO.parent / "shared" / "data")) / "rats58" / "poses"
N_FRAMES = 18_000
"""Ten minutes at 30 frames per second."""
N_FRAMES_TORCH = 2500
"""Of the torch engine, which takes milliseconds a frame."""


@cache
def simulated() -> tuple[Bundle, F32, NDArray[np.float64]]:
    """mice-sim on mice that were simulated for this test: bundle, features, probabilities in double."""
    bundle = load_bundle(REPO / "engines" / "mice-sim")
    recording, _ = simulate_sequence(4711, N_FRAMES, name="ten minutes", aggressive=True)
    return bundle, *_reference(bundle, recording.keypoints, recording.confidence)


@cache
def real(poses: Path) -> tuple[Bundle, F32, NDArray[np.float64]]:
    """rats58 on two recordings, one after the other."""
    bundle = load_bundle(REPO / "engines" / "rats58")
    paths = [next(poses.glob(f"{video}DLC_*.csv")) for video in ("26", "56")]
    recordings = [read_recording(path, fps=bundle.fps).select(bundle.skeleton) for path in paths]
    keypoints = np.concatenate([r.keypoints for r in recordings])[:N_FRAMES]
    confidence = np.concatenate([r.confidence for r in recordings])[:N_FRAMES]
    return bundle, *_reference(bundle, keypoints, confidence)


def _reference(bundle: Bundle, keypoints: F32, confidence: F32) -> tuple[F32, NDArray[np.float64]]:
    features = FeatureExtractor(bundle.skeleton, bundle.features, bundle.fps, bundle.body_size).run(
        keypoints, confidence, bundle.arena
    )
    assert len(features) == N_FRAMES
    return features, torch_in_double(bundle, features)


def decoded(bundle: Bundle, probabilities: F32) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
    """Labels and bout changes (T, H) by the bundle's own rule."""
    decoder = Decoder(bundle.network.offsets, bundle.decoding)
    labels = np.empty((len(probabilities), decoder.n_heads), np.int16)
    events = np.empty(labels.shape, np.bool_)
    slots = np.zeros(len(probabilities), np.int32)
    decoder.step(probabilities, slots, decoder.init_state(1), labels, events)
    return labels, events


@pytest.mark.slow
@pytest.mark.parametrize("name", ENGINES)
def test_ten_minutes_are_within_the_tolerance_and_decode_alike(name: str) -> None:
    reason = why_unavailable(name)
    if reason is not None:
        pytest.skip(f"{name}: {reason}")
    bundle, features, expected = real(DATA) if DATA.is_dir() else simulated()
    n_frames = N_FRAMES_TORCH if name == "torch" else N_FRAMES
    answers = make_engine(bundle, name).run(features[:n_frames])
    np.testing.assert_allclose(answers, expected[:n_frames], rtol=0, atol=bundle.tolerance)
    labels, events = decoded(bundle, answers)
    expected_labels, expected_events = decoded(bundle, expected[:n_frames].astype(np.float32))
    assert expected_events.sum() > expected_events.shape[1] + 5, "a recording without bouts would prove nothing"
    assert np.array_equal(labels, expected_labels)
    assert np.array_equal(events, expected_events)
