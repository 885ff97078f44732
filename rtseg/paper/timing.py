"""Time per frame of all systems, measured in turns in one process, so that other load slows all of them alike.

A network's time does not depend on its weights: untrained ones of the same sizes are timed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from rtseg.bench.timing import interleaved
from rtseg.config import PaperSettings
from rtseg.features.extractor import FeatureExtractor
from rtseg.features.scale import fit_body_size
from rtseg.features.spec import FeatureSpec
from rtseg.paper.data import PaperData, beginning
from rtseg.paper.plan import Training
from rtseg.training.task import Example

if TYPE_CHECKING:
    from rtseg.model.base import SequenceModel

# However long a round takes: a median needs some.
MIN_ROUNDS = 3
Case = Callable[[], object]


def time_systems(
    trainings: Sequence[Training], data: PaperData, settings: PaperSettings, say: Callable[[str], None]
) -> dict[str, dict[str, float]]:
    """Training key -> {"offline_us", and "step_us" where an engine can step it}, per frame, medians, one thread.

    The recording is the longest of the test, cut to `timing_frames`. Trees, which are no network, are timed by the
    process that made them (`run_one`).
    """
    import torch

    trainings = [t for t in trainings if not t.recipe.model.is_trees]
    example = beginning(data.test, settings.timing_frames)
    # One thread: what runs beside it, and how many cores there are, matters least.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        say(f"timing {len(trainings)} systems on {len(example)} frames")
        offline = {t.key: _offline_case(t, data, example) for t in trainings}
        measured = {key: {"offline_us": us} for key, us in _rounds(offline, len(example), settings.timing_s).items()}
    finally:
        torch.set_num_threads(threads)
    steps = {t.key: case for t in trainings if (case := _step_case(t, data, example)) is not None}
    if steps:
        say(f"timing the live steps of {len(steps)} systems")
        for key, values_ns in interleaved(steps, settings.timing_s).items():
            measured[key]["step_us"] = float(np.median(values_ns)) / 1e3
    return measured


def _rounds(cases: Mapping[str, Case], n_frames: int, seconds: float) -> dict[str, float]:
    """Median µs per frame of every case: each once to warm up, then in turns until the time is over."""
    # The first call allocates and compiles.
    for case in cases.values():
        case()
    times_us: dict[str, list[float]] = {key: [] for key in cases}
    end = time.perf_counter() + seconds
    rounds = 0
    while rounds < MIN_ROUNDS or time.perf_counter() < end:
        for key, case in cases.items():
            started = time.perf_counter()
            case()
            times_us[key].append((time.perf_counter() - started) / n_frames * 1e6)
        rounds += 1
    return {key: float(np.median(values)) for key, values in times_us.items()}


def _offline_case(training: Training, data: PaperData, example: Example) -> Case:
    """Keypoints of the whole recording to probabilities."""
    from rtseg.training.selection import predict_probabilities

    recipe = training.recipe
    extractor, model = _untrained(training, data, example)

    def case() -> object:
        features = extractor.run(example.keypoints, example.confidence, recipe.arena)
        return predict_probabilities(model, features, recipe.model.lookahead_frames)

    return case


def _step_case(training: Training, data: PaperData, example: Example) -> Case | None:
    """The next frame of a live stream, or None where no engine steps this kind of system."""
    from rtseg.engine.cpu.numba_engine import NumbaEngine
    from rtseg.model.tcn import MultitaskTCN

    recipe = training.recipe
    if recipe.model.kind != "multitask-tcn" or not recipe.model.causal:
        return None
    extractor, model = _untrained(training, data, example)
    assert isinstance(model, MultitaskTCN)
    engine = NumbaEngine(model.spec, model.tensors(), 1)
    state, slots = extractor.init_state(1, recipe.arena), np.zeros(1, np.int32)
    features = np.empty((1, extractor.n_features), np.float32)
    out = np.empty((1, model.n_outputs), np.float32)
    frame = 0

    def case() -> object:
        nonlocal frame
        frame = (frame + 1) % len(example)
        now = slice(frame, frame + 1)
        extractor.step(example.keypoints[now], example.confidence[now], slots, state, features)
        engine.step(features, slots, out)
        return out

    return case


def _untrained(training: Training, data: PaperData, example: Example) -> tuple[FeatureExtractor, SequenceModel]:
    """The features and a network of the training's sizes."""
    from rtseg.model.select import make_model

    recipe = training.recipe
    spec = FeatureSpec.from_settings(recipe.features)
    # Any size takes the same time.
    size = fit_body_size([example.keypoints], data.skeleton, data.fps, recipe.body) if spec.scale == "body" else None
    extractor = FeatureExtractor(data.skeleton, spec, data.fps, size)
    views = spec.views(data.skeleton) if recipe.model.forget_order else ()
    return extractor, make_model(recipe, extractor.n_features, data.heads_of(training.tasks), views)
