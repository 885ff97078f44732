"""Real poses at other scales: flagged where nobody gives the scale, the same labels where both sides do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rtseg.bundle.bundle import load_bundle
from rtseg.inference.classifier import Classifier
from rtseg.inference.predictions import Quality
from rtseg.recordings.open import read_recording
from tests.conftest import REPO

PX_PER_MM = 2.0


@pytest.mark.parametrize("scale", [1 / 3, 0.5, 2 / 3, 1.5, 2.0])
def test_rats_at_another_scale(data_root: Path, scale: float) -> None:
    poses = next((data_root / "rats58" / "poses").glob("01DLC*.csv"))
    recording = replace(read_recording(poses, fps=30), px_per_mm=PX_PER_MM)
    bundle = load_bundle(REPO / "engines" / "rats58")
    shrunk = replace(recording, keypoints=recording.keypoints * np.float32(scale), px_per_mm=PX_PER_MM * scale)

    def flagged(classifier: Classifier) -> float:
        return float(np.mean(classifier.run(shrunk).quality & Quality.OUT_OF_RANGE > 0))

    known = Classifier(replace(bundle, px_per_mm=PX_PER_MM), "numba", 1)
    assert np.mean((known.run(shrunk).labels != known.run(recording).labels).any(axis=1)) < 0.01
    assert flagged(known) < 0.01
    # Of 200 s and of a whole video: nothing is judged until 100 frames have shown an animal.
    out_of_range = Classifier(bundle, "numba", 1).run(shrunk).quality & Quality.OUT_OF_RANGE > 0
    assert out_of_range[:6000].mean() > 0.9
    assert out_of_range.mean() > 0.9
