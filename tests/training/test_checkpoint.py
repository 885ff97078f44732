"""Checkpoints: everything comes back, another run's is refused, a half-written one is never seen."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from rtseg.errors import SettingError
from rtseg.training import checkpoint


def test_nothing_there_is_no_checkpoint(tmp_path: Path) -> None:
    assert checkpoint.load_checkpoint(tmp_path, "f") is None
    assert checkpoint.load_checkpoint(tmp_path / "none", "f") is None


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    tensors = {"a": {"x/y": torch.randn(3, 4), "step": torch.tensor(7.0)}, "b": {"x/y": torch.arange(5)}}
    progress = {"fingerprint": "f", "epoch": 3, "best_score": -math.inf, "history": [{"score": 0.1 + 0.2, "n": None}]}
    checkpoint.save_checkpoint(tmp_path / "deep" / "run", tensors, progress)
    found = checkpoint.load_checkpoint(tmp_path / "deep" / "run", "f")
    assert found is not None
    assert found[1] == progress
    assert {g: set(t) for g, t in found[0].items()} == {g: set(t) for g, t in tensors.items()}
    assert all(torch.equal(found[0][g][n], t) for g, group in tensors.items() for n, t in group.items())
    assert [p.name for p in (tmp_path / "deep" / "run").iterdir()] == [checkpoint.NAME]


def test_it_is_no_pickle(tmp_path: Path) -> None:
    checkpoint.save_checkpoint(tmp_path, {"a": {"x": torch.zeros(2)}}, {"fingerprint": "f"})
    raw = (tmp_path / checkpoint.NAME).read_bytes()
    assert not raw.startswith((b"\x80", b"PK"))
    assert raw[8:9] == b"{"


def test_another_run_is_refused(tmp_path: Path) -> None:
    checkpoint.save_checkpoint(tmp_path, {"a": {"x": torch.zeros(2)}}, {"fingerprint": "f"})
    with pytest.raises(SettingError, match=r"another recipe or data set.*remove the folder") as refusal:
        checkpoint.load_checkpoint(tmp_path, "g")
    assert str(tmp_path) in str(refusal.value)


def test_an_optimizer_goes_on_where_it_was() -> None:
    def some() -> tuple[list[torch.nn.Parameter], torch.optim.Optimizer]:
        torch.manual_seed(0)
        parameters = [torch.nn.Parameter(torch.randn(3)), torch.nn.Parameter(torch.randn(2, 2))]
        return parameters, torch.optim.AdamW([{"params": parameters[:1]}, {"params": parameters[1:]}], lr=0.1)

    def steps(parameters: list[torch.nn.Parameter], optimizer: torch.optim.Optimizer, n: int) -> None:
        for _ in range(n):
            optimizer.zero_grad()
            sum(p.square().sum() for p in parameters).backward()  # type: ignore[union-attr]
            optimizer.step()

    through, optimizer = some()
    steps(through, optimizer, 6)
    halfway, optimizer = some()
    steps(halfway, optimizer, 3)
    kept = {n: t.clone() for n, t in checkpoint.optimizer_tensors(optimizer).items()}
    resumed, fresh = some()
    with torch.no_grad():
        for new, old in zip(resumed, halfway, strict=True):
            new.copy_(old)
    checkpoint.restore_optimizer(fresh, kept)
    steps(resumed, fresh, 3)
    assert all(torch.equal(a, b) for a, b in zip(through, resumed, strict=True))


@pytest.mark.parametrize("length", [0, 5, 40, -1])
def test_a_cut_one_is_refused_in_one_line(tmp_path: Path, length: int) -> None:
    checkpoint.save_checkpoint(tmp_path, {"a": {"x": torch.zeros(50)}}, {"fingerprint": "f"})
    path = tmp_path / checkpoint.NAME
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(SettingError, match=r"was cut or damaged .*remove the folder to start anew") as error:
        checkpoint.load_checkpoint(tmp_path, "f")
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
