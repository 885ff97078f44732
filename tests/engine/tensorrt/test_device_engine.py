"""Slots, batches, padding and snapshots of an engine on a device, with the plans' own ONNX in ONNX Runtime.

The contract of all engines (test_contract) is held with real steps of several batches; only TensorRT's execution and
the GPU's memory are replaced. What a GPU does later than it is told to is done later here, too.
"""

from __future__ import annotations

import numpy as np
import pytest

from rtseg.bundle.network import NetworkSpec
from rtseg.engine.onnx.onnx_graph import product_names
from rtseg.engine.onnx.onnx_nodes import Precision
from rtseg.engine.parity import largest_difference
from rtseg.engine.tensorrt.device_engine import DeviceEngine, _consecutive_slots, batches_for
from rtseg.engine.tensorrt.tensorrt_engine import TOLERANCES, require_parity_of_batches
from rtseg.errors import EngineError
from tests.engine.networks import F32, SPECS, bundle_of
from tests.engine.tensorrt.host_device import HostDevice, OrtStep
from tests.engine.test_contract import (
    LONG,
    SPEC,
    Make,
    step,
    test_a_foreign_snapshot_is_refused_and_changes_nothing,
    test_a_slot_that_comes_twice_in_a_batch_is_stepped_twice,
    test_a_snapshot_goes_on_in_another_slot_of_another_engine,
    test_any_order_of_batches_and_resets,
    test_batches_of_every_size_up_to_the_capacity,
    test_chunks_do_not_matter,
    test_every_slot_up_to_the_capacity_is_a_stream_of_its_own,
    test_nothing_depends_on_a_later_frame,
    test_reset_of_one_among_many_starts_it_again_and_no_other,
    test_streams_at_their_own_phases_do_not_disturb_each_other,
    test_whatever_is_not_known_the_answers_are_probabilities,
    whole,
)

CONTRACT = (
    test_a_foreign_snapshot_is_refused_and_changes_nothing,
    test_a_slot_that_comes_twice_in_a_batch_is_stepped_twice,
    test_a_snapshot_goes_on_in_another_slot_of_another_engine,
    test_any_order_of_batches_and_resets,
    test_batches_of_every_size_up_to_the_capacity,
    test_chunks_do_not_matter,
    test_every_slot_up_to_the_capacity_is_a_stream_of_its_own,
    test_nothing_depends_on_a_later_frame,
    test_reset_of_one_among_many_starts_it_again_and_no_other,
    test_streams_at_their_own_phases_do_not_disturb_each_other,
    test_whatever_is_not_known_the_answers_are_probabilities,
    whole,
)
"""Collected here as well, with this file's `make`."""
BATCHES = (1, 4, 16)

pytest.importorskip("onnx", reason="onnx is not installed: pip install 'rtseg[dev]'")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'rtseg[dev]'")


def engine_of(
    spec: NetworkSpec = SPEC,
    capacity: int = 1,
    batches: tuple[int, ...] = BATCHES,
    precision: Precision = "fp32",
    seed: int = 0,
) -> DeviceEngine:
    scales = dict.fromkeys(product_names(spec), 0.04) if precision == "int8" else None
    device, weights = HostDevice(), bundle_of(spec, seed).weights
    needed = batches_for(capacity, batches)
    steps = [OrtStep(spec, weights, batch, device, precision, scales) for batch in needed]
    return DeviceEngine("tensorrt", spec, capacity, steps, device, precision)


@pytest.fixture(scope="module")
def make() -> Make:
    return engine_of


@pytest.mark.parametrize("name", ["one head, odd sizes", "thirteen heads", "cells beside convolutions", "a cell alone"])
def test_every_batch_agrees_with_the_cpu_engine(name: str) -> None:
    """Rings of heads, whose rows are several a stream, and states of cells; every batch size takes its turn."""
    bundle = bundle_of(SPECS[name])
    engine = engine_of(bundle.network, 5, (1, 2, 4, 8))
    assert engine.batches == [1, 2, 4, 8]
    require_parity_of_batches(engine, bundle, "fp32")
    assert engine.smallest_batch == 1
    assert largest_difference(engine_of(bundle.network, 5, (2,)), bundle) <= 2 * bundle.tolerance, "three blocks"


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_rounded_steps_agree_within_their_tolerance(precision: Precision) -> None:
    bundle = bundle_of(SPECS["cells beside convolutions"])
    engine = engine_of(bundle.network, 5, (1, 8), precision)
    worst = largest_difference(engine, bundle)
    assert 1e-6 < worst <= 2 * TOLERANCES[precision]


def test_a_batch_that_answers_wrongly_is_named() -> None:
    engine, other = engine_of(SPEC, 5, (1, 8)), bundle_of(SPEC, seed=1)
    with pytest.raises(EngineError, match=r"^batch 1: the tensorrt engine's answers differ from the CPU engine's by "):
        require_parity_of_batches(engine, other, "fp32")


def test_one_launch_steps_a_batch_and_the_smallest_that_holds_it() -> None:
    device = HostDevice()
    steps = [OrtStep(SPEC, bundle_of(SPEC).weights, batch, device) for batch in (1, 4, 16)]
    taken: list[int] = []
    engine = DeviceEngine("tensorrt", SPEC, 16, steps, device, "fp32")
    for bound in engine._bound_steps:
        launch = bound._launch
        bound._launch = lambda launch=launch, batch=bound.batch: (taken.append(batch), launch())[1]
    for slots in ([0], [1], [3, 0], [4], [15, 2, 7], [0]):
        step(engine, LONG[: len(slots)], slots)
    assert taken == [1, 4, 4, 16, 16, 1]
    assert device.launches == 6


def test_slots_beyond_the_largest_batch_are_stepped_in_blocks_with_one_wait() -> None:
    engine, alone = engine_of(capacity=10, batches=(1, 4)), engine_of()
    device = engine._device
    assert isinstance(device, HostDevice)
    assert len(engine._frames) == 12
    expected = alone.run(LONG[:3])
    slots = [9, 0, 5, 1]
    for t in range(3):
        before = device.launches
        answers = step(engine, np.repeat(LONG[t : t + 1], 4, axis=0), slots)
        np.testing.assert_allclose(answers, np.repeat(expected[t : t + 1], 4, axis=0), rtol=0, atol=1e-5)
        assert device.launches - before == 3, "the blocks 0, 1 and 2"
    assert engine._frames.tolist() == [3, 3, 0, 0, 0, 3, 0, 0, 0, 3, 0, 0]


def test_a_slot_without_a_frame_keeps_its_state(whole: F32) -> None:
    """Slot 1 is left alone while slots 0 and 3 go through 40 frames of the same batch."""
    engine = engine_of(capacity=4, batches=(4,))
    for t in range(25):
        step(engine, LONG[t : t + 1], [1])
    for t in range(40):
        step(engine, LONG[[t, t + 1]], [0, 3])
    np.testing.assert_allclose(step(engine, LONG[25:60], [1] * 35), whole[25:60], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("capacity", "batches", "chosen"),
    [
        (1, (1, 64, 1024), [1]),
        (2, (1, 64, 1024), [1, 64]),
        (64, (1, 64, 1024), [1, 64]),
        (65, (64, 1, 1024, 64), [1, 64, 1024]),
        (5000, (1, 64, 1024), [1, 64, 1024]),
        (1, (16,), [16]),
        (100, (1,), [1]),
    ],
)
def test_no_batch_is_loaded_that_is_larger_than_needed(
    capacity: int, batches: tuple[int, ...], chosen: list[int]
) -> None:
    assert batches_for(capacity, batches) == chosen


def test_neighbouring_slots_are_cleared_together_but_not_across_blocks() -> None:
    slots = np.array([7, 3, 2, 2, 0, 4, 5, 9], np.int32)
    assert list(_consecutive_slots(slots, 4)) == [(0, 1), (2, 2), (4, 2), (7, 1), (9, 1)]
    assert list(_consecutive_slots(np.arange(8, dtype=np.int32), 8)) == [(0, 8)]
    assert list(_consecutive_slots(np.empty(0, np.int32), 4)) == []
