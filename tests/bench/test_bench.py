"""A short benchmark in a process of its own gives a complete, well-formed result. No timing is judged here."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from rtseg.bench import PARTS, bench, print_result
from rtseg.bundle.bundle import load_bundle
from rtseg.errors import BundleError, SettingError
from tests.conftest import REPO

RUN = """
import sys
from pathlib import Path
from rtseg.bench import PARTS, bench, wire
wire.ROUNDS = 4  # each ends with a pause
out = Path(sys.argv[2])
bench(sys.argv[1], only=PARTS, seconds=0.5, load_seconds=0.5, load_streams=3, json_file=out, progress=print)
"""
TITLES = ("features", "engine", "session", "wire ipc", "wire tcp", "load apart", "load together")


@pytest.fixture(scope="module")
def result(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    file = tmp_path_factory.mktemp("bench") / "result.json"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", RUN, str(tiny_bundle), str(file)],
        cwd=REPO,
        env=os.environ | {"PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert tuple(done.stdout.split("\n")[:-1]) == TITLES
    plain: dict[str, Any] = json.loads(file.read_text())
    return plain


def test_every_row_has_ordered_percentiles_and_every_part_a_floor(result: dict[str, Any]) -> None:
    assert tuple(result["parts"]) == TITLES
    for part in result["parts"].values():
        assert [row["role"] for row in part["rows"]].count("measured") == 1
        assert [row["role"] for row in part["rows"]].count("floor") == 1
        for row in part["rows"]:
            assert row["count"] > 0
            assert 0 < row["p50_us"] <= row["p99_us"] <= row["p999_us"] <= row["max_us"]


def test_the_engine_is_timed_beside_whatever_is_installed(result: dict[str, Any]) -> None:
    part = result["parts"]["engine"]
    p50 = {row["name"]: row["p50_us"] for row in part["rows"]}
    ratios = {ratio["name"]: ratio for ratio in part["ratios"]}
    forms = [value for name, value in p50.items() if name.startswith("onnx, ")]
    assert len(forms) == 2 or any("onnx" in note for note in part["notes"])
    if forms:
        assert ratios["p50 numba / faster ONNX form"]["value"] == pytest.approx(p50["numba"] / min(forms))
    if "torch" in p50:
        assert ratios["p50 numba / torch"]["value"] == pytest.approx(p50["numba"] / p50["torch"])
    else:
        assert any("torch" in note for note in part["notes"])


def test_on_the_wire_every_frame_is_answered(result: dict[str, Any]) -> None:
    for name in TITLES[3:]:
        part = result["parts"][name]
        for counts in part["counts"].values():
            assert counts["sent"] == counts["answered"] > 0
            assert counts["lost"] == 0
        measured, inside, _ = part["rows"]
        assert inside["role"] == "share"
        assert inside["p50_us"] < measured["p50_us"]
    assert result["parts"]["load apart"]["counts"]["3 streams, each at its own moment"]["sent"] == 45


def test_it_says_what_was_timed_where_and_with_what(result: dict[str, Any], tiny_bundle: Path) -> None:
    assert result["bundle"]["hash"] == load_bundle(tiny_bundle).hash
    assert result["versions"]["python"] == sys.version.split()[0]
    assert {"numpy", "numba", "pyzmq", "onnxruntime", "torch"} <= set(result["versions"])
    assert result["machine"]["cpu"]
    assert result["machine"]["cores"] >= 1
    assert result["settings"]["only"] == list(PARTS)
    if (REPO / ".git").exists():
        assert re.fullmatch(r"[0-9a-f]{40}(\+dirty)?", result["commit"])


def test_the_table_shows_every_row_and_every_aim(result: dict[str, Any]) -> None:
    text = io.StringIO()
    print_result(result, Console(file=text, width=200))
    for part in result["parts"].values():
        for row in part["rows"]:
            assert row["name"] in text.getvalue()
        for ratio in part["ratios"]:
            assert f"{ratio['name']}: " in text.getvalue()


def test_unknown_parts_and_missing_bundles_are_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="unknown part gpu; there are the parts features, engine"):
        bench(tiny_bundle, only=("gpu",))
    with pytest.raises(BundleError, match="no bundle here"):
        bench(tmp_path)
