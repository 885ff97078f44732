"""A step of boosted trees beside a network: `python benchmarks/tree_steps.py NETWORK TREES [--seconds 5]`.

NETWORK, TREES: bundles of the same recipe, as `rtseg train RECIPE --out NETWORK` and the same with
`--set model.kind=gradient-boosting --out TREES` make them. One process, in turns: the engine's step of one stream and
of sixteen, and the whole session's step of a frame. Results go to results/tree-steps.json and .md.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from itertools import count, cycle
from pathlib import Path
from typing import Any

import numpy as np

from rtseg.bench.timing import TimingRow, interleaved
from rtseg.bench.walk import N_FRAMES, walk
from rtseg.bundle.bundle import Bundle, load_bundle
from rtseg.engine.select import make_engine
from rtseg.features.extractor import FeatureExtractor
from rtseg.frames.frame import checked_frame
from rtseg.inference.session import SessionPool
from rtseg.study.results import table
from rtseg.system.files import write_atomically, write_json_atomically
from rtseg.system.machine import describe_run, load_average

REPO = Path(__file__).resolve().parent.parent
BATCHES = (1, 16)
PACKAGES = ("rtseg", "numpy", "numba", "llvmlite")


def stepping(bundle: Bundle, batch: int) -> Callable[[], object]:
    """One call of the engine for the next frame of `batch` streams."""
    keypoints, confidence = walk(bundle)
    extractor = FeatureExtractor(bundle.skeleton, bundle.features, bundle.fps, bundle.body_size)
    features = extractor.run(keypoints, confidence, bundle.arena)
    rows = cycle([np.repeat(features[t : t + 1], batch, axis=0) for t in range(len(features))])
    engine, slots = make_engine(bundle, "numba", batch), np.arange(batch, dtype=np.int32)
    out = np.empty((batch, bundle.architecture.n_outputs), np.float32)
    return lambda: engine.step(next(rows), slots, out)


def session(bundle: Bundle) -> Callable[[], object]:
    """A frame validated and stepped by its session, features and decoding included."""
    keypoints, confidence = walk(bundle)
    open_one = SessionPool(bundle, make_engine(bundle, "numba")).open("bench")
    turn, numbers = cycle(range(N_FRAMES)), count()

    def live() -> None:
        t = next(turn)
        open_one.step(
            checked_frame(keypoints[t], confidence[t], shape=bundle.skeleton.shape, seq=next(numbers), stream="bench")
        )

    return live


def measure(bundles: dict[str, Bundle], seconds: float) -> dict[str, Any]:
    """Percentiles of every case, network and trees in turns."""
    cases = {f"{kind}, engine, {n} streams": stepping(b, n) for n in BATCHES for kind, b in bundles.items()}
    cases |= {f"{kind}, session, 1 stream": session(b) for kind, b in bundles.items()}
    timed = interleaved(cases, seconds)
    return {name: TimingRow.of(name, "measured", values).__dict__ for name, values in timed.items()}


def page(result: dict[str, Any]) -> str:
    """The result in Markdown."""
    rows = [
        [name, *(f"{row[p]:.1f}" for p in ("p50_us", "p99_us", "p999_us", "max_us")), f"{1e6 / row['p50_us']:,.0f}"]
        for name, row in result["steps"].items()
    ]
    sizes = [f"- {kind}: `{about['name']}`, {about['size']}" for kind, about in result["bundles"].items()]
    machine = f"{result['date']}, commit {result['commit']}, {result['machine']['cpu']}"
    head = [
        "# A step of boosted trees beside a network's",
        "",
        "```",
        result["command"],
        "```",
        "",
        machine,
        "",
        *sizes,
    ]
    columns = ["case", "p50, µs", "p99", "p99.9", "max", "calls a second"]
    return "\n".join([*head, "", table(columns, rows)]) + "\n"


def main() -> None:
    """Parse the options, measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", type=Path)
    parser.add_argument("trees", type=Path)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each case")
    parser.add_argument("--json", type=Path, default=REPO / "benchmarks" / "results" / "tree-steps.json")
    options = parser.parse_args()
    bundles = {"network": load_bundle(options.network), "trees": load_bundle(options.trees)}
    before, steps = load_average(), measure(bundles, options.seconds)
    result = {
        **describe_run(PACKAGES),
        "command": f"python benchmarks/tree_steps.py {options.network.name} {options.trees.name}",
        "bundles": {kind: {"name": b.name, "size": b.architecture.size} for kind, b in bundles.items()},
        "load_average": {"before": before, "after": load_average()},
        "steps": steps,
    }
    write_json_atomically(options.json, result)
    write_atomically(options.json.with_suffix(".md"), page(result))
    print(page(result))


if __name__ == "__main__":
    main()
