"""Cells trained separately: the combined network is the mean of their logits, the same from one process or several."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rtseg.bundle.network import Cell, NetworkSpec
from rtseg.errors import SettingError
from rtseg.model.tcn import MultitaskTCN
from rtseg.training.ensemble import combine_cells, train_network
from rtseg.training.loop import train
from tests.training.scenes import HEADS, example, recipe, task

CELLS = [{"encoder": 6, "hidden": 5, "period": 2}, {"encoder": 4, "hidden": 7, "period": 4}]
ALONE: dict[str, Any] = {"layers": 0, "head_layers": 0, "head_channels": 0, "cells": CELLS, "forget_order": True}
TRAINING, VALIDATION = [example("a", 1), example("b", 2, 300)], [example("c", 3, 300)]


def test_the_combined_logits_are_the_mean_of_the_cells_logits() -> None:
    torch.manual_seed(3)
    views = ((1, 2, 3), (2, 1, -3))
    specs = [NetworkSpec(3, 0, 3, (), 0, (), HEADS, (cell,), views) for cell in (Cell(4, 5, 2), Cell(3, 6, 1))]
    members = [MultitaskTCN(spec).eval() for spec in specs]
    for member in members:
        for parameter in member.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
    whole, x = combine_cells(members), torch.randn(2, 50, 3)
    assert whole.spec.cells == (Cell(4, 5, 2), Cell(3, 6, 1))
    with torch.no_grad():
        found, parts = whole.stages(x), [member.stages(x)[-1] for member in members]
    for head in HEADS:
        apart = torch.stack([part[head.name] for part in parts])
        torch.testing.assert_close(found[-1][head.name], apart.mean(0), rtol=0, atol=1e-5)


def test_cells_are_trained_as_networks_of_their_own_with_seeds_of_their_own() -> None:
    plan = recipe(model=ALONE, train={"apart": True, "epochs": 1, "seed": 7, "threads": 2})
    entries: list[dict[str, Any]] = []
    whole = train_network(task(plan, TRAINING, VALIDATION), report=entries.append)
    members = []
    for number, cell in enumerate(CELLS):
        alone = recipe(model={**ALONE, "cells": [cell]}, train={"epochs": 1, "seed": 7 + number, "threads": 1})
        members.append(train(task(alone, TRAINING, VALIDATION)).model)
    expected = combine_cells([m for m in members if isinstance(m, MultitaskTCN)])
    assert {n: t.tobytes() for n, t in whole.tensors.items()} == {n: t.tobytes() for n, t in expected.tensors().items()}
    assert [entry.get("member") for entry in entries] == [0, 1, None]
    assert whole.score == entries[-1]["score"]


def test_cells_apart_need_nothing_held_out_for_their_last_epoch() -> None:
    plan = recipe(model=ALONE, train={"apart": True, "epochs": 2, "select": "last", "threads": 1})
    alone, beside = (train_network(task(plan, TRAINING, held_out)) for held_out in ([], VALIDATION))
    assert {n: t.tobytes() for n, t in alone.tensors.items()} == {n: t.tobytes() for n, t in beside.tensors.items()}
    assert np.isnan(alone.score)
    assert (alone.epoch, beside.epoch) == (2, 2)


def test_a_finished_run_is_not_trained_again_and_processes_make_no_difference(tmp_path: Path) -> None:
    plan = recipe(model=ALONE, train={"apart": True, "epochs": 1, "threads": 1})
    first = train_network(task(plan, TRAINING, VALIDATION), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["member-0", "member-1"]
    again = train_network(task(plan, TRAINING, VALIDATION), tmp_path)
    assert all(np.array_equal(t, again.tensors[n]) for n, t in first.tensors.items())
    assert again.seconds == first.seconds


@pytest.mark.parametrize("change", [{"head_channels": 4}, {"layers": 2}, {"cells": []}])
def test_only_cells_can_be_trained_separately(change: dict[str, Any]) -> None:
    settings = {**ALONE, **change}
    if change.get("cells") == []:
        settings["layers"] = 1
    with pytest.raises(SettingError, match=r"train.apart = true needs model.cells"):
        recipe(model=settings, train={"apart": True})
