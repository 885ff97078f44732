"""Plans on disk: their sidecars, which of them fit, and why the others are stale. No TensorRT is needed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rtseg.bundle.bundle import Bundle
from rtseg.engine.select import choose_engine, make_engine
from rtseg.engine.tensorrt import plans, tensorrt_engine, tensorrt_library
from rtseg.engine.tensorrt.plans import (
    Plan,
    Wanted,
    default_folder,
    find_plans,
    graph_digest,
    plan_to_build,
    read_plan,
    read_plans,
)
from rtseg.engine.tensorrt.tensorrt_engine import find_serving_plans
from rtseg.errors import EngineError
from rtseg.system import nvidia
from tests.engine.networks import SPECS, bundle_of

BUNDLE = replace(bundle_of(SPECS["small"]), hash="1" * 64)
WANTED = Wanted("random", "tensorrt_rtx", "1.7.1", "fp32", "sm_86")
WITHOUT_GPU = pytest.mark.skipif(not isinstance(nvidia.gpus(), str), reason="this machine has a GPU")


def write_plan(
    folder: Path, wanted: Wanted = WANTED, batch: int = 4, bundle: Bundle = BUNDLE, data: bytes = b"plan"
) -> Plan:
    """A plan of these bytes, described as `build_plans` does it."""
    plan = plan_to_build(wanted, bundle, batch, graph_digest(bundle, batch, wanted.precision), folder)
    plan.file.write_bytes(data)
    result = {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": 4, "in_place": 8, "seconds": 0.1}
    plan = plans.with_build_result(plan, result, "onnx")
    plans.write_sidecar(plan)
    return plan


@pytest.fixture
def with_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver names a GPU of the kind that the plans are for, and the RTX flavour seems to be there."""
    gpu = nvidia.Gpu("pretended", (8, 6), 2**34, 84, (13, 0))
    monkeypatch.setattr(nvidia, "gpus", lambda: (gpu,))
    versions = {"tensorrt_rtx": "1.7.1"}
    monkeypatch.setattr(tensorrt_library, "installed_version", versions.get)


def test_a_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    plan = write_plan(tmp_path)
    assert read_plan(plan.file) == plan
    assert plan.read_data() == b"plan"
    assert plan.file.name.startswith("random-tensorrt_rtx-fp32-b4-sm_86-")
    about = json.loads(plans.sidecar(plan.file).read_text())
    assert about["wanted"]["version"] == "1.7.1"
    assert about["model"] == BUNDLE.hash
    assert about["in_place"] == 8


def test_plans_that_fit_are_found_smallest_batch_first(tmp_path: Path) -> None:
    for batch in (64, 1, 16):
        write_plan(tmp_path, batch=batch)
    write_plan(tmp_path, replace(WANTED, precision="fp16"))
    write_plan(tmp_path, replace(WANTED, target="sm_89"))
    found, stale = find_plans(tmp_path, BUNDLE, WANTED)
    assert [plan.batch for plan in found] == [1, 16, 64]
    assert stale == []


def test_a_stale_plan_is_named_with_what_it_was_built_for(tmp_path: Path) -> None:
    weights = {name: value * np.float32(1.5) for name, value in BUNDLE.weights.items()}
    trained_anew = replace(BUNDLE, weights=weights, hash="2" * 64)
    plan = write_plan(tmp_path)
    for bundle, wanted, reason in (
        (trained_anew, WANTED, "built from model 111111111111, this is 222222222222"),
        (BUNDLE, replace(WANTED, version="1.8"), "built with tensorrt_rtx 1.7.1, here is 1.8"),
        (BUNDLE, replace(WANTED, gpu="RTX"), "built with GPU of any kind, here is RTX"),
        (BUNDLE, replace(WANTED, driver="600.1"), "built with driver of any kind, here is 600.1"),
    ):
        assert find_plans(tmp_path, bundle, wanted) == ([], [f"{plan.file.name} is stale: {reason}"])
    found, stale = find_plans(tmp_path, BUNDLE, WANTED, {"input": 0.1})
    assert found == []
    assert "from other int8 ranges" in stale[0]


def test_a_bundle_of_which_only_the_card_changed_keeps_its_plans(tmp_path: Path) -> None:
    write_plan(tmp_path)
    found, stale = find_plans(tmp_path, replace(BUNDLE, hash="3" * 64), WANTED)
    assert (len(found), stale) == (1, [])


def test_everything_that_a_plan_depends_on_is_in_its_name() -> None:
    folder, graph = Path(), graph_digest(BUNDLE, 4, "fp32")
    changes = [{"version": "2"}, {"gpu": "x"}, {"driver": "x"}, {"target": "sm_89"}, {"flavour": "tensorrt"}]
    names = {plan_to_build(replace(WANTED, **change), BUNDLE, 4, graph, folder).file.name for change in changes}  # type: ignore[arg-type]
    names.add(plan_to_build(WANTED, BUNDLE, 8, graph, folder).file.name)
    names.add(plan_to_build(WANTED, BUNDLE, 4, graph_digest(BUNDLE, 4, "fp16"), folder).file.name)
    names.add(plan_to_build(WANTED, BUNDLE, 4, graph, folder).file.name)
    assert len(names) == len(changes) + 3


def test_a_damaged_plan_is_named_and_the_others_are_found(tmp_path: Path) -> None:
    cut, foreign, alone, older, good = (write_plan(tmp_path, batch=batch) for batch in (1, 2, 3, 4, 5))
    cut.file.write_bytes(b"pla")
    plans.sidecar(foreign.file).write_text("{}")
    plans.sidecar(alone.file).unlink()
    about = json.loads(plans.sidecar(older.file).read_text())
    plans.sidecar(older.file).write_text(json.dumps(about | {"schema": 0}))
    found, problems = find_plans(tmp_path, BUNDLE, WANTED)
    assert found == [cut, good]
    assert sum(isinstance(plan, str) for plan in read_plans(tmp_path)) == 3
    assert sorted(problem.partition(".json")[2] or problem for problem in problems)[0].startswith(" beside it: rtseg")
    assert any("does not describe a plan ('schema')" in problem for problem in problems)
    assert any("'rtseg plan' of schema 0; this rtseg reads 1" in problem for problem in problems)
    with pytest.raises(EngineError, match=r"b1-sm_86.*was changed or cut: rtseg build makes it again"):
        cut.read_data()
    good.file.unlink()
    with pytest.raises(EngineError, match="is missing: rtseg build"):
        good.read_data()


def test_where_plans_are_looked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("RTSEG_PLANS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "rtseg" / "plans"
    monkeypatch.setenv("RTSEG_PLANS", str(tmp_path / "mine"))
    assert default_folder() == tmp_path / "mine"


def test_without_a_plan_that_fits_the_reasons_are_named(with_gpu: None, tmp_path: Path) -> None:
    for wanted in (replace(WANTED, version="1.6"), replace(WANTED, version="1.5")):
        write_plan(tmp_path, wanted)
    with pytest.raises(
        EngineError, match=r"stale: built with tensorrt_rtx 1\.[56], here is 1.7.1 \(and 1 more\): rtseg b"
    ):
        find_serving_plans(BUNDLE, "fp32", ("tensorrt", "tensorrt_rtx"), tmp_path)
    with pytest.raises(EngineError, match=r"no fp16 plan of random for sm_86 in .*: rtseg build makes plans"):
        find_serving_plans(BUNDLE, "fp16", ("tensorrt", "tensorrt_rtx"), tmp_path)
    plan = write_plan(tmp_path)
    assert find_serving_plans(BUNDLE, "fp32", ("tensorrt", "tensorrt_rtx"), tmp_path) == ([plan], WANTED)


def test_auto_falls_back_and_a_named_engine_does_not(
    with_gpu: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A stale plan, no plan at all, and a plan that fits on a machine whose driver is none."""
    monkeypatch.setenv("RTSEG_PLANS", str(tmp_path))
    write_plan(tmp_path, replace(WANTED, version="1.6"))
    for reason in ("is stale: built with tensorrt_rtx 1.6", r"no usable NVIDIA driver here: lib\w+.so.1"):
        engine, reasons = choose_engine(BUNDLE)
        assert engine.name == "numba"
        with pytest.raises(EngineError, match=reason):
            raise EngineError(reasons["tensorrt"])
        with pytest.raises(EngineError, match=reason):
            make_engine(BUNDLE, "tensorrt_rtx")
        write_plan(tmp_path)


def test_an_unknown_precision_and_a_missing_flavour_are_named(with_gpu: None) -> None:
    with pytest.raises(EngineError, match="unknown precision 'fp8'; tensorrt has fp32, fp16, int8"):
        make_engine(BUNDLE, "tensorrt:fp8")
    assert str(tensorrt_engine.why_unavailable(["tensorrt"])) == "the package 'tensorrt' is not installed"
    assert tensorrt_engine.why_unavailable() is None
