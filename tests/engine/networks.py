"""Random networks, features for them, and what torch in double precision says: material of the engine tests."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from rtseg.bundle.bundle import Bundle
from rtseg.bundle.network import Cell, NetworkSpec
from rtseg.features.spec import FeatureSpec
from rtseg.frames.skeleton import MICE7
from rtseg.recordings.heads import Head

F32 = NDArray[np.float32]


def head(name: str, n_classes: int) -> Head:
    classes = tuple(f"{name}.{c}" for c in range(n_classes))
    return Head(name, classes, classes, name)


def views_of(n_features: int) -> tuple[tuple[int, ...], ...]:
    """The features as they are, then with neighbours traded and the last one's sign turned."""
    traded = [i + 1 if i % 2 else i - 1 for i in range(1, n_features)] + [-n_features]
    traded[-2] = n_features - 1 if n_features % 2 == 0 else traded[-2]
    return tuple(range(1, n_features + 1)), tuple(traded)


TWO_HEADS = (head("task1", 4), head("face", 2))
THIRTEEN_HEADS = tuple(head(f"h{i}", 2 + i % 5) for i in range(13))
SPECS = {
    "small": NetworkSpec(24, 16, 3, (1, 2, 4, 8, 16), 8, (1, 2, 4), TWO_HEADS),
    "one head, odd sizes": NetworkSpec(13, 11, 3, (1, 2, 4), 5, (1, 3), (head("only", 3),)),
    "thirteen heads": NetworkSpec(30, 20, 2, (1, 2, 4, 8), 6, (1, 2), THIRTEEN_HEADS),
    "wide heads": NetworkSpec(9, 6, 4, (1, 5), 18, (2,), (head("a", 2), head("b", 9))),
    "no head layers": NetworkSpec(8, 8, 3, (1, 2), 4, (), TWO_HEADS),
    "cells beside convolutions": NetworkSpec(
        10, 6, 3, (1, 2), 5, (1, 2), TWO_HEADS, (Cell(5, 7, 2), Cell(4, 6, 3)), views_of(10)
    ),
    "a cell alone": NetworkSpec(12, 0, 2, (), 4, (2,), (head("a", 3),), (Cell(8, 10, 1),)),
    "nothing refined": NetworkSpec(8, 0, 3, (), 0, (), TWO_HEADS, (Cell(6, 8, 2), Cell(4, 5, 1)), views_of(8)),
    "convolutions, nothing refined": NetworkSpec(8, 8, 3, (1, 2), 0, (), TWO_HEADS),
    "two cells, no head layers": NetworkSpec(
        9, 0, 3, (), 8, (), TWO_HEADS, (Cell(6, 8, 2), Cell(6, 8, 2)), views_of(9)
    ),
    "deep": NetworkSpec(40, 24, 3, tuple(2**i for i in range(8)), 16, tuple(2**i for i in range(5)), TWO_HEADS),
}


def bundle_of(spec: NetworkSpec, seed: int = 0) -> Bundle:
    """A bundle in memory whose weights make lively probabilities and whose calibration is not the identity."""
    rng = np.random.default_rng(seed)
    weights = {}
    for name, shape in spec.shapes().items():
        inputs = np.prod(shape[1:-1]) if ".conv." in name and len(shape) > 2 else shape[-2] if len(shape) > 1 else 1
        gain = 0.1 if name.endswith("bias") else 0.5 if ".mix." in name else 1.0
        weights[name] = (gain * rng.normal(size=shape) / np.sqrt(inputs)).astype(np.float32)
        if name.endswith("scale"):
            weights[name] = rng.uniform(0.5, 1.5, shape).astype(np.float32)
    weights["scaler.scale"] /= np.float32(30.0)
    weights["scaler.clip"][:] = 3.0
    return Bundle("random", MICE7, 30.0, (0.0, 0.0, 1.0, 1.0), FeatureSpec(), spec, weights)


def features_of(spec: NetworkSpec, n_frames: int, seed: int = 1) -> F32:
    """Raw features (T, F): slow and fast ones, some beyond the clip, a tenth unknown, a stretch with nothing known."""
    rng = np.random.default_rng(seed)
    features = rng.normal(0, 30, (n_frames, spec.n_features)) + 30 * np.sin(np.arange(n_frames)[:, None] / 40)
    features[rng.random(features.shape) < 0.1] = np.nan
    features[n_frames // 3 : n_frames // 3 + 5] = np.nan
    return features.astype(np.float32)


def torch_in_double(bundle: Bundle, features: F32) -> NDArray[np.float64]:
    """Probabilities (T, P) of the offline network for a whole sequence."""
    torch = pytest.importorskip("torch", reason="torch in double is the reference: pip install 'rtseg[train]'")
    from rtseg.model.tcn import MultitaskTCN

    model = MultitaskTCN(bundle.network).eval()
    model.load_weights(bundle.weights)
    with torch.no_grad():
        probabilities = model.double().probabilities(torch.from_numpy(features.astype(np.float64))[None])
    return np.asarray(probabilities[0].numpy())
