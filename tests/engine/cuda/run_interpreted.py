"""The cuda engine's kernel in Triton's interpreter, as a child process of test_cuda_engine.py; prints one JSON line.

A process of its own, since Triton asks for TRITON_INTERPRET when it is first imported. A launch takes about a second.
"""

from __future__ import annotations

import json
import sys

import numpy as np

from rtseg.bundle.network import Cell, NetworkSpec
from rtseg.engine.cuda import cuda_engine
from rtseg.engine.cuda.cuda_engine import CudaEngine, Tiles
from tests.engine.networks import TWO_HEADS, bundle_of, features_of, torch_in_double, views_of

EVERYTHING = NetworkSpec(
    7, 5, 2, (1, 2), 3, (1,), TWO_HEADS, (Cell(3, 4, 2), Cell(3, 4, 3), Cell(2, 3, 1)), views_of(7)
)
"""Convolutions, equal cells and another one, two views, refined heads of 4 and 2 classes."""
ONE = Tiles(1, 32, 16, 16, 4)
BLOCK = Tiles(16, 32, 16, 16, 4)


def one_stream(n_frames: int) -> float:
    """The largest error of a lone stream, the kernel's form for small batches."""
    bundle, features = bundle_of(EVERYTHING), features_of(EVERYTHING, n_frames)
    cuda_engine.TILES = ((1 << 31, ONE),)
    answers = CudaEngine(EVERYTHING, bundle.weights, 1).run(features)
    return float(np.abs(answers - torch_in_double(bundle, features)).max())


def streams(n_batches: int) -> tuple[float, int]:
    """The largest error over streams that begin, restart, move to another slot and come twice in a batch."""
    bundle = bundle_of(EVERYTHING)
    cuda_engine.TILES = ((1 << 31, BLOCK),)
    engine = CudaEngine(EVERYTHING, bundle.weights, 11)
    inputs = [features_of(EVERYTHING, 2 * n_batches, seed=s) for s in range(6)]
    # Per stream its slot, the first frame since it began, and its answers since.
    slot, first, answers = list(range(6)), [0] * 6, [[] for _ in range(6)]  # type: ignore[var-annotated]
    worst, compared = 0.0, 0

    def check(s: int) -> None:
        nonlocal worst, compared
        fed = inputs[s][first[s] : first[s] + len(answers[s])]
        if len(fed):
            worst = max(worst, float(np.abs(np.array(answers[s]) - torch_in_double(bundle, fed)).max()))
            compared += len(fed)

    rng = np.random.default_rng(5)
    for batch in range(n_batches):
        if batch == 4:
            check(1)
            engine.reset(np.array([slot[1]], np.int32))
            first[1], answers[1] = first[1] + len(answers[1]), []
        if batch == 5:  # a snapshot goes on in a slot that held another stream's past
            snapshot = engine.snapshot(slot[0])
            slot[0] = 10
            engine.restore(10, snapshot)
        who = rng.permutation([s for s in range(6) if batch >= (s == 5) * 3]).tolist()
        who += [2] if batch == n_batches - 1 else []
        rows = []
        ahead = [0] * 6
        for s in who:
            rows.append(inputs[s][first[s] + len(answers[s]) + ahead[s]])
            ahead[s] += 1
        out = np.full((len(who), EVERYTHING.n_outputs), np.nan, np.float32)
        engine.step(np.stack(rows), np.array([slot[s] for s in who], np.int32), out)
        for s, row in zip(who, out, strict=True):
            answers[s].append(row)
    for s in range(6):
        check(s)
    return worst, compared


if __name__ == "__main__":
    n_frames = int(sys.argv[1])
    worst, compared = streams(n_frames)
    print(json.dumps({"one": one_stream(n_frames), "block": worst, "compared": compared}))
