"""benchmarks/fuzz_zmtp.py for some hundred connections: hostile peers, and a quiet stream that must not notice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPO


@pytest.mark.parametrize("options", [("--workers", "2"), ("--keys",), ("--ipc",)], ids=lambda options: options[0])
def test_hostile_peers_change_no_answer(options: tuple[str, ...], tiny_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "fuzz.json"
    done = subprocess.run(
        [sys.executable, "benchmarks/fuzz_zmtp.py", str(tiny_bundle), "--inputs", "900", "--json", out, *options],
        cwd=REPO,
        env=os.environ | {"PYTHONPATH": str(REPO)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(out.read_text())
    assert (result["quiet"]["differing"], result["exit_code"]) == ([], 0)
    assert result["inputs"] >= 900 > result["connections"] > 0
    assert result["quiet"]["answered"] == result["quiet"]["frames"] > 0
