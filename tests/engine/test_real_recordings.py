"""The shipped bundle on a whole real recording: what is served equals the torch network, on every frame.

`test_ten_minutes` does the same with two more recordings, one after the other.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rtseg.bundle.bundle import MANIFEST, Bundle, load_bundle
from rtseg.engine.select import make_engine
from rtseg.features.extractor import FeatureExtractor
from rtseg.recordings.open import read_recording
from tests.conftest import REPO
from tests.engine.networks import torch_in_double

RATS = REPO / "engines" / "rats58"


@pytest.fixture(scope="module")
def rats58() -> Bundle:
    if not (RATS / MANIFEST).is_file():
        pytest.skip(f"no bundle at {RATS}: rtseg train engines/rats58.recipe.toml --out engines/rats58")
    return load_bundle(RATS)


def test_numba_equals_the_offline_network_on_a_whole_recording(rats58: Bundle, data_root: Path) -> None:
    (path,) = (data_root / "rats58" / "poses").glob("01DLC_*.csv")
    recording = read_recording(path, fps=rats58.fps).select(rats58.skeleton)
    extractor = FeatureExtractor(rats58.skeleton, rats58.features, rats58.fps)
    features = extractor.run(recording.keypoints, recording.confidence, rats58.arena)
    assert len(features) > 3000
    expected = torch_in_double(rats58, features)
    np.testing.assert_allclose(make_engine(rats58).run(features), expected, rtol=0, atol=rats58.tolerance)
