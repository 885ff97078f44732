"""What the daemon says about doubts: who is unsure, and which features are not like training's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rtseg.bundle.bundle import load_bundle, save_bundle
from rtseg.client import Publisher, Subscriber, ask_status
from rtseg.config import RangeSettings
from rtseg.features.extractor import FeatureExtractor
from rtseg.features.ranges import fit_ranges
from rtseg.inference.classifier import Classifier, load
from rtseg.inference.predictions import Quality
from rtseg.playback.replay import replay
from rtseg.wire.messages import PredictionMessage, StreamEvent
from tests.live import Child, daemon, random_walk


@pytest.fixture(scope="module")
def doubtful(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose heads are sometimes unsure, and that knows the features of another walk."""
    bundle, walk = load_bundle(tiny_bundle), random_walk(400, 1)
    extractor = FeatureExtractor(bundle.skeleton, bundle.features, bundle.fps, bundle.body_size)
    features = extractor.run(walk.keypoints, walk.confidence, bundle.arena)
    ranges = fit_ranges([features], extractor.features, RangeSettings())
    answers = Classifier(bundle).run(walk)
    below = {h.name: float(np.median(answers.of(h.name).max(1))) for h in bundle.heads}
    folder = tmp_path_factory.mktemp("doubtful")
    save_bundle(replace(bundle, ranges=ranges, abstain_below=below, lookahead_frames=2), folder)
    return folder


@pytest.fixture(scope="module")
def child(doubtful: Path) -> Iterator[Child]:
    with daemon(doubtful) as child:
        yield child


def test_live_doubts_are_the_offline_ones(child: Child, doubtful: Path) -> None:
    walk = random_walk(200, 2)
    offline, heard = load(doubtful).run(walk), list[PredictionMessage]()
    live = replay(walk, child.frames, speed=None, on_prediction=heard.append)
    np.testing.assert_array_equal(live.predictions.unsure, offline.unsure)
    np.testing.assert_array_equal(live.predictions.quality, offline.quality)
    heads = [h.name for h in offline.heads]
    assert [p.unsure for p in heard] == [
        tuple(h for h, doubted in zip(heads, row, strict=True) if doubted) for row in offline.unsure
    ]
    assert offline.unsure.any()
    assert not offline.unsure.all()
    assert live.counters["out_of_range"] == int((offline.quality & Quality.OUT_OF_RANGE > 0).sum())


def test_status_and_closed_say_which_features_left_their_range(child: Child) -> None:
    walk = random_walk(60, 1)
    with Subscriber(child.predictions, "cage1", timeout_s=60) as subscriber:
        with Publisher(child.frames, "cage1", walk.skeleton, walk.fps) as publisher:
            for points, scores in zip(walk.keypoints * np.float32(4), walk.confidence, strict=True):
                publisher.send(points, scores)
            answers = [next(iter(subscriber)) for _ in range(58)]  # all but what the lookahead owes
            drift = ask_status(child.frames)["drift"]["cage1"]
        assert drift["frames"] == 60
        assert drift["out_of_range"] > 30
        assert 1 <= len(drift["features"]) <= 5
        assert all(part["frames"] > 0 and abs(part["farthest"]) > 0 for part in drift["features"])
        assert any(a.quality & Quality.OUT_OF_RANGE for a in answers)
        closed = subscriber.receive(60)
        while not isinstance(closed, StreamEvent) or closed.type != "closed":
            closed = subscriber.receive(60)
            assert closed is not None
        assert closed.fields["drift"]["out_of_range"] >= drift["out_of_range"]
        assert closed.fields["counters"]["out_of_range"] > 0
