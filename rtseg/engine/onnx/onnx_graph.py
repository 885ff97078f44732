"""The network's step as ONNX, from a bundle's weights and without torch: what ONNX Runtime and TensorRT build from.

Scaler, trunk, heads, calibration and softmax are all inside; caches go in and come out, the graph holds no state.
Two forms: `shifted` (caches concatenated and cut; runs anywhere) and `in_place` (rings that opset 24's TensorScatter
writes into, each stream at its own phase). Builds only; running it is an engine's job.

In place, a step writes the one row of each ring that no later step reads before it is written again. So a stream whose
frame number is left alone may be stepped along with a batch, with anything for features, and loses nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from rtseg.bundle.network import Cell, NetworkSpec
from rtseg.engine.onnx import onnx_lint
from rtseg.engine.onnx.onnx_nodes import F32, Nodes, Precision
from rtseg.errors import EngineError, needs_extra

Form = Literal["shifted", "in_place"]
FORMS: tuple[Form, ...] = ("shifted", "in_place")

FEATURES, FRAME, PROBABILITIES = "features", "frame", "probabilities"
OPSET: Mapping[Form, int] = {"shifted": 18, "in_place": 24}
"""18: Split into equal parts. 24: TensorScatter."""
OPEN = None
"""A batch that is fixed only when the model is loaded; its name in the model is `row_name(1)`."""
NEVER = -1e4
"""The logit of a class that a head does not have: its exponential is 0, and it fits float16."""


def past_name(layer: int) -> str:
    """The input that holds a layer's cache."""
    return f"past.{layer}"


def present_name(layer: int) -> str:
    """The output that holds it one frame later; for `in_place` the same memory may be bound to both."""
    return f"present.{layer}"


def row_name(copies: int) -> str:
    """What an open batch calls a dimension of so many rows a stream; whoever loads the model gives each its size."""
    return "B" if copies == 1 else f"{copies}*B"


def cache_shapes(spec: NetworkSpec, form: Form, batch: int) -> list[tuple[int, ...]]:
    """Shape of every layer's cache: the trunk's layers, the heads', the cells; zeros are a fresh stream.

    shifted: (rows, (K-1)*dilation, C), the oldest input first. in_place: rings (rows, 1, S, C) with
    S = (K-1)*dilation + 1, input t at t modulo S. rows: B in the trunk, H*B in the heads' layers: for head h of stream
    b row h*B + b, and in place b*H + h, so that a stream's rows lie together wherever the batch ends. A cell's cache
    holds its states: (B, period, R), and in place (B, 1, period + 1, R), so that the new one is not written where the
    old one is read.
    """
    rows = [(batch, spec.channels, d) for d in spec.dilations]
    rows += [(len(spec.heads) * batch, spec.head_channels, d) for d in spec.head_dilations]
    reach = spec.kernel - 1
    cells = [(batch, cell.period, cell.hidden) for cell in spec.cells]
    if form == "shifted":
        return [*((n, reach * d, c) for n, c, d in rows), *cells]
    return [*((n, 1, reach * d + 1, c) for n, c, d in rows), *((n, 1, period + 1, r) for n, period, r in cells)]


def cache_dtypes(spec: NetworkSpec, precision: Precision = "fp32") -> list[type]:
    """numpy's type of every layer's cache, in the order of `cache_shapes`.

    Inputs of layers are only ever read by products, which round them to float16 anyway; a cell's state stays float32.
    """
    layers: type = np.float32 if precision == "fp32" else np.float16
    return [layers] * (len(spec.dilations) + len(spec.head_dilations)) + [np.float32] * len(spec.cells)


def step_model(
    spec: NetworkSpec,
    weights: Mapping[str, F32],
    form: Form = "in_place",
    batch: int | None = 1,
    precision: Precision = "fp32",
    scales: Mapping[str, float] | None = None,
    *,
    halves: bool = False,
    spelled: bool = False,
) -> Any:
    """An onnx.ModelProto of one step for a static batch of B streams (OPEN: whatever it is loaded for), checked.

    Inputs: features (B, F) float32 raw, NaN = not known; for `in_place` frame (B,) int64, steps since each stream's
    reset; past.0 ... (see `cache_shapes`, `cache_dtypes`). Outputs: probabilities (B, P), present.0 ... . precision:
    what products read; scales (for int8), halves, spelled: see `onnx_nodes.Nodes`. Raises RtsegError where onnx is
    missing, EngineError for int8 without scales, scales of products that the network has not, or what `onnx_lint` has
    against a model in place.
    """
    model = _built(spec, weights, form, batch, precision, scales, halves, spelled).model()
    if form == "in_place":
        onnx_lint.require(model)
    return model


def watched_model(spec: NetworkSpec, weights: Mapping[str, F32], batch: int) -> tuple[Any, dict[str, list[str]]]:
    """The float32 step in place with what enters every product as further outputs, and their names by product."""
    graph = _built(spec, weights, "in_place", batch, "fp32", None)
    model = graph.model()
    seen = {tensor for tensors in graph.products.values() for tensor in tensors}
    for tensor in sorted(seen):
        model.graph.output.append(graph.onnx.helper.make_tensor_value_info(tensor, graph.onnx.TensorProto.FLOAT, None))
    return model, graph.products


def product_names(spec: NetworkSpec) -> list[str]:
    """Names of all products of a step, in order: what int8 scales are given for."""
    weights = {name: np.zeros(shape, np.float32) for name, shape in spec.shapes().items()}
    return list(_built(spec, weights, "in_place", 1, "fp32", None).products)


def _built(
    spec: NetworkSpec,
    weights: Mapping[str, F32],
    form: Form,
    batch: int | None,
    precision: Precision,
    scales: Mapping[str, float] | None,
    halves: bool = False,
    spelled: bool = False,
) -> _Graph:
    try:
        import onnx
    except ImportError:
        raise needs_extra("onnx", "onnx", "the network's step as ONNX") from None
    if precision == "int8" and not scales:
        raise EngineError("an int8 step needs the scales of its products; got none: rtseg calibrate --int8 finds them")
    graph = _Graph(onnx, spec, weights, form, batch, precision, scales, halves, spelled)
    graph.step()
    strangers = set(scales or ()) - set(graph.products)
    if strangers:
        raise EngineError(
            f"int8 scales name products that the network has not: {', '.join(sorted(strangers))}; it has "
            f"{', '.join(graph.products)}: calibrate the bundle anew"
        )
    return graph


class _Graph(Nodes):
    """A network's step as nodes."""

    def __init__(
        self,
        onnx: Any,
        spec: NetworkSpec,
        weights: Mapping[str, F32],
        form: Form,
        batch: int | None,
        precision: Precision,
        scales: Mapping[str, float] | None,
        halves: bool,
        spelled: bool,
    ) -> None:
        super().__init__(onnx, precision, scales, halves, spelled)
        self._spec, self._weights, self._form = spec, weights, form
        self._batch = -1 if batch is None else batch  # -1: a reshape finds it out
        self._shapes, self._dtypes = cache_shapes(spec, form, 1), cache_dtypes(spec, precision)
        self._taps, self._writes = self._positions() if form == "in_place" else ([], [])

    def step(self) -> None:
        """All nodes, from the features to the probabilities."""
        spec, weights = self._spec, self._weights
        z, parts = self.scaled(), []
        if spec.channels:
            x = self.weighted(z, "input")
            for layer in range(len(spec.dilations)):
                conv, mix = (weights[f"trunk.{part}.weight"][layer] for part in ("conv", "mix"))
                conv_bias, mix_bias = (weights[f"trunk.{part}.bias"][layer] for part in ("conv", "mix"))
                x = self.residual(layer, f"trunk.{layer}", x, conv, conv_bias, mix, mix_bias)
            parts.append(x)
        if spec.cells:
            views = self.views(z)
            parts += [self.cell(number, views) for number in range(len(spec.cells))]
        self.heads(self.node("Concat", *parts, axis=1) if len(parts) > 1 else parts[0])

    def scaled(self) -> str:
        """Raw features to scaled and clipped ones."""
        fill, shift, scale = (self.constant(self._weights[f"scaler.{n}"]) for n in ("fill", "shift", "scale"))
        clip = self._weights["scaler.clip"][0]
        known = self.node("Where", self.node("IsNaN", FEATURES), fill, FEATURES)
        z = self.node("Mul", self.node("Sub", known, shift), scale)
        return self.node("Clip", z, self.constant(-clip), self.constant(clip))

    def weighted(self, x: str, name: str) -> str:
        """x through the linear map of this name."""
        return self.linear(x, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"], name)

    def views(self, z: str) -> list[str]:
        """Scaled features (B, F) as they would be had the animals other names."""
        found = []
        for view in self._spec.views:
            traded = self.node("Gather", z, self.constant(np.abs(view) - 1, np.int64), axis=1)
            found.append(self.node("Mul", traded, self.constant(np.sign(view))))
        return found or [z]

    def cell(self, number: int, views: list[str]) -> str:
        """A recurrent cell's new state (B, R), which replaces the one of a period ago in its cache."""
        name, spec = f"cell.{number}", self._spec.cells[number]
        e = [self.node("Relu", self.weighted(view, f"{name}.encode")) for view in views]
        entering = e[0]
        if self._spec.views:
            total = self.node("Sum", *e)
            mean = self.node("Mul", total, self.constant(1.0 / len(e)))
            above = self.node("Sub", self.node("Max", *e), mean)
            entering = self.node("Concat", mean, above, axis=1)
        layer = len(self._shapes) - len(self._spec.cells) + number
        before, write = self._read_state(layer, spec)
        given, kept = self.weighted(entering, f"{name}.enter"), self.weighted(before, f"{name}.recur")
        thirds = [spec.hidden] * 3
        (r, u, n), (kept_r, kept_u, kept_n) = self.split(given, thirds, 1), self.split(kept, thirds, 1)
        reset = self.node("Sigmoid", self.node("Add", r, kept_r))
        update = self.node("Sigmoid", self.node("Add", u, kept_u))
        new = self.node("Tanh", self.node("Add", n, self.node("Mul", reset, kept_n)))
        # (1 - u) * new + u * before
        state = self.node("Add", new, self.node("Mul", update, self.node("Sub", before, new)))
        self._write_state(layer, spec, state, write)
        return state

    def _read_state(self, layer: int, cell: Cell) -> tuple[str, str]:
        """A cell's state of a period ago (B, R), and for a ring where the new one goes (B,)."""
        past = past_name(layer)
        if self._form == "shifted":
            first = self.node("Gather", past, self.constant(0, np.int64), axis=1)
            return first, ""
        depth = self.constant(cell.period + 1, np.int64)
        write = self.node("Mod", FRAME, depth)
        read = self.node("Mod", self.node("Add", FRAME, self.constant(1, np.int64)), depth)
        state = self.node("GatherND", past, self._beyond_zero(self.reshape(read, self._batch, 1, 1)), batch_dims=1)
        return self.reshape(state, self._batch, cell.hidden), write

    def _write_state(self, layer: int, cell: Cell, state: str, write: str) -> None:
        past, present = past_name(layer), present_name(layer)
        if self._form == "in_place":
            update = self.reshape(state, self._batch, 1, 1, cell.hidden)
            self.node("TensorScatter", past, update, write, output=present, axis=2, mode="linear")
            return
        newest = self.reshape(state, self._batch, 1, cell.hidden)
        if cell.period == 1:
            self.node("Identity", newest, output=present)
            return
        start, stop, axis = (self.constant([i], np.int64) for i in (1, cell.period, 1))
        self.node("Concat", self.node("Slice", past, start, stop, axis), newest, output=present, axis=1)

    def residual(self, layer: int, name: str, x: str, conv: F32, conv_bias: F32, mix: F32, mix_bias: F32) -> str:
        """x + mix(relu(conv(x))): x (B, C) in the trunk; (H, B, G) in the heads, whose weights then lead with H."""
        *leading, _, channels = mix.shape
        taps = self._shift(layer, x) if self._form == "shifted" else self._scatter(layer, x)
        taps = self.reshape(taps, *leading, self._batch, self._spec.kernel * channels)
        y = self.linear(taps, conv.reshape(*leading, -1, channels), conv_bias, f"{name}.conv")
        return self.node("Add", x, self.linear(self.node("Relu", y), mix, mix_bias, f"{name}.mix"))

    def heads(self, h: str) -> None:
        """All refinement heads at once, batched over H; heads with fewer classes are padded to N and cut at the end."""
        spec, w, batch = self._spec, self._weights, self._batch
        names = [f"head.{head.name}" for head in spec.heads]
        n_classes = [len(head.classes) for head in spec.heads]
        n_heads, width, widest = len(names), spec.head_channels, max(n_classes)

        def padded(suffix: str, axis: int, value: float = 0.0) -> F32:
            """One weight of every head, (H, ...), with `axis` padded to N classes."""
            return np.stack([_pad(w[f"{name}.{suffix}"], axis, widest, value) for name in names])

        if not width:
            first = padded("first.weight", 1).transpose(1, 0, 2).reshape(spec.width, -1)
            x = self.linear(h, first, padded("first.bias", 0, NEVER).reshape(-1), "heads.first")
            q = self.swap(x, batch, n_heads, widest)
        else:
            q = self._refined(h, names, n_classes, padded)
        q = self.node("Mul", q, self.constant(padded("calibration.scale", 0, 1.0)[:, None]))
        q = self.node("Add", q, self.constant(padded("calibration.shift", 0)[:, None]))
        p = self.swap(self.node("Softmax", q, axis=-1), n_heads, batch, widest)
        p = self.reshape(p, batch, n_heads * widest)
        kept = [head * widest + c for head, n in enumerate(n_classes) for c in range(n)]
        self.node("Gather", p, self.constant(kept, np.int64), output=PROBABILITIES, axis=1)

    def _refined(self, h: str, names: list[str], n_classes: list[int], padded: Callable[..., F32]) -> str:
        """The refined logits (H, B, N) of all heads; padded: one weight of every head with an axis padded to N."""
        spec, w, batch = self._spec, self._weights, self._batch
        n_heads, width, widest = len(names), spec.head_channels, max(n_classes)
        enter = [w[f"{name}.enter.weight"] for name in names]  # each (n + D, G): first probabilities, then the trunk
        from_trunk = np.stack([e[n:] for e, n in zip(enter, n_classes, strict=True)])
        from_first = np.stack([_pad(e[:n], 0, widest, 0.0) for e, n in zip(enter, n_classes, strict=True)])
        # The first logits and what enters the refinement come from the trunk in one product: (D, H * (N + G)).
        both = np.concatenate((padded("first.weight", 1), from_trunk), axis=2).transpose(1, 0, 2)
        bias = np.concatenate((padded("first.bias", 0, NEVER), self._stacked("enter.bias")), axis=1)
        x = self.linear(h, both.reshape(spec.width, -1), bias.reshape(-1), "heads.first")
        q, r = self.split(self.swap(x, batch, n_heads, widest + width), [widest, width], 2)
        r = self.node("Add", r, self.product(self.node("Softmax", q, axis=-1), from_first, "heads.enter"))
        conv, conv_bias = self._stacked("conv.weight"), self._stacked("conv.bias")[:, :, None]
        mix, mix_bias = self._stacked("mix.weight"), self._stacked("mix.bias")[:, :, None]
        for i in range(len(spec.head_dilations)):
            layer = len(spec.dilations) + i
            r = self.residual(layer, f"heads.{i}", r, conv[:, i], conv_bias[:, i], mix[:, i], mix_bias[:, i])
        left = self.linear(r, padded("leave.weight", 1), padded("leave.bias", 0)[:, None], "heads.leave")
        return self.node("Add", q, left)

    def model(self) -> Any:
        """The checked model."""
        helper, float32 = self.onnx.helper, self.onnx.TensorProto.FLOAT
        info = helper.make_tensor_value_info

        def rows(copies: int = 1) -> int | str:
            return row_name(copies) if self._batch < 0 else copies * self._batch

        inputs = [info(FEATURES, float32, (rows(), self._spec.n_features))]
        if self._form == "in_place":
            inputs.append(info(FRAME, self.onnx.TensorProto.INT64, (rows(),)))
        outputs = [info(PROBABILITIES, float32, (rows(), self._spec.n_outputs))]
        caches = [
            (helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), (rows(copies), *rest))
            for dtype, (copies, *rest) in zip(self._dtypes, self._shapes, strict=True)
        ]
        inputs += [info(past_name(i), *cache) for i, cache in enumerate(caches)]
        outputs += [info(present_name(i), *cache) for i, cache in enumerate(caches)]
        graph = helper.make_graph(self.nodes, f"rtseg-step-{self._form}", inputs, outputs, self.constants)
        opsets = [helper.make_opsetid("", OPSET[self._form])]
        ir_version = helper.find_min_ir_version_for(opsets)
        model = helper.make_model(graph, opset_imports=opsets, ir_version=ir_version, producer_name="rtseg")
        self.onnx.checker.check_model(model, full_check=True)
        return model

    def _stacked(self, suffix: str) -> F32:
        """One weight of every head, (H, ...)."""
        return np.stack([self._weights[f"head.{head.name}.{suffix}"] for head in self._spec.heads])

    def _shift(self, layer: int, x: str) -> str:
        """Append x to a layer's cache, drop the oldest, and take the taps (rows, K, C) out of both."""
        _, depth, channels = self._shapes[layer]
        rows = self._rows(layer)
        window = self.node("Concat", past_name(layer), self._kept(layer, self.reshape(x, rows, 1, channels)), axis=1)
        axis, end = self.constant([1], np.int64), self.constant([depth + 1], np.int64)
        self.node("Slice", window, self.constant([1], np.int64), end, axis, output=present_name(layer))
        dilation = self.constant([(*self._spec.dilations, *self._spec.head_dilations)[layer]], np.int64)
        return self._recalled(layer, self.node("Slice", window, self.constant([0], np.int64), end, axis, dilation))

    def _scatter(self, layer: int, x: str) -> str:
        """Write x into a layer's ring at its stream's phase and gather the taps (rows, K, C), oldest first."""
        copies, _, _, channels = self._shapes[layer]
        batch, rows = self._batch, self._rows(layer)
        # Rings lie stream by stream, the heads' products head by head.
        newest = self.swap(self._kept(layer, x), copies, batch, channels) if copies > 1 else self._kept(layer, x)
        update, past = self.reshape(newest, rows, 1, 1, channels), past_name(layer)
        write, present = self._writes[layer], present_name(layer)
        self.node("TensorScatter", past, update, write, output=present, axis=2, mode="linear")
        taps = self.node("GatherND", present, self._taps[layer], batch_dims=1)
        if copies > 1:
            taps = self.swap(taps, batch, copies, self._spec.kernel * channels)
        return self._recalled(layer, taps)

    def _rows(self, layer: int) -> int:
        """Of a layer's cache; -1 where the batch is open."""
        return -1 if self._batch < 0 else self._batch * self._shapes[layer][0]

    def _beyond_zero(self, at: str) -> str:
        """Places (..., 1) in a ring as indices (..., 2) into (1, S): (0, at)."""
        return self.node("Mul", at, self.constant([0, 1], np.int64))

    def _kept(self, layer: int, x: str) -> str:
        return self.float16(x) if self._dtypes[layer] is np.float16 else x

    def _recalled(self, layer: int, x: str) -> str:
        return self.float32(x) if self._dtypes[layer] is np.float16 else x

    def _positions(self) -> tuple[list[str], list[str]]:
        """Per layer where its taps lie, (rows, K, 2) into (1, S), and where its newest is written, (rows,).

        Worked out for all layers of a block together: tap j of frame t lies at t + 1 + j * dilation, modulo S.
        """
        taps: list[str] = []
        writes: list[str] = []
        kernel, batch = self._spec.kernel, self._batch
        for dilations, copies in ((self._spec.dilations, 1), (self._spec.head_dilations, len(self._spec.heads))):
            if not dilations:
                continue
            steps = np.array(dilations)[:, None, None]  # (L, 1, 1)
            offsets = self.constant(1 + np.arange(kernel) * steps, np.int64)
            after = self.node("Add", self.reshape(FRAME, batch, 1), offsets)
            at = self.node("Mod", after, self.constant((kernel - 1) * steps + 1, np.int64))  # (L, B, K)
            rows = batch if batch < 0 else copies * batch
            if copies > 1:
                at = self.node("Tile", at, self.constant([1, 1, copies], np.int64))
                at = self.reshape(at, len(dilations), rows, kernel)
            newest = self.node("Gather", at, self.constant(kernel - 1, np.int64), axis=2)
            index = self._beyond_zero(self.reshape(at, len(dilations), rows, kernel, 1))
            for layer in range(len(dilations)):
                number = self.constant(layer, np.int64)
                taps.append(self.node("Gather", index, number, axis=0))
                writes.append(self.node("Gather", newest, number, axis=0))
        return taps, writes


def _pad(value: F32, axis: int, size: int, filling: float) -> F32:
    """`value` with `axis` filled up to `size`."""
    widths: Sequence[tuple[int, int]] = [(0, size - n if i == axis else 0) for i, n in enumerate(value.shape)]
    return np.pad(value, widths, constant_values=filling)
