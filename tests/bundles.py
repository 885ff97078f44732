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


def delayed_bundle(bundle: Path, folder: Path, lookahead_frames: int) -> Path:
    """The bundle with answers that come so many frames late; the very same one where they come at once."""
    if not lookahead_frames:
        return bundle
    save_bundle(replace(load_bundle(bundle), lookahead_frames=lookahead_frames), folder)
    return folder


def reordered_bundle(bundle: Path, folder: Path) -> Path:
    """The bundle with every head's classes named in the other order."""
    spec = load_bundle(bundle).architecture
    heads = tuple(replace(head, classes=head.classes[::-1]) for head in spec.heads)
    return changed_bundle(bundle, folder, architecture=replace(spec, heads=heads))
