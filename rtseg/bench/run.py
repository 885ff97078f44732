"""All parts of the benchmark in one run, with what tells results apart: machine, versions, commit, bundle."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rtseg.bundle.bundle import Bundle, load_bundle
from rtseg.errors import SettingError
from rtseg.system import machine

SCHEMA = 1
PARTS = ("features", "engine", "session", "wire", "load")
DEFAULT_PARTS = PARTS[:4]
PACKAGES = ("rtseg", "numpy", "numba", "llvmlite", "pyzmq", "msgpack", "onnx", "onnxruntime", "torch")


def bench(
    bundle: Path | str,
    *,
    only: Sequence[str] = DEFAULT_PARTS,
    seconds: float = 10.0,
    load_seconds: float = 60.0,
    load_streams: int = 100,
    json_file: Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Time the live path of a bundle, every part beside its floor, in turns, and return (and write) the result.

    only: of PARTS; `load` is made of load_streams streams for load_seconds, twice. seconds: for each other part.
    progress: called with the name of what is timed next. Raises SettingError for an unknown part, BundleError,
    RtsegError where one of the processes failed.
    """
    from rtseg.bench import steps, wire

    unknown = [part for part in only if part not in PARTS]
    if unknown or not only or not seconds > 0 or not load_seconds > 0 or load_streams < 1:
        wrong = f"unknown part {', '.join(unknown)}" if unknown else "nothing to do: no part, no seconds or no streams"
        raise SettingError(f"bench: {wrong}; there are the parts {', '.join(PARTS)}")
    folder = Path(bundle).absolute()
    loaded = load_bundle(folder)
    settings = {"only": list(only), "seconds": seconds, "load_seconds": load_seconds, "load_streams": load_streams}
    result = {"schema": SCHEMA, "kind": "rtseg bench", **_origin(loaded), "settings": settings}
    # As functions, so that a part that is not wanted starts nothing.
    todo: list[tuple[str, str, Callable[[], Any]]] = [
        ("features", "features", lambda: steps.features_part(loaded, seconds)),
        ("engine", "engine", lambda: steps.engine_part(loaded, seconds)),
        ("session", "session", lambda: steps.session_part(loaded, seconds)),
        ("wire", "wire ipc", lambda: wire.wire_part(folder, seconds, "ipc")),
        ("wire", "wire tcp", lambda: wire.wire_part(folder, seconds, "tcp")),
        ("load", "load apart", lambda: wire.load_part(folder, load_seconds, load_streams, at_once=False)),
        ("load", "load together", lambda: wire.load_part(folder, load_seconds, load_streams, at_once=True)),
    ]
    parts: dict[str, Any] = {}
    for part, name, run in todo:
        if part in only:
            if progress is not None:
                progress(name)
            parts[name] = run().to_dict()
    result["machine"]["load_average_after"] = machine.load_average()
    result["parts"] = parts
    if json_file is not None:
        json_file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result


def _origin(bundle: Bundle) -> dict[str, Any]:
    """Machine, versions, commit and bundle, for the result's head."""
    return {
        **machine.describe_run(PACKAGES),
        "bundle": {
            "name": bundle.name,
            "hash": bundle.hash,
            "simulated": bundle.simulated,
            "features": bundle.architecture.n_features,
            "outputs": bundle.architecture.n_outputs,
            "multiply_adds": bundle.architecture.multiply_adds,
            "fps": bundle.fps,
        },
        "clock_resolution_ns": round(time.get_clock_info("perf_counter").resolution * 1e9),
    }
