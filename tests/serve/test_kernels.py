"""What a daemon compiles ahead is what it then calls: each kernel, for the very types of its arguments."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from rtseg.bundle.bundle import load_bundle, save_bundle
from rtseg.config import ServeSettings
from rtseg.inference.classifier import load
from rtseg.serve.daemon import Daemon
from rtseg.serve.kernels import DECIDE, kernels_of
from tests.live import FREE_PORT
from tests.trees import with_trees

TRIGGERS = """
[triggers.attack]
conditions = [{ head = "task1", behaviours = ["attack"] }]
"""


@pytest.mark.parametrize("kind", ["network", "trees"])
def test_kernels_are_called_as_they_are_compiled_ahead(tiny_bundle: Path, tmp_path: Path, kind: str) -> None:
    folder = tiny_bundle
    if kind == "trees":
        folder = tmp_path / "trees"
        save_bundle(with_trees(load_bundle(tiny_bundle)), folder)
    (tmp_path / "triggers.toml").write_text(TRIGGERS, encoding="utf-8")
    settings = ServeSettings(
        frames=FREE_PORT, predictions=FREE_PORT, record=str(tmp_path), triggers=str(tmp_path / "triggers.toml")
    )
    classifier = load(folder, "numba", settings.slots)
    with closing(Daemon(classifier, settings)) as daemon:
        daemon.warm_up()
    kernels = kernels_of(classifier.pool.engine, settings)
    assert DECIDE in kernels
    for kernel in kernels:
        assert kernel.types in kernel.function.signatures, kernel
        assert kernel.is_kept()


def test_triggers_are_compiled_only_where_there_are_some(tiny_bundle: Path) -> None:
    kernels = kernels_of(load(tiny_bundle, "numba", 1).pool.engine, ServeSettings())
    assert DECIDE not in kernels
    assert len(kernels) == len(set(kernels))
