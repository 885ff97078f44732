"""A bundle's `step.onnx`: the float32 step in place as one file, for any number of streams, with calibration inside.

Engines read it, so that serving does not need the package onnx; for a bundle without it the step is made from the
weights. The same weights give the same bytes. Weights are inside the file, in float16 where that is exact (half the
size): any ONNX tool can open it, and one hash covers it all.
"""

from __future__ import annotations

import logging
from pathlib import Path

from rtseg.bundle.bundle import STEP, Bundle, add_derived_file, derived_file, load_bundle
from rtseg.engine.onnx.onnx_graph import step_model
from rtseg.engine.onnx.step_interface import OPEN
from rtseg.errors import RtsegError

log = logging.getLogger(__name__)


def step_bytes(bundle: Bundle) -> bytes:
    """The bytes of a bundle's step: from its file, whose hash is checked, or else made from the weights.

    Raises BundleError for a file that was changed, RtsegError where there is none and onnx is missing.
    """
    stored = derived_file(bundle, STEP)
    return _make_step(bundle) if stored is None else stored


def write_step(folder: Path) -> Path:
    """Write `step.onnx` into a bundle's folder and its hash into the manifest; its path. The bundle's own hash stays.

    Raises BundleError for a folder without a bundle, RtsegError where onnx is missing.
    """
    add_derived_file(folder, STEP, _make_step(load_bundle(folder)))
    return folder / STEP


def add_step(folder: Path) -> None:
    """`write_step` if the package onnx is installed; else a line in the log, and the bundle serves without the file."""
    try:
        write_step(folder)
    # Training must not fail over a file that serving can do without.
    except RtsegError as error:
        log.info("%s is left out of %s: %s", STEP, folder, error)


def _make_step(bundle: Bundle) -> bytes:
    model = step_model(bundle.network, bundle.weights, "in_place", OPEN, store_float16=True)
    # Deterministic: the manifest holds the hash of these bytes.
    packed: bytes = model.SerializeToString(deterministic=True)
    return packed
