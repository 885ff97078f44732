"""What every engine must do (rtseg.engine.base); a new one is held to it by its name in `select.ENGINES`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rtseg.bundle.bundle import load_bundle
from rtseg.bundle.network import NetworkSpec
from rtseg.engine.base import Engine
from rtseg.engine.cpu.tree_engine import TreeEngine
from rtseg.engine.select import ENGINES, make_engine, why_unavailable
from rtseg.errors import EngineError
from rtseg.features.extractor import FeatureExtractor
from tests.engine.networks import F32, SPECS, bundle_of, features_of, torch_in_double
from tests.trees import with_trees

BEYOND = 900
"""Frames past the receptive field: every ring has wrapped around; `test_ten_minutes` is the long way."""
SPEC = SPECS["small"]
LONG = features_of(SPEC, 400)

Make = Callable[..., Engine]


TREES = "numba, trees"


@pytest.fixture(scope="module", params=(*ENGINES, TREES))
def make(request: pytest.FixtureRequest) -> Make:
    """make(spec=..., capacity=...): a fresh engine of this kind, with the same weights every time."""
    name = request.param
    if name == TREES:
        return lambda spec=SPEC, capacity=1: make_engine(with_trees(bundle_of(spec), spread=30.0), "numba", capacity)
    reason = why_unavailable(name)
    if name == "tensorrt" and reason is None:
        reason = "serves built plans only: test_device_engine holds its slots to this, the GPU run its answers"
    if reason is not None:
        pytest.skip(f"{name}: {reason}")

    def build(spec: NetworkSpec = SPEC, capacity: int = 1) -> Engine:
        return make_engine(bundle_of(spec), name, capacity)

    return build


@pytest.fixture
def make_network(make: Make) -> Make:
    """`make` of engines that step networks."""
    if isinstance(make(), TreeEngine):
        pytest.skip("trees: tests/engine/cpu/test_tree_engine.py")
    return make


@pytest.fixture(scope="module")
def whole(make: Make) -> F32:
    """LONG from a fresh state, in one call: the bits that every other way must give as well."""
    return make().run(LONG)


def step(engine: Engine, features: F32, slots: list[int]) -> F32:
    out = np.full((len(slots), engine.spec.n_outputs), np.nan, np.float32)
    engine.step(features, np.array(slots, np.int32), out)
    return out


def same(engine: Engine, one: F32, two: F32) -> bool:
    """Bit for bit where the engine says that it is exact, else within the tolerance."""
    return one.tobytes() == two.tobytes() if engine.exact else bool(np.allclose(one, two, rtol=0, atol=1e-5))


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
def test_within_the_tolerance_of_torch_in_double(make_network: Make, spec: NetworkSpec) -> None:
    bundle, features = bundle_of(spec), features_of(spec, spec.receptive_field + BEYOND)
    expected = torch_in_double(bundle, features)
    assert expected.std() > 0.05, "probabilities that hardly move would prove nothing"
    np.testing.assert_allclose(make_network(spec).run(features), expected, rtol=0, atol=bundle.tolerance)


def test_within_the_tolerance_for_a_bundle_from_disk(make_network: Make, tiny_bundle: Path) -> None:
    bundle = load_bundle(tiny_bundle)
    features = features_of(bundle.network, bundle.network.receptive_field + BEYOND)
    engine = make_engine(bundle, make_network().name)
    # Random weights amplify rounding more than trained ones do: on some processors torch in float32 is 1.006e-5 off.
    atol = 2 * bundle.tolerance
    np.testing.assert_allclose(engine.run(features), torch_in_double(bundle, features), rtol=0, atol=atol)


def test_nothing_depends_on_a_later_frame(make: Make, whole: F32) -> None:
    changed = LONG.copy()
    changed[250:] = 1e6
    after = make().run(changed)
    assert after[:250].tobytes() == whole[:250].tobytes()
    assert after[250:].tobytes() != whole[250:].tobytes()


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_chunks_do_not_matter(make: Make, whole: F32, chunk: int) -> None:
    engine = make()
    parts = [LONG[at : at + chunk] for at in range(0, len(LONG), chunk)]
    assert same(engine, np.concatenate([step(engine, part, [0] * len(part)) for part in parts]), whole)


def test_streams_at_their_own_phases_do_not_disturb_each_other(make: Make) -> None:
    """Stream s begins at batch 37 * s; every batch takes the slots in another order."""
    n_streams, n_batches, rng = 5, 260, np.random.default_rng(3)
    inputs = [features_of(SPEC, n_batches, seed=10 + s) for s in range(n_streams)]
    engine = make(capacity=n_streams)
    answers: list[list[F32]] = [[] for _ in range(n_streams)]
    for batch in range(n_batches):
        slots = rng.permutation([s for s in range(n_streams) if batch >= 37 * s]).tolist()
        rows = np.stack([inputs[s][len(answers[s])] for s in slots])
        for s, row in zip(slots, step(engine, rows, slots), strict=True):
            answers[s].append(row)
    for s in range(n_streams):
        alone = make().run(inputs[s][: len(answers[s])])
        assert same(engine, np.array(answers[s]), alone)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_order_of_batches_and_resets(make: Make, data: st.DataObject) -> None:
    """Whatever was batched with whom: a stream's answers are those of its own frames since its reset."""
    n_streams = 3
    inputs = [features_of(SPEC, 64, seed=20 + s) for s in range(n_streams)]
    engine, at = make(capacity=n_streams), [0] * n_streams
    kept = [np.empty((0, SPEC.n_outputs), np.float32)] * n_streams
    for _ in range(data.draw(st.integers(1, 12))):
        slots = data.draw(st.lists(st.integers(0, n_streams - 1), max_size=5))
        if data.draw(st.booleans()) and slots:
            engine.reset(np.array(slots, np.int32))
            for s in set(slots):
                at[s], kept[s] = 0, kept[s][:0]
            continue
        rows = np.empty((len(slots), SPEC.n_features), np.float32)
        for i, s in enumerate(slots):
            rows[i] = inputs[s][at[s]]
            at[s] += 1
        for s, row in zip(slots, step(engine, rows, slots), strict=True):
            kept[s] = np.vstack((kept[s], row))
    for s in range(n_streams):
        assert same(engine, kept[s], make().run(inputs[s][: at[s]]))


def test_a_slot_that_comes_twice_in_a_batch_is_stepped_twice(make: Make, whole: F32) -> None:
    engine = make(capacity=2)
    rows = np.stack([LONG[0], LONG[0], LONG[1], LONG[2], LONG[1]])
    expected = np.stack([whole[0], whole[0], whole[1], whole[2], whole[1]])
    assert same(engine, step(engine, rows, [0, 1, 0, 0, 1]), expected)


def test_reset_of_one_among_many_starts_it_again_and_no_other(make: Make, whole: F32) -> None:
    engine = make(capacity=3)
    for t in range(50):
        step(engine, np.stack([LONG[t]] * 3), [0, 1, 2])
    engine.reset(np.array([1], np.int32))
    for t in range(50, 100):
        answers = step(engine, np.stack([LONG[t], LONG[t - 50], LONG[t]]), [0, 1, 2])
        assert same(engine, answers, np.stack([whole[t], whole[t - 50], whole[t]]))


@pytest.mark.parametrize("taken_at", [0, 1, 33, 150])
def test_a_snapshot_goes_on_in_another_slot_of_another_engine(make: Make, whole: F32, taken_at: int) -> None:
    engine = make(capacity=2)
    step(engine, LONG[:taken_at], [1] * taken_at)
    snapshot = engine.snapshot(1)
    step(engine, LONG[taken_at : taken_at + 20], [1] * 20)  # the snapshot must not move on with its slot
    other = make(capacity=3)
    step(other, LONG[:77], [2] * 77)
    other.restore(2, snapshot)
    rest = len(LONG) - taken_at
    assert same(other, step(other, LONG[taken_at:], [2] * rest), whole[taken_at:])


def test_a_foreign_snapshot_is_refused_and_changes_nothing(make: Make, whole: F32) -> None:
    engine = make()
    step(engine, LONG[:10], [0] * 10)
    with pytest.raises(EngineError, match="snapshot"):
        engine.restore(0, engine.snapshot(0)[:-4])
    with pytest.raises(EngineError, match="snapshot"):
        engine.restore(0, make(SPECS["deep"]).snapshot(0))
    assert same(engine, step(engine, LONG[10:11], [0]), whole[10:11])


def test_whatever_is_not_known_the_answers_are_probabilities(make: Make) -> None:
    features = features_of(SPEC, 120)
    features[:20] = np.nan
    features[60] = np.nan
    features[80, ::2] = 1e30
    features[81, ::2] = -1e30
    answers = make().run(features)
    assert np.isfinite(answers).all()
    assert (answers >= 0).all()
    for lo, hi in zip(SPEC.offsets, SPEC.offsets[1:], strict=False):
        np.testing.assert_allclose(answers[:, lo:hi].sum(1), 1.0, atol=1e-5)


def test_an_unknown_feature_is_the_fill_value(make_network: Make) -> None:
    filled = LONG.copy()
    np.copyto(filled, bundle_of(SPEC).weights["scaler.fill"], where=np.isnan(filled))
    engine = make_network()
    assert same(engine, engine.run(LONG), engine.run(filled))


def test_inputs_and_weights_stay_as_they_are(make: Make) -> None:
    bundle = with_trees(bundle_of(SPEC)) if isinstance(make(), TreeEngine) else bundle_of(SPEC)
    before = {name: value.tobytes() for name, value in bundle.weights.items()}
    engine = make_engine(bundle, make().name, 2)
    features, slots = LONG[:40].copy(), np.tile([0, 1], 20).astype(np.int32)
    out = np.full((42, SPEC.n_outputs), 7.0, np.float32)
    engine.step(features, slots, out[1:41])
    assert features.tobytes() == LONG[:40].tobytes()
    assert slots.tolist() == [0, 1] * 20
    assert (out[[0, 41]] == 7.0).all(), "only the rows of out are written"
    assert {name: value.tobytes() for name, value in bundle.weights.items()} == before


def test_every_slot_up_to_the_capacity_is_a_stream_of_its_own(make: Make, whole: F32) -> None:
    engine = make(capacity=9)
    assert engine.capacity == 9
    for t in range(30):
        assert same(engine, step(engine, np.stack([LONG[t]] * 9), list(range(9))), np.stack([whole[t]] * 9))
    assert step(engine, LONG[:0], []).shape == (0, SPEC.n_outputs)


def test_batches_of_every_size_up_to_the_capacity(make: Make, whole: F32) -> None:
    """Engines with fixed batch sizes fill up the others; streams that are not in a batch must not notice."""
    capacity, rng = 70, np.random.default_rng(8)
    engine, at = make(capacity=capacity), np.zeros(capacity, np.int64)
    for size in (1, 2, 5, 16, 17, 64, 65, 70, 3, 70, 1):
        slots = rng.permutation(capacity)[:size]
        assert same(engine, step(engine, LONG[at[slots]], slots.tolist()), whole[at[slots]])
        at[slots] += 1


def test_whatever_the_extractor_can_emit_the_answers_are_probabilities(make: Make, tiny_bundle: Path) -> None:
    """Real features with NaN: nobody seen, one animal alone, single points, everybody back, animals far outside."""
    bundle = load_bundle(tiny_bundle)
    bundle = with_trees(bundle) if isinstance(make(), TreeEngine) else bundle
    a, k = bundle.skeleton.shape
    keypoints = np.cumsum(np.random.default_rng(4).normal(0, 2, (90, a, k, 2)), axis=0).astype(np.float32) + 300
    keypoints[:10] = np.nan
    keypoints[10:25, 0] = np.nan
    keypoints[25:40, 1] = np.nan
    keypoints[40:50, :, 1:] = np.nan
    keypoints[60:62] = 1e5
    keypoints[62:64] = keypoints[62:64, :1, :1]  # all points at one place
    confidence = np.where(np.isnan(keypoints).any(axis=-1), 0.0, 1.0).astype(np.float32)
    features = FeatureExtractor(bundle.skeleton, bundle.features, bundle.fps, bundle.body_size).run(
        keypoints, confidence, bundle.arena
    )
    assert np.isnan(features).any(), "features that are all known would prove nothing"
    answers = make_engine(bundle, make().name).run(features)
    assert np.isfinite(answers).all()
    for lo, hi in zip(bundle.architecture.offsets, bundle.architecture.offsets[1:], strict=False):
        np.testing.assert_allclose(answers[:, lo:hi].sum(1), 1.0, atol=1e-5)
