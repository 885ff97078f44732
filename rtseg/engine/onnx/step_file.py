"""A bundle's `step.onnx`: the float32 step in place as one file, for any number of streams, with calibration inside.

Engines read it from the bundle, so that serving needs no onnx package; a bundle without it has its step made from the
weights. The same weights give the same bytes. Weights are in the file itself, float16 where that is exact (half the
size): one file that any ONNX tool opens, under one hash.
"""

from __future__ import annotations

import logging
from pathlib import Path

from rtseg.bundle.bundle import STEP, Bundle, add_derived_file, derived_file, load_bundle
from rtseg.engine.onnx.onnx_graph import OPEN, step_model
from rtseg.errors import RtsegError

log = logging.getLogger(__name__)


def step_bytes(bundle: Bundle) -> bytes:
    """The step of a bundle: its file's, checked, or made from the weights.

    Raises BundleError for a file that was changed, RtsegError where there is none and onnx is missing.
    """
    stored = derived_file(bundle, STEP)
    return _made(bundle) if stored is None else stored


def write_step(folder: Path) -> Path:
    """Write `step.onnx` into a bundle's folder and its hash into the manifest; its path. The bundle's hash stays.

    Raises BundleError for a folder without a bundle, RtsegError where onnx is missing.
    """
    add_derived_file(folder, STEP, _made(load_bundle(folder)))
    return folder / STEP


def add_step(folder: Path) -> None:
    """`write_step` where the package onnx is there; else a line in the log, and the bundle serves without it."""
    try:
        write_step(folder)
    except RtsegError as error:
        log.info("%s is left out of %s: %s", STEP, folder, error)


def _made(bundle: Bundle) -> bytes:
    model = step_model(bundle.network, bundle.weights, "in_place", OPEN, halves=True)
    packed: bytes = model.SerializeToString(deterministic=True)
    return packed
