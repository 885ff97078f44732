"""What every network keeps, whichever kind: causality, rows apart, NaN, the stages, the count of multiply-adds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from rtseg import config
from rtseg.config import KINDS, Recipe
from rtseg.errors import SettingError
from rtseg.model.attention import SMALLEST_BLOCK, LocalAttention
from rtseg.model.base import SequenceModel
from rtseg.model.select import make_model
from rtseg.recordings.heads import Head

HEADS = (
    Head("task1", ("a", "b", "c"), ("a", "b"), "task1"),
    Head("face", ("other", "face"), ("face",), "task3"),
)
N_FEATURES = 5
T = 90
SIZES: dict[str, Any] = {
    "channels": 8,
    "layers": 4,
    "head_channels": 4,
    "head_layers": 2,
    "stages": 3,
    "depth": 2,
    "attention_window": 12,
    "window_frames": 44,
    "dropout": 0.0,
}
VARIANTS: dict[str, dict[str, Any]] = {kind: {"kind": kind} for kind in KINDS if kind != "gradient-boosting"} | {
    "conv1d, stride 1": {"kind": "conv1d", "window_stride": 1},
    "self-attention, wide": {"kind": "self-attention", "attention_window": 40},
}
PAIRS = [(name, causal) for name in VARIANTS for causal in (True, False)]
every_kind = pytest.mark.parametrize(("name", "causal"), PAIRS)


def recipe(**model: Any) -> Recipe:
    plain = {"name": "n", "dataset": "d", "arena": [0, 0, 1, 1], "model": {**SIZES, **model}}
    return config.from_plain(plain, Recipe)


def network(name: str, causal: bool = True, **model: Any) -> SequenceModel:
    """In float64, with weights that let every path show."""
    torch.manual_seed(4)
    made = make_model(recipe(**{**VARIANTS[name], "causal": causal, **model}), N_FEATURES, HEADS).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(1.5).add_(0.1 * torch.randn_like(parameter))
        made.weight("scaler.clip").fill_(6.0)
    return made.eval()


def inputs(batch: int = 1, n_frames: int = T, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, n_frames, N_FEATURES, generator=generator, dtype=torch.float64)


@every_kind
@torch.no_grad()
def test_stages_and_probabilities_have_their_shapes(name: str, causal: bool) -> None:
    model, x = network(name, causal), inputs(2)
    stages = model.stages(x)
    assert len(stages) == {"multitask-tcn": 2, "ms-tcn": 3, "transformer": 3}.get(VARIANTS[name]["kind"], 1)
    for stage in stages:
        assert {n: tuple(t.shape) for n, t in stage.items()} == {"task1": (2, T, 3), "face": (2, T, 2)}
    assert model.trunk(x).shape == (2, T, model.width)
    assert (model.heads, model.causal, model.offsets, model.n_outputs) == (HEADS, causal, (0, 3, 5), 5)
    probs = model.probabilities(x)
    assert probs.shape == (2, T, 5)
    for first, last, head in ((0, 3, "task1"), (3, 5, "face")):
        torch.testing.assert_close(probs[..., first:last], torch.softmax(stages[-1][head], -1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", VARIANTS)
@torch.no_grad()
def test_what_is_causal_never_looks_ahead(name: str) -> None:
    model, x = network(name), inputs()
    before = model.trunk(x), model.probabilities(x)
    for cut in (1, 31, 32, 33, T - 1):
        changed = x.clone()
        changed[:, cut:] = 5 * inputs(seed=9)[:, cut:]
        for old, new in zip(before, (model.trunk(changed), model.probabilities(changed)), strict=True):
            assert torch.equal(old[:, :cut], new[:, :cut])
            assert not torch.equal(old[:, cut:], new[:, cut:])


@pytest.mark.parametrize("name", VARIANTS)
@torch.no_grad()
def test_what_is_causal_does_not_know_how_long_the_recording_is(name: str) -> None:
    model, x = network(name), inputs()
    whole = model.probabilities(x)
    for n_frames in (1, 2, 40, T - 1):
        torch.testing.assert_close(model.probabilities(x[:, :n_frames]), whole[:, :n_frames], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", VARIANTS)
@torch.no_grad()
def test_what_is_not_causal_sees_the_future(name: str) -> None:
    model, x = network(name, causal=False), inputs()
    changed = x.clone()
    changed[:, 50:] = 5 * inputs(seed=9)[:, 50:]
    before, after = model.probabilities(x), model.probabilities(changed)
    assert not torch.equal(before[:, 49], after[:, 49])


@every_kind
@torch.no_grad()
def test_the_past_is_seen(name: str, causal: bool) -> None:
    model, x = network(name, causal), inputs()
    changed = x.clone()
    changed[:, 40] += 3.0
    before, after = model.probabilities(x), model.probabilities(changed)
    assert not torch.equal(before[:, 42:], after[:, 42:])


@every_kind
@torch.no_grad()
def test_sequences_of_a_batch_do_not_mix(name: str, causal: bool) -> None:
    model, x = network(name, causal), inputs(3)
    together = model.probabilities(x)
    for row in range(3):
        torch.testing.assert_close(together[row], model.probabilities(x[row : row + 1])[0], rtol=0, atol=1e-12)


@every_kind
def test_an_unknown_value_is_filled_and_every_weight_learns(name: str, causal: bool) -> None:
    model, x = network(name, causal), inputs()
    with torch.no_grad():
        model.weight("scaler.fill").copy_(torch.arange(5) / 5)
    unknown = x.clone()
    unknown[:, 10:30, 2] = unknown[:, 50] = float("nan")
    filled = torch.where(torch.isnan(unknown), model.weight("scaler.fill"), unknown)
    with torch.no_grad():
        assert torch.equal(model.probabilities(unknown), model.probabilities(filled))
    sum(t.square().sum() for stage in model.stages(unknown) for t in stage.values()).backward()  # type: ignore[union-attr]
    for label, parameter in model.named_parameters():
        assert parameter.grad is not None, label
        assert torch.isfinite(parameter.grad).all(), label


@pytest.mark.parametrize(("name", "causal"), [p for p in PAIRS if p[0] not in ("lstm", "gru")])
@torch.no_grad()
def test_multiply_adds_are_what_torch_counts(name: str, causal: bool) -> None:
    """Dense layers exactly. Attention goes in blocks here, and masked keys cost as well; a step would skip them."""
    model = network(name, causal)
    n_frames = 2 * SMALLEST_BLOCK
    with FlopCounterMode(display=False) as counter:
        model.stages(inputs(1, n_frames))
    blocks = 0
    for attention in (m for m in model.modules() if isinstance(m, LocalAttention)):
        size = max(attention.reach, SMALLEST_BLOCK)
        padded = -(-n_frames // size) * size
        blocks += 2 * padded * size * (2 if causal else 3) * attention.query.out_features
    dense = model.multiply_adds - model.context_multiply_adds
    counted = counter.get_total_flops() / 2 - blocks
    # conv1d's first layers also run over the padding before the recording: a window once, not per frame.
    extra = 1.0 if VARIANTS[name]["kind"] != "conv1d" else 2.5
    assert dense * n_frames <= counted <= dense * n_frames * extra


@pytest.mark.parametrize(("name", "gates"), [("lstm", 4), ("gru", 3)])
def test_cells_cost_their_gates_in_both_directions(name: str, gates: int) -> None:
    """torch counts no recurrent cell: by hand, two layers of 8 on 5 features, and 5 outputs."""
    assert network(name).multiply_adds == gates * 8 * (5 + 8 + 8 + 8) + 5 * 8
    assert network(name, causal=False).multiply_adds == 2 * gates * 8 * (5 + 8 + 16 + 8) + 5 * 16


def test_attention_costs_what_it_sees() -> None:
    for causal, seen in ((True, 13), (False, 2 * 6 + 1)):
        model = network("self-attention", causal)
        assert model.context_multiply_adds == 2 * (2 * seen * 8)


@torch.no_grad()
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("reach", [0, 1, 31, 32, 45])
@pytest.mark.parametrize("n_frames", [1, 33, 100])
@pytest.mark.parametrize("distance_bias", [False, True])
def test_attention_in_blocks_is_attention_with_a_mask(
    causal: bool, reach: int, n_frames: int, distance_bias: bool
) -> None:
    torch.manual_seed(0)
    layer = LocalAttention(6, 4, 8, 5, heads=2, reach=reach, causal=causal, distance_bias=distance_bias).double()
    query_input, value_input = torch.randn(2, n_frames, 6).double(), torch.randn(2, n_frames, 4).double()
    q, k, v = (
        x.unflatten(2, (2, 4)).transpose(1, 2)
        for x in (layer.query(query_input), layer.key(query_input), layer.value(value_input))
    )
    distance = torch.arange(n_frames)[:, None] - torch.arange(n_frames)
    hidden = (distance.abs() > reach) | ((distance < 0) & causal)
    scores = q @ k.transpose(-1, -2) / 2
    if distance_bias:
        scores = scores - torch.tensor([0.5, 0.25])[:, None, None] * distance.abs()
    weights = torch.softmax(scores.masked_fill(hidden, -torch.inf), -1)
    expected = layer.output((weights @ v).transpose(1, 2).flatten(2))
    torch.testing.assert_close(layer(query_input, value_input), expected, rtol=0, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("window", "stride"), [(44, 2), (25, 1), (70, 3)])
def test_conv1d_is_a_network_on_windows(causal: bool, window: int, stride: int) -> None:
    """The slow way: cut a window around every frame, convolve, take the larger of each pair, flatten."""
    model = network("conv1d", causal, window_frames=window, window_stride=stride)
    x, reach = inputs(), window // stride * stride
    found = model.trunk(x)[0]
    padded = nn.functional.pad(x[0], (0, 0, 2 * reach, reach))
    for t in (0, 1, 17, T - 1):
        if causal:  # the newest sample is the frame itself
            cut = padded[t + 2 * reach - model.span : t + 2 * reach + 1 : stride]  # type: ignore[operator]
        else:
            cut = padded[t + reach : t + 3 * reach + 1 : stride]
        for layer in model.convolutions:  # type: ignore[union-attr]
            taps = torch.stack([cut[i : i + len(cut) - 2].T for i in range(3)], 0)  # kernel 3
            y = torch.relu(nn.functional.linear(taps.permute(2, 0, 1).flatten(1), layer.weight, layer.bias))
            cut = y[: len(y) // 2 * 2].unflatten(0, (-1, 2)).amax(1)
        torch.testing.assert_close(found[t], cut.flatten(), rtol=0, atol=1e-9)


@torch.no_grad()
@pytest.mark.parametrize("causal", [True, False])
def test_the_fully_connected_network_sees_its_window(causal: bool) -> None:
    model, x = network("fully-connected", causal, window_frames=6, window_stride=2), inputs()
    before = model.probabilities(x)
    changed = x.clone()
    changed[:, 40] += 3.0
    differs = torch.nonzero((before != model.probabilities(changed))[0].any(-1)).flatten().tolist()
    assert differs == ([40, 42, 44, 46] if causal else [34, 36, 38, 40, 42, 44, 46])


@pytest.mark.parametrize("name", VARIANTS)
def test_a_fresh_network_starts_in_doubt(name: str) -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        probs = make_model(recipe(**VARIANTS[name]), N_FEATURES, HEADS).eval().probabilities(inputs().float())
    assert float(probs[..., :3].mean((0, 1)).min()) > 0.08
    assert float(probs.max()) < 0.98


@pytest.mark.parametrize("name", VARIANTS)
def test_tensors_have_dotted_names_and_the_scaler(name: str) -> None:
    model = network(name)
    tensors = model.tensors()
    assert {"scaler.fill", "scaler.shift", "scaler.scale", "scaler.clip"} <= set(tensors)
    assert all(t.dtype == np.float32 and "/" not in n for n, t in tensors.items())
    assert sum(t.size for t in tensors.values()) >= sum(p.numel() for p in model.parameters())


def test_trees_are_no_network() -> None:
    with pytest.raises(SettingError, match="no network"):
        make_model(recipe(kind="gradient-boosting"), N_FEATURES, HEADS)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"kind": "resnet"}, "model.kind"),
        ({"causal": False, "lookahead_frames": 3}, "lookahead_frames"),
        ({"kind": "ms-tcn", "causal": False, "kernel": 4}, "odd"),
        ({"kind": "conv1d", "window_frames": 20}, "too short"),
        ({"kind": "self-attention", "channels": 9}, "multiple"),
        ({"stages": 0}, "model.stages"),
    ],
)
def test_what_cannot_be_is_an_error_that_says_why(model: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingError, match=said):
        make_model(recipe(**model), N_FEATURES, HEADS)


@pytest.mark.parametrize("kind", ["conv1d", "fully-connected"])
@torch.no_grad()
def test_a_fresh_network_of_rectifiers_passes_features_of_0_to_1_on(kind: str) -> None:
    torch.manual_seed(0)
    model = make_model(recipe(kind=kind, channels=32, causal=False), 20, HEADS).eval()
    features = 0.5 + 0.2 * torch.randn(1, 400, 20)
    # With torch's own initial weights the deviation over time is a tenth of this.
    assert model.trunk(features).std(1).mean() > 0.05
