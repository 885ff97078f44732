"""The offline network: causal, a fresh start is zero padding, and its sizes are what NetworkSpec says."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from rtseg.bundle.bundle import load_bundle
from rtseg.bundle.network import Cell, NetworkSpec
from rtseg.errors import SettingError
from rtseg.model import tcn
from rtseg.model.tcn import MultitaskTCN
from rtseg.recordings.heads import Head
from tests.model.recurrence import plain

HEADS = (
    Head("task1", ("a", "b", "c", "d"), ("a", "b", "c"), "task1"),
    Head("face", ("other", "face"), ("face",), "task3"),
)
SMALL = NetworkSpec(5, 6, 3, (1, 2, 4), 4, (1, 3), HEADS)


def network(spec: NetworkSpec = SMALL, seed: int = 0, dropout: float = 0.0) -> MultitaskTCN:
    """Random weights of size 1 in float64, so that every path through the network shows."""
    torch.manual_seed(seed)
    model = MultitaskTCN(spec, dropout).double()
    with torch.no_grad():
        for name, shape in spec.shapes().items():
            if name.endswith(("weight", "bias")):
                model.weight(name).copy_(torch.randn(shape, dtype=torch.float64) * 0.5)
        model.weight("scaler.clip").fill_(6.0)
    return model.eval()


def inputs(n_frames: int, batch: int = 1, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, n_frames, SMALL.n_features, generator=generator, dtype=torch.float64)


def naive_probabilities(model: MultitaskTCN, features: np.ndarray) -> np.ndarray:
    """The module docstring of rtseg.bundle.network, word for word, in numpy: frame by frame, zeros before the first."""
    spec, w = model.spec, {n: model.weight(n).detach().numpy() for n in model.spec.shapes()}

    def softmax(x: np.ndarray) -> np.ndarray:
        e = np.exp(x - x.max())
        return np.asarray(e / e.sum())

    def residual(name: str, xs: list[np.ndarray], dilations: tuple[int, ...]) -> list[np.ndarray]:
        for layer, dilation in enumerate(dilations):
            ys = []
            for t, x in enumerate(xs):
                total = w[f"{name}.conv.bias"][layer].copy()
                for tap in range(spec.kernel):
                    past = t - (spec.kernel - 1 - tap) * dilation
                    if past >= 0:
                        total += xs[past] @ w[f"{name}.conv.weight"][layer, tap]
                ys.append(x + np.maximum(total, 0) @ w[f"{name}.mix.weight"][layer] + w[f"{name}.mix.bias"][layer])
            xs = ys
        return xs

    def sigmoid(x: np.ndarray) -> np.ndarray:
        return np.asarray(1 / (1 + np.exp(-x)))

    def cell_states(name: str, cell: Cell) -> list[np.ndarray]:
        states: list[np.ndarray] = []
        for t, row in enumerate(z):
            codes = [
                np.maximum(np.array([np.sign(c) * row[abs(c) - 1] for c in view]) @ w[f"{name}.encode.weight"]
                           + w[f"{name}.encode.bias"], 0)
                for view in spec.views or [tuple(range(1, spec.n_features + 1))]
            ]  # fmt: skip
            e = np.concatenate([np.mean(codes, 0), np.max(codes, 0) - np.mean(codes, 0)]) if spec.views else codes[0]
            before = states[t - cell.period] if t >= cell.period else np.zeros(cell.hidden)
            given = np.split(e @ w[f"{name}.enter.weight"] + w[f"{name}.enter.bias"], 3)
            kept = np.split(before @ w[f"{name}.recur.weight"] + w[f"{name}.recur.bias"], 3)
            update = sigmoid(given[1] + kept[1])
            new = np.tanh(given[2] + sigmoid(given[0] + kept[0]) * kept[2])
            states.append((1 - update) * new + update * before)
        return states

    z = np.where(np.isnan(features), w["scaler.fill"], features)
    z = np.clip((z - w["scaler.shift"]) * w["scaler.scale"], -w["scaler.clip"], w["scaler.clip"])
    parts = []
    if spec.channels:
        parts.append(residual("trunk", [row @ w["input.weight"] + w["input.bias"] for row in z], spec.dilations))
    parts += [cell_states(f"cell.{i}", cell) for i, cell in enumerate(spec.cells)]
    h = [np.concatenate(at) for at in zip(*parts, strict=True)]
    columns = []
    for head in spec.heads:
        name = f"head.{head.name}"
        q = [x @ w[f"{name}.first.weight"] + w[f"{name}.first.bias"] for x in h]
        r = [
            np.concatenate([softmax(a), x]) @ w[f"{name}.enter.weight"] + w[f"{name}.enter.bias"]
            for a, x in zip(q, h, strict=True)
        ]
        r = residual(name, r, spec.head_dilations)
        scale, shift = w[f"{name}.calibration.scale"], w[f"{name}.calibration.shift"]
        refined = [a + b @ w[f"{name}.leave.weight"] + w[f"{name}.leave.bias"] for a, b in zip(q, r, strict=True)]
        columns.append(np.array([softmax(x * scale + shift) for x in refined]))
    return np.concatenate(columns, axis=1)


VIEWS = ((1, 2, 3, 4, 5), (2, 1, 3, -5, 4))
WITH_CELLS = replace(SMALL, cells=(Cell(4, 7, 2), Cell(3, 5, 3)), views=VIEWS)
CELL_ALONE = replace(SMALL, channels=0, dilations=(), head_dilations=(2,), cells=(Cell(4, 7, 2),))


@pytest.mark.parametrize("spec", [SMALL, WITH_CELLS, CELL_ALONE], ids=["convolutions", "with cells", "a cell alone"])
def test_it_computes_what_the_network_module_says(spec: NetworkSpec) -> None:
    model = network(spec)
    with torch.no_grad():
        for name in ("scaler.fill", "scaler.shift", "head.task1.calibration.shift"):
            model.weight(name).copy_(torch.randn(SMALL.shapes()[name]))
        for name in ("scaler.scale", "head.task1.calibration.scale"):
            model.weight(name).copy_(torch.rand(SMALL.shapes()[name]) + 0.5)
        model.weight("scaler.clip").fill_(1.5)
        x = inputs(40)
        x[0, 3:9, 2] = float("nan")
        x[0, 20] = float("nan")
        found = model.probabilities(x)[0].numpy()
    np.testing.assert_allclose(found, naive_probabilities(model, x[0].numpy()), atol=1e-12)
    np.testing.assert_allclose(found[:, :4].sum(1), 1.0)
    np.testing.assert_allclose(found[:, 4:].sum(1), 1.0)


@torch.no_grad()
@pytest.mark.parametrize("spec", [SMALL, WITH_CELLS])
def test_the_future_changes_nothing(spec: NetworkSpec) -> None:
    model, x = network(spec), inputs(60)
    before = model.probabilities(x)
    for cut in (1, 17, 59):
        changed = x.clone()
        changed[:, cut:] = inputs(60, seed=9)[:, cut:] * 5
        after = model.probabilities(changed)
        assert torch.equal(before[:, :cut], after[:, :cut])
        assert not torch.equal(before[:, cut:], after[:, cut:])


@torch.no_grad()
def test_a_crop_does_not_know_how_long_it_is() -> None:
    """No normalisation over time: a prefix gets what it gets within the whole."""
    model, x = network(), inputs(60)
    whole = model.probabilities(x)
    for n_frames in (1, 2, 13, 59):
        torch.testing.assert_close(model.probabilities(x[:, :n_frames]), whole[:, :n_frames], rtol=0, atol=1e-13)


@torch.no_grad()
def test_the_receptive_field_by_brute_force() -> None:
    """Where a frame's change stops being seen: exactly receptive_field frames, and not one fewer."""
    for spec in (SMALL, replace(SMALL, kernel=2), replace(SMALL, dilations=(2, 5), head_dilations=())):
        model, n_frames, at = network(spec), spec.receptive_field + 20, 8
        x = inputs(n_frames)
        changed = x.clone()
        changed[:, at] += 3.0
        differs = (model.probabilities(x) != model.probabilities(changed))[0].any(-1)
        seen = torch.nonzero(differs).flatten()
        assert (int(seen[0]), int(seen[-1])) == (at, at + spec.receptive_field - 1)


@torch.no_grad()
def test_a_fresh_start_is_zero_padding_of_every_layer() -> None:
    """What came a receptive field ago is forgotten: only then may a crop's beginning stand for a stream's."""
    model, x = network(), inputs(80)
    field = SMALL.receptive_field
    late = model.probabilities(x[:, 80 - field - 10 :])
    torch.testing.assert_close(late[:, field - 1 :], model.probabilities(x)[:, -11:], rtol=0, atol=1e-13)


@torch.no_grad()
def test_sequences_of_a_batch_do_not_mix() -> None:
    model, x = network(), inputs(30, batch=3)
    together = model.probabilities(x)
    for row in range(3):
        torch.testing.assert_close(together[row], model.probabilities(x[row : row + 1])[0], rtol=0, atol=1e-13)


@torch.no_grad()
@pytest.mark.parametrize(
    "spec",
    [
        SMALL,
        replace(SMALL, kernel=5, channels=9),
        replace(SMALL, heads=HEADS[1:], head_dilations=(1,)),
        replace(SMALL, dilations=(1,)),
        WITH_CELLS,
        CELL_ALONE,
    ],
)
def test_multiply_adds_are_what_torch_counts(spec: NetworkSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    # Torch counts what torch computes: the compiled unit's formulas (`test_gru_autograd` holds it to them).
    monkeypatch.setattr(tcn, "gru", plain.gru)
    model = network(spec)
    with FlopCounterMode(display=False) as counter:
        model.probabilities(inputs(1))
    # A generator of several parts gives each part's logits as well, for training only.
    alone = sum(len(h.classes) for h in spec.heads) * spec.width if len(spec.cells) + (spec.channels > 0) > 1 else 0
    assert counter.get_total_flops() == 2 * (spec.multiply_adds + alone)
    sizes = [np.prod(shape) for name, shape in spec.shapes().items() if name.endswith("weight")]
    again = sum((len(spec.views) - 1) * spec.n_features * cell.encoder for cell in spec.cells if spec.views)
    assert sum(sizes) + again == spec.multiply_adds


def test_parameters_and_buffers_are_the_specs_tensors() -> None:
    model = MultitaskTCN(SMALL)
    parameters = {n.replace("/", "."): tuple(p.shape) for n, p in model.named_parameters()}
    kept = {n.replace("/", "."): tuple(t.shape) for n, t in model.state_dict().items()}
    buffers = {n: shape for n, shape in kept.items() if n not in parameters}
    assert {**parameters, **buffers} == SMALL.shapes()
    assert set(buffers) == {n for n in SMALL.shapes() if n.startswith("scaler") or ".calibration." in n}


def test_tensors_go_out_and_in_again() -> None:
    torch.manual_seed(1)
    one, two = MultitaskTCN(SMALL), MultitaskTCN(SMALL)
    tensors = one.tensors()
    assert {n: t.shape for n, t in tensors.items()} == SMALL.shapes()
    assert all(t.dtype == np.float32 for t in tensors.values())
    two.load_weights(tensors)
    assert all(t.tobytes() == tensors[n].tobytes() for n, t in two.tensors().items())
    tensors["input.bias"][:] = 7  # a copy: the network keeps its own
    assert not (one.tensors()["input.bias"] == 7).any()


def test_a_bundles_weights_fit(tiny_bundle: object) -> None:
    bundle = load_bundle(str(tiny_bundle))
    model = MultitaskTCN(bundle.network)
    model.load_weights(bundle.weights)
    assert all(t.tobytes() == bundle.weights[n].tobytes() for n, t in model.tensors().items())


def test_a_fresh_network_starts_in_doubt() -> None:
    """Small answers at the start: no class near 0 or 1, so that the loss begins near the logarithm of the classes."""
    torch.manual_seed(0)
    spec = replace(SMALL, n_features=40, channels=32, dilations=tuple(2**i for i in range(8)), head_channels=16)
    with torch.no_grad():
        probs = MultitaskTCN(spec).eval().probabilities(torch.randn(2, 200, 40))
    assert float(probs[..., :4].mean(dim=(0, 1)).min()) > 0.1
    assert float(probs[..., :4].max()) < 0.7


def test_an_unknown_value_is_filled_and_carries_no_gradient_trouble() -> None:
    model = network()
    x = inputs(10)
    x[0, 4] = float("nan")
    refined = model.stages(x)[-1]
    sum(t.sum() for t in refined.values()).backward()  # type: ignore[union-attr]
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    filled = x.clone()
    filled[0, 4] = model.weight("scaler.fill")
    with torch.no_grad():
        assert torch.equal(model.probabilities(x), model.probabilities(filled))


def test_dropout_takes_whole_channels_in_training_and_nothing_otherwise() -> None:
    model = network(dropout=0.5)
    ones = torch.ones(3, 20, 6, dtype=torch.float64)
    assert torch.equal(model.drop_channels(ones, 0.5), ones)
    model.train()
    dropped = model.drop_channels(ones, 0.5)
    assert set(dropped.unique().tolist()) <= {0.0, 2.0}
    assert (dropped == dropped[:, :1]).all()
    assert len({tuple(row) for row in dropped[:, 0].tolist()}) > 1
    x = inputs(20)
    with torch.no_grad():
        assert not torch.equal(model.probabilities(x), model.probabilities(x))
        model.eval()
        assert torch.equal(model.probabilities(x), model.probabilities(x))


def test_heads_share_the_trunk_and_nothing_else() -> None:
    model, x = network(), inputs(20)
    with torch.no_grad():
        before = model.probabilities(x)
        for name, part in itertools.product(("enter", "first", "leave"), ("weight", "bias")):
            model.weight(f"head.task1.{name}.{part}").add_(1.0)
        after = model.probabilities(x)
    assert torch.equal(before[..., 4:], after[..., 4:])
    assert not torch.equal(before[..., :4], after[..., :4])


@torch.no_grad()
def test_every_phase_alone_is_what_it_is_among_the_others() -> None:
    """Where every distance in time is even, even and odd frames never meet: training may leave one of them out."""
    spec = replace(SMALL, dilations=(2, 4), head_dilations=(2,), cells=(Cell(4, 7, 2), Cell(3, 5, 4)), views=VIEWS)
    model, x = network(spec), inputs(61)
    whole = model.stages(x)
    model.frame_stride = 2
    for phase in (0, 1):
        for apart, together in zip(model.stages(x[:, phase::2]), whole, strict=True):
            for head in HEADS:
                torch.testing.assert_close(apart[head.name], together[head.name][:, phase::2], rtol=0, atol=1e-12)


@torch.no_grad()
def test_the_generators_logits_are_the_mean_of_its_parts() -> None:
    stages = network(WITH_CELLS).stages(inputs(30))
    assert len(stages) == 3 + 2
    for head in HEADS:
        parts = torch.stack([stage[head.name] for stage in stages[:3]])
        torch.testing.assert_close(parts.mean(0), stages[3][head.name], rtol=0, atol=1e-12)


@torch.no_grad()
def test_names_of_animals_do_not_matter_to_a_cell_that_forgets_them() -> None:
    twice = ((1, 2, 3, 4, 5), (2, 1, 3, -5, -4))  # a view that is its own inverse
    model = network(replace(CELL_ALONE, views=twice))
    columns, signs = np.abs(twice[1]) - 1, torch.tensor(np.sign(twice[1]))
    x = inputs(30)
    # But for the order of a sum: each view of the features is a view of the weights' rows.
    torch.testing.assert_close(model.probabilities(x), model.probabilities(x[..., columns] * signs), rtol=0, atol=1e-14)


def test_recurrent_cells_see_no_future() -> None:
    with pytest.raises(SettingError, match="recurrent cells are causal"):
        MultitaskTCN(WITH_CELLS, causal=False)
