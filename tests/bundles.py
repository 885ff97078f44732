"""Bundles that tests make of others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from rtseg.bundle.bundle import load_bundle, save_bundle


def changed_bundle(bundle: Path, folder: Path, **changes: Any) -> Path:
    """The bundle with other weights, and whatever else is to differ."""
    made = load_bundle(bundle)
    weights = {name: w + np.float32(0.5 * name.endswith("bias")) for name, w in made.weights.items()}
    save_bundle(replace(made, weights=weights, **changes), folder)
    return folder
