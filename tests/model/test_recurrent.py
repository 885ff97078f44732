"""The recurrent baselines: a GRU's layers are torch's own, whose weights they are."""

from __future__ import annotations

import pytest
import torch

from rtseg.model.recurrent import GRU
from rtseg.model.select import make_model
from tests.training.scenes import HEADS, recipe


@pytest.mark.parametrize(("causal", "depth"), [(True, 1), (False, 1), (False, 2)])
def test_a_grus_layers_are_torchs(causal: bool, depth: int) -> None:
    torch.manual_seed(2)
    model = make_model(recipe(model={"kind": "gru", "causal": causal, "channels": 6, "depth": depth}), 5, HEADS)
    assert isinstance(model, GRU)
    model.double()
    z = torch.randn(3, 11, 5, dtype=torch.float64)
    ours, theirs = model.hidden(z), model.cells(z)[0]
    torch.testing.assert_close(ours, theirs)
    for mine, reference in zip(
        *(torch.autograd.grad(h.square().sum(), model.cells.parameters()) for h in (ours, theirs)), strict=True
    ):
        torch.testing.assert_close(mine, reference)
