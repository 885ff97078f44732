"""What is special about the engine on ONNX Runtime: two forms, caches written in place, batch sizes, providers."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rtseg.engine.onnx.step_file import write_step
from rtseg.engine.onnx.step_interface import FORMS, Form
from rtseg.engine.select import make_engine
from rtseg.errors import EngineError
from tests.conftest import REPO
from tests.engine.networks import F32, SPECS, bundle_of, features_of, torch_in_double

pytest.importorskip("onnx", reason="onnx is not installed: pip install 'rtseg[dev]'")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'rtseg[dev]'")

from rtseg.engine.onnx.onnx_engine import OnnxEngine, providers

SPEC = SPECS["small"]


def engine_of(form: Form, capacity: int = 1) -> OnnxEngine:
    return OnnxEngine(SPEC, bundle_of(SPEC).weights, capacity, form)


def rings(engine: OnnxEngine, slot: int) -> F32:
    """All caches of a slot, including rows that are not part of its state."""
    return np.concatenate([engine._cache(0, layer, slot).ravel() for layer in range(len(engine._rows_per_stream))])


@pytest.mark.parametrize("form", FORMS)
def test_both_forms_equal_torch_in_double(form: Form) -> None:
    features = features_of(SPEC, SPEC.receptive_field + 1000)
    expected = torch_in_double(bundle_of(SPEC), features)
    np.testing.assert_allclose(engine_of(form).run(features), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("taken_at", [6, 7])
def test_snapshots_at_even_and_odd_frames(form: Form, taken_at: int) -> None:
    """Shifted, two sets of caches take turns: a snapshot must hold the one with the state."""
    features, slots = features_of(SPEC, 60), np.zeros(60, np.int32)
    whole, engine, other = engine_of(form).run(features), engine_of(form), engine_of(form)
    out = np.empty_like(whole)
    engine.step(features[:taken_at], slots[:taken_at], out[:taken_at])
    other.step(features[:3], slots[:3], out[:3])
    other.restore(0, engine.snapshot(0))
    other.step(features[taken_at:], slots[taken_at:], out[taken_at:])
    assert out[taken_at:].tobytes() == whole[taken_at:].tobytes()


def test_in_place_a_step_writes_one_row_of_each_ring_and_leaves_the_others() -> None:
    engine = engine_of("in_place", capacity=2)
    features = features_of(SPEC, 41)
    slots = np.zeros(40, np.int32)
    engine.step(features[:40], slots, np.empty((40, SPEC.n_outputs), np.float32))
    before = rings(engine, 0)
    engine.step(features[40:], slots[:1], np.empty((1, SPEC.n_outputs), np.float32))
    after = rings(engine, 0)
    one_row_each = len(SPEC.dilations) * SPEC.channels + len(SPEC.head_dilations) * len(SPEC.heads) * SPEC.head_channels
    changed = int((before != after).sum())
    assert 0.9 * one_row_each < changed <= one_row_each
    assert not np.frombuffer(engine.snapshot(1), np.uint8).any(), "the other slot is still fresh"


def test_a_snapshot_does_not_depend_on_the_windows_a_slot_was_run_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slots 0 and 9 get the same frames; slot 9 is also run without a frame, in windows of its neighbours."""
    engine = engine_of("in_place", capacity=16)
    features = features_of(SPEC, 50)
    sizes = set()
    run = engine._run_window

    def record(window: tuple[int, int]) -> None:
        sizes.add(window[1])
        run(window)

    monkeypatch.setattr(engine, "_run_window", record)
    out = np.empty((16, SPEC.n_outputs), np.float32)
    for t in range(50):
        engine.step(np.stack([features[t]] * 2), np.array([0, 9], np.int32), out[:2])
        others = np.array([s for s in range(16) if s not in (0, 9)], np.int32)
        engine.step(np.full((14, SPEC.n_features), 1e3, np.float32), others, out[:14])
    assert sizes == {1, 16}
    assert engine.snapshot(0) == engine.snapshot(9)
    alone = engine_of("in_place")
    alone.run(features)
    np.testing.assert_allclose(
        np.frombuffer(engine.snapshot(9)[8:], np.float32), np.frombuffer(alone.snapshot(0)[8:], np.float32), atol=1e-5
    )


def test_a_bundle_from_disk_is_served_without_the_onnx_package(tiny_bundle: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_bundle, tmp_path / "with step"))
    write_step(folder)
    code = (
        "import sys\nsys.modules['onnx'] = None\nimport numpy as np\n"
        "from rtseg.bundle.bundle import load_bundle\nfrom rtseg.engine.select import make_engine\n"
        "bundle = load_bundle(sys.argv[1])\nengine = make_engine(bundle, 'onnx', 20)\n"
        "rows = np.ones((20, bundle.network.n_features), np.float32)\n"
        "out = np.empty((20, bundle.network.n_outputs), np.float32)\n"
        "engine.step(rows, np.arange(20, dtype=np.int32), out)\nprint(out.sum())"
    )

    def child(folder: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", code, str(folder)], cwd=REPO, capture_output=True, text=True)

    served = child(folder)
    assert served.returncode == 0, served.stderr
    assert float(served.stdout) == pytest.approx(40, abs=1e-3), "two heads, 20 streams"
    refused = child(tiny_bundle)
    assert "needs the package 'onnx': pip install 'rtseg[onnx]'" in refused.stderr


@pytest.mark.parametrize("name", ["onnx:cpu", "onnx:azure"])
def test_every_available_provider_serves(name: str) -> None:
    bundle = bundle_of(SPEC)
    if name.partition(":")[2] not in providers():
        pytest.skip(f"{name}: this ONNX Runtime offers {', '.join(providers())}")
    features = features_of(SPEC, 60)
    answers = make_engine(bundle, name).run(features)
    np.testing.assert_allclose(answers, engine_of("in_place").run(features), rtol=0, atol=1e-6)


def test_wrong_options_are_named_with_the_valid_ones() -> None:
    bundle = bundle_of(SPEC)
    with pytest.raises(EngineError, match=r"no provider 'abacus' here; there are: .*cpu"):
        make_engine(bundle, "onnx:abacus")
    with pytest.raises(EngineError, match=r"one precision \(fp32, fp16, int8\) and one provider, got fp16, int8"):
        make_engine(bundle, "onnx:fp16:int8")
    with pytest.raises(EngineError, match=r"has not been accepted in int8: 'rtseg calibrate BUNDLE DATASET"):
        make_engine(bundle, "onnx:int8")
    with pytest.raises(EngineError, match="does not take the step"):
        OnnxEngine(SPEC, bundle.weights, 1, model=b"no model")
