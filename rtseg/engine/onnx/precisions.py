"""The precisions besides float32 in which a bundle was measured and accepted: its `precisions.json`.

`rtseg calibrate --int8 --fp16` measures and writes it; engines read it and refuse a precision that was not accepted.
It holds the scales of int8: a product's name -> what one int8 step of its input is worth.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rtseg.bundle.bundle import PRECISIONS, Bundle, add_derived_file, derived_file, load_bundle
from rtseg.engine.onnx.onnx_nodes import Precision
from rtseg.errors import BundleError, EngineError

SCHEMA = 1


def accepted_scales(bundle: Bundle, precision: Precision) -> dict[str, float]:
    """The scales of int8 for `onnx_graph.step_model`; none for other precisions.

    Raises EngineError for a precision in which the bundle was not accepted, BundleError for a damaged file.
    """
    if precision == "fp32":
        return {}
    entry = read_accepted(bundle).get(precision)
    if entry is None:
        raise EngineError(
            f"bundle {bundle.name!r} has not been accepted in {precision}: "
            f"'rtseg calibrate BUNDLE DATASET.toml --{precision}' measures what it costs"
        )
    return {str(name): float(scale) for name, scale in entry.get("scales", {}).items()}


def read_accepted(bundle: Bundle) -> dict[str, Any]:
    """The entries of `precisions.json` by precision; {} for a bundle without it.

    Raises BundleError where it is damaged.
    """
    data = derived_file(bundle, PRECISIONS)
    if data is None:
        return {}
    try:
        plain = json.loads(data)
        if plain["schema"] != SCHEMA:
            raise BundleError(f"{PRECISIONS}: schema {plain['schema']!r}, this rtseg reads {SCHEMA}: calibrate it anew")
        accepted: dict[str, Any] = plain["accepted"]
        for entry in accepted.values():
            scales = [float(scale) for scale in entry.get("scales", {}).values()]
            # A scale of 0 or NaN would give an engine that answers nonsense without an error.
            if not all(0 < scale < math.inf for scale in scales):
                raise BundleError(f"{PRECISIONS}: a scale must be finite and above 0, got {min(scales)}")
        return accepted
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BundleError(f"{PRECISIONS} of bundle {bundle.name!r} is damaged: {error!r}; calibrate it anew") from None


def store_precision(folder: Path, precision: Precision, entry: Mapping[str, Any] | None) -> None:
    """Write an accepted precision's entry, or remove it (None); others stay as they are. The bundle's hash stays.

    Raises BundleError for a folder without a bundle that may be written to.
    """
    accepted = read_accepted(load_bundle(folder))
    # Also where it is now refused: an earlier acceptance must not outlive its measurement.
    accepted.pop(precision, None)
    if entry is not None:
        accepted[precision] = dict(entry)
    text = json.dumps({"schema": SCHEMA, "accepted": accepted}, indent=1, sort_keys=True) + "\n"
    add_derived_file(folder, PRECISIONS, text.encode())
