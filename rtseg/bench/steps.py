"""The parts of a frame's way that run inside one process: features, engine and session, each beside its floor."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count, cycle

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rtseg.bench.roofline import Work
from rtseg.bench.timing import BenchPart, Ratio, Role, TimingRow, interleaved
from rtseg.bench.walk import N_FRAMES, walk
from rtseg.bundle.bundle import Bundle
from rtseg.engine.base import Engine
from rtseg.engine.cpu.numba_engine import NumbaEngine
from rtseg.engine.cpu.tree_engine import TreeEngine
from rtseg.engine.select import make_engine
from rtseg.errors import RtsegError
from rtseg.features.extractor import FeatureExtractor
from rtseg.frames.frame import checked_frame
from rtseg.inference.session import SessionPool

F32 = NDArray[np.float32]
Cases = dict[str, Callable[[], object]]


@njit(cache=True)
def _dispatched(
    keypoints: F32,
    confidence: F32,
    slots: NDArray[np.int32],
    plan_rows: NDArray[np.int64],
    memory_rows: NDArray[np.int64],
    out: F32,
) -> None:
    """Does nothing: its call costs what the feature kernel's costs before anything is computed."""


def features_part(bundle: Bundle, seconds: float) -> BenchPart:
    """One causal feature step. Floor: an empty compiled call with the same arguments."""
    extractor = FeatureExtractor(bundle.skeleton, bundle.features, bundle.fps, bundle.body_size)
    keypoints, confidence = walk(bundle)
    rows = [(keypoints[t : t + 1], confidence[t : t + 1]) for t in range(N_FRAMES)]
    state, slots = extractor.init_state(1, bundle.arena), np.zeros(1, np.int32)
    out = np.empty((1, extractor.n_features), np.float32)
    # Each case has frames of its own to go through, however often the other one is called.
    turns = {"step": cycle(rows), "floor": cycle(rows)}
    plan_rows = extractor.plan_rows

    def floor() -> None:
        points, scores = next(turns["floor"])
        _dispatched(points, scores, slots, plan_rows, state.rows, out)

    cases: Cases = {
        "feature step": lambda: extractor.step(*next(turns["step"]), slots, state, out),
        "empty call": floor,
    }
    timed = interleaved(cases, seconds)
    a, k = bundle.skeleton.shape
    part = BenchPart(f"features: {extractor.n_features} of {a} animals x {k} keypoints, one frame")
    part.rows = [
        TimingRow.of("feature step", "measured", timed["feature step"]),
        TimingRow.of("empty call", "floor", timed["empty call"]),
    ]
    return part


def engine_part(bundle: Bundle, seconds: float) -> BenchPart:
    """One step for one stream on one thread: numba beside ONNX Runtime's two forms and torch, which step networks.

    Floor: reading the numba engine's weights once, as it keeps them (`roofline`); of trees, what a step reads of them.
    Aims (issue 2): numba at most 1/4 of the faster ONNX form and 1/40 of torch.
    """
    spec, numba = bundle.architecture, make_engine(bundle, "numba")
    assert isinstance(numba, NumbaEngine | TreeEngine)
    size = numba.weight_bytes / 1e3
    # Trees only compare.
    work = f"{spec.multiply_adds / 1e3:,.0f} k multiply-adds" if spec.multiply_adds else spec.size
    part = BenchPart(f"engine: {work}, {size:,.0f} kB of weights, one stream")
    keypoints, confidence = walk(bundle)
    features = FeatureExtractor(bundle.skeleton, bundle.features, bundle.fps, bundle.body_size).run(
        keypoints, confidence, bundle.arena
    )
    engines: dict[str, Engine] = {"numba": numba}
    for name, others in (("onnx", _onnx_engines), ("torch", _torch_engine)):
        try:
            engines |= others(bundle)
        except RtsegError as error:
            part.notes.append(f"without {name}: {error}")
    cases: Cases = {name: _stepping(engine, features) for name, engine in engines.items()}
    cases["weights read once"] = Work.of(numba).floors(1)["read"]
    timed = interleaved(cases, seconds)
    kinds: dict[str, Role] = {"numba": "measured", "weights read once": "floor"}
    part.rows = [TimingRow.of(name, kinds.get(name, "comparison"), values) for name, values in timed.items()]
    # The aim is held against the better of the two: beating the slower one would prove nothing.
    forms = [part.p50(name) for name in engines if name.startswith("onnx")]
    if forms:
        part.ratios.append(Ratio("p50 numba / faster ONNX form", part.p50("numba") / min(forms), 1 / 4))
    if "torch" in engines:
        part.ratios.append(Ratio("p50 numba / torch", part.p50("numba") / part.p50("torch"), 1 / 40))
    return part


def session_part(bundle: Bundle, seconds: float) -> BenchPart:
    """A frame validated and stepped by its Session. Floor: the feature and engine steps alone, on bare arrays."""
    keypoints, confidence = walk(bundle)
    shape = bundle.skeleton.shape
    session = SessionPool(bundle, make_engine(bundle)).open("bench")
    turn, numbers = cycle(range(N_FRAMES)), count()

    def live() -> None:
        t = next(turn)
        frame = checked_frame(keypoints[t], confidence[t], shape=shape, seq=next(numbers), stream="bench")
        session.step(frame)

    extractor, engine = (
        FeatureExtractor(bundle.skeleton, bundle.features, bundle.fps, bundle.body_size),
        make_engine(bundle),
    )
    state, slots = extractor.init_state(1, bundle.arena), np.zeros(1, np.int32)
    features = np.empty((1, extractor.n_features), np.float32)
    out = np.empty((1, bundle.architecture.n_outputs), np.float32)
    rows = cycle([(keypoints[t : t + 1], confidence[t : t + 1]) for t in range(N_FRAMES)])

    def bare() -> None:
        extractor.step(*next(rows), slots, state, features)
        engine.step(features, slots, out)

    timed = interleaved({"frame and session step": live, "features and engine alone": bare}, seconds)
    part = BenchPart("session: one frame validated and stepped")
    part.rows = [
        TimingRow.of("frame and session step", "measured", timed["frame and session step"]),
        TimingRow.of("features and engine alone", "floor", timed["features and engine alone"]),
    ]
    return part


def _onnx_engines(bundle: Bundle) -> dict[str, Engine]:
    from rtseg.engine.onnx.onnx_engine import OnnxEngine

    spec, weights = bundle.network, bundle.weights
    return {f"onnx, {form.replace('_', ' ')}": OnnxEngine(spec, weights, 1, form) for form in ("in_place", "shifted")}


def _torch_engine(bundle: Bundle) -> dict[str, Engine]:
    engine = make_engine(bundle, "torch")
    import torch

    torch.set_num_threads(1)  # as all others
    return {"torch": engine}


def _stepping(engine: Engine, features: F32) -> Callable[[], object]:
    rows = cycle([features[t : t + 1] for t in range(len(features))])
    slots, out = np.zeros(1, np.int32), np.empty((1, engine.spec.n_outputs), np.float32)
    return lambda: engine.step(next(rows), slots, out)
