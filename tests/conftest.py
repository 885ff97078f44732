"""Fixtures that several test files share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPO = Path(__file__).parent.parent

# For this process and all its children. Networks here are tiny: a second thread costs them more than it brings, most of
# all where other processes want the cores. And a child that may keep no bytecode compiles every module of rtseg anew.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# Read once, when liblsl is loaded.
os.environ.setdefault("LSLAPICFG", str(REPO / "tests" / "lsl_api.cfg"))


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real recordings, beside the checkout or where RTSEG_DATA says."""
    root = Path(os.environ.get("RTSEG_DATA", REPO.parent / "shared" / "data"))
    if not root.is_dir():
        pytest.skip(f"no real recordings at {root} (set RTSEG_DATA to the folder that holds rats58, mice7, formats)")
    return root


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a small network with random weights: MICE7, two heads, a receptive field of some seconds."""
    import numpy as np

    from rtseg.bundle.bundle import Bundle, save_bundle
    from rtseg.bundle.network import NetworkSpec
    from rtseg.features.spec import FeatureSpec
    from rtseg.frames.skeleton import MICE7
    from rtseg.recordings.heads import Head

    spec = FeatureSpec()
    heads = (
        Head("task1", ("attack", "investigation", "mount", "other"), ("attack", "investigation", "mount"), "task1"),
        Head("sniff_face", ("other", "sniff_face"), ("sniff_face",), "task3"),
    )
    network = NetworkSpec(len(spec.features(MICE7)), 16, 3, (1, 2, 4, 8, 16), 8, (1, 2, 4), heads)
    rng = np.random.default_rng(7)
    weights = {}
    for name, shape in network.shapes().items():
        inputs = shape[-2] if len(shape) > 1 else 1
        weights[name] = (rng.normal(size=shape) / np.sqrt(inputs)).astype(np.float32)
        if name.endswith("bias"):
            weights[name] *= np.float32(0.1)
    weights["scaler.fill"][:] = 0.0
    weights["scaler.shift"][:] = 0.0
    weights["scaler.scale"][:] = 0.01
    weights["scaler.clip"][:] = 6.0
    for head in heads:
        weights[f"head.{head.name}.calibration.scale"][:] = 1.0
        weights[f"head.{head.name}.calibration.shift"][:] = 0.0
    folder = tmp_path_factory.mktemp("bundles") / "tiny"
    bundle = Bundle("tiny", MICE7, 30.0, (0.0, 0.0, 1024.0, 570.0), spec, network, weights, warmup_frames=64)
    save_bundle(bundle, folder)
    return folder
