"""The network's step as an ONNX model, made from a bundle's weights without torch; ONNX Runtime and TensorRT run it.

Scaler, trunk, heads, calibration and softmax are all inside; `step_interface` says what goes in and out. Two forms:
`shifted` (caches concatenated and cut; runs anywhere) and `in_place` (rings that opset 24's TensorScatter writes into,
each stream at its own phase). This file only builds; engines run.

In place, a step writes the one row of each ring that no later step reads before it is written again. So a stream
without a frame may be part of a batch, with any numbers for features: as long as its frame number stays, it loses
nothing.

The bytes of a bundle's `step.onnx` depend on the order in which nodes and constants are made here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from rtseg.bundle.network import Cell, NetworkSpec
from rtseg.engine.onnx import onnx_lint
from rtseg.engine.onnx.onnx_nodes import F32, GraphBuilder, Precision
from rtseg.engine.onnx.step_interface import (
    FEATURES,
    FRAME,
    PROBABILITIES,
    Form,
    cache_dtypes,
    cache_shapes,
    past_name,
    present_name,
    row_name,
)
from rtseg.errors import EngineError, needs_extra

OPSET: Mapping[Form, int] = {"shifted": 18, "in_place": 24}
"""The oldest opsets with all operators that a form needs; `in_place` needs 24 for TensorScatter."""
ABSENT_LOGIT = -1e4
"""The logit of a class that a head does not have: its exponential is 0, and it fits float16."""


def step_model(
    spec: NetworkSpec,
    weights: Mapping[str, F32],
    form: Form = "in_place",
    batch: int | None = 1,
    precision: Precision = "fp32",
    scales: Mapping[str, float] | None = None,
    *,
    store_float16: bool = False,
    emulate_float16: bool = False,
) -> Any:
    """One step for a batch of B streams as a checked onnx.ModelProto. batch: B; OPEN = fixed when the model is loaded.

    Inputs: features (B, F) float32 raw, NaN = not known; for `in_place` frame (B,) int64, steps since each stream's
    reset; past.0 ... (see `cache_shapes`, `cache_dtypes`). Outputs: probabilities (B, P), present.0 ... . precision:
    of what products read; scales (for int8), store_float16, emulate_float16: see `onnx_nodes.GraphBuilder`. Raises
    RtsegError where onnx is missing, EngineError for int8 without scales, for scales of products that the network has
    not, and for a model in place that `onnx_lint` refuses.
    """
    model = _build_graph(spec, weights, form, batch, precision, scales, store_float16, emulate_float16).model()
    if form == "in_place":
        onnx_lint.require_supported(model)
    return model


def instrumented_model(spec: NetworkSpec, weights: Mapping[str, F32], batch: int) -> tuple[Any, dict[str, list[str]]]:
    """The float32 step in place with the inputs of all products as further outputs, and their names by product.

    For finding the ranges of int8.
    """
    graph = _build_graph(spec, weights, "in_place", batch, "fp32", None)
    model = graph.model()
    seen = {tensor for tensors in graph.products.values() for tensor in tensors}
    for tensor in sorted(seen):
        model.graph.output.append(graph.onnx.helper.make_tensor_value_info(tensor, graph.onnx.TensorProto.FLOAT, None))
    return model, graph.products


def product_names(spec: NetworkSpec) -> list[str]:
    """Names of all products of a step, in order. An int8 step needs a scale for each."""
    weights = {name: np.zeros(shape, np.float32) for name, shape in spec.shapes().items()}
    return list(_build_graph(spec, weights, "in_place", 1, "fp32", None).products)


def _build_graph(
    spec: NetworkSpec,
    weights: Mapping[str, F32],
    form: Form,
    batch: int | None,
    precision: Precision,
    scales: Mapping[str, float] | None,
    store_float16: bool = False,
    emulate_float16: bool = False,
) -> _Graph:
    try:
        import onnx
    except ImportError:
        raise needs_extra("onnx", "onnx", "the network's step as ONNX") from None
    if precision == "int8" and not scales:
        raise EngineError("an int8 step needs the scales of its products; got none: rtseg calibrate --int8 finds them")
    graph = _Graph(onnx, spec, weights, form, batch, precision, scales, store_float16, emulate_float16)
    graph.step()
    # Scales of another network would leave products in float16 without anybody noticing.
    unknown = set(scales or ()) - set(graph.products)
    if unknown:
        raise EngineError(
            f"int8 scales name products that the network has not: {', '.join(sorted(unknown))}; it has "
            f"{', '.join(graph.products)}: calibrate the bundle anew"
        )
    return graph


class _Graph(GraphBuilder):
    """The nodes of one network's step. Shape letters are the network's; N is the number of classes of the widest head.

    Methods add nodes and return the name of their result.
    """

    def __init__(
        self,
        onnx: Any,
        spec: NetworkSpec,
        weights: Mapping[str, F32],
        form: Form,
        batch: int | None,
        precision: Precision,
        scales: Mapping[str, float] | None,
        store_float16: bool,
        emulate_float16: bool,
    ) -> None:
        super().__init__(onnx, precision, scales, store_float16, emulate_float16)
        self._spec, self._weights, self._form = spec, weights, form
        self._batch = -1 if batch is None else batch  # in a Reshape, -1 is whatever remains
        self._shapes, self._dtypes = cache_shapes(spec, form, 1), cache_dtypes(spec, precision)
        self._taps, self._writes = self._positions() if form == "in_place" else ([], [])

    def step(self) -> None:
        """Add all nodes, from the features to the probabilities."""
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
        """Raw features (B, F) to scaled and clipped ones; NaN becomes the training mean before anything else."""
        fill, shift, scale = (self.constant(self._weights[f"scaler.{n}"]) for n in ("fill", "shift", "scale"))
        clip = self._weights["scaler.clip"][0]
        known = self.node("Where", self.node("IsNaN", FEATURES), fill, FEATURES)
        z = self.node("Mul", self.node("Sub", known, shift), scale)
        return self.node("Clip", z, self.constant(-clip), self.constant(clip))

    def weighted(self, x: str, name: str) -> str:
        """x @ weight + bias with the weights of this name."""
        return self.linear(x, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"], name)

    def views(self, z: str) -> list[str]:
        """The scaled features (B, F) with the animals in every order that cells look at; else as they are."""
        found = []
        for view in self._spec.views:
            # Columns count from 1, so that a negative one can flip the sign.
            reordered = self.node("Gather", z, self.constant(np.abs(view) - 1, np.int64), axis=1)
            found.append(self.node("Mul", reordered, self.constant(np.sign(view))))
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
        # Kept apart: the reset gate acts on the state's part of the third gate only.
        from_x, from_h = self.weighted(entering, f"{name}.enter"), self.weighted(before, f"{name}.recur")
        thirds = [spec.hidden] * 3
        (r, u, n), (past_r, past_u, past_n) = self.split(from_x, thirds, 1), self.split(from_h, thirds, 1)
        reset = self.node("Sigmoid", self.node("Add", r, past_r))
        update = self.node("Sigmoid", self.node("Add", u, past_u))
        new = self.node("Tanh", self.node("Add", n, self.node("Mul", reset, past_n)))
        # The same as (1 - update) * new + update * before, with one product less.
        state = self.node("Add", new, self.node("Mul", update, self.node("Sub", before, new)))
        self._write_state(layer, spec, state, write)
        return state

    def _read_state(self, layer: int, cell: Cell) -> tuple[str, str]:
        """A cell's state of one period ago (B, R); in place also the rows (B,) of the ring for the new state."""
        past = past_name(layer)
        if self._form == "shifted":
            first = self.node("Gather", past, self.constant(0, np.int64), axis=1)
            return first, ""
        depth = self.constant(cell.period + 1, np.int64)
        # The ring has one row more than the period: the oldest state is read from another row than is written.
        write = self.node("Mod", FRAME, depth)
        read = self.node("Mod", self.node("Add", FRAME, self.constant(1, np.int64)), depth)
        state = self.node("GatherND", past, self._ring_index(self.reshape(read, self._batch, 1, 1)), batch_dims=1)
        return self.reshape(state, self._batch, cell.hidden), write

    def _write_state(self, layer: int, cell: Cell, state: str, write: str) -> None:
        """The cell's cache with its new state, as an output of the step."""
        past, present = past_name(layer), present_name(layer)
        if self._form == "in_place":
            update = self.reshape(state, self._batch, 1, 1, cell.hidden)
            self.node("TensorScatter", past, update, write, output=present, axis=2, mode="linear")
            return
        newest = self.reshape(state, self._batch, 1, cell.hidden)
        if cell.period == 1:  # nothing of the old cache remains
            self.node("Identity", newest, output=present)
            return
        start, stop, axis = (self.constant([i], np.int64) for i in (1, cell.period, 1))
        self.node("Concat", self.node("Slice", past, start, stop, axis), newest, output=present, axis=1)

    def residual(self, layer: int, name: str, x: str, conv: F32, conv_bias: F32, mix: F32, mix_bias: F32) -> str:
        """x + mix(relu(conv(x))). x is (B, C) in the trunk; in the heads (H, B, G), with weights that begin with H."""
        *leading, _, channels = mix.shape  # nothing leads in the trunk, H in the heads
        taps = self._shift(layer, x) if self._form == "shifted" else self._scatter(layer, x)
        taps = self.reshape(taps, *leading, self._batch, self._spec.kernel * channels)
        y = self.linear(taps, conv.reshape(*leading, -1, channels), conv_bias, f"{name}.conv")
        return self.node("Add", x, self.linear(self.node("Relu", y), mix, mix_bias, f"{name}.mix"))

    def heads(self, h: str) -> None:
        """All heads at once, batched over H. Heads with fewer than N classes are padded, and cut at the end."""
        spec, w, batch = self._spec, self._weights, self._batch
        names = [f"head.{head.name}" for head in spec.heads]
        n_classes = [len(head.classes) for head in spec.heads]
        n_heads, width, widest = len(names), spec.head_channels, max(n_classes)

        def padded(suffix: str, axis: int, value: float = 0.0) -> F32:
            """One weight of every head, (H, ...), with `axis` padded to N classes."""
            return np.stack([_padded(w[f"{name}.{suffix}"], axis, widest, value) for name in names])

        if not width:
            first = padded("first.weight", 1).transpose(1, 0, 2).reshape(spec.width, -1)
            x = self.linear(h, first, padded("first.bias", 0, ABSENT_LOGIT).reshape(-1), "heads.first")
            q = self.swap_axes(x, batch, n_heads, widest)
        else:
            q = self._refined(h, names, n_classes, padded)
        # A padded class keeps its logit of ABSENT_LOGIT, whatever the calibration of the others.
        q = self.node("Mul", q, self.constant(padded("calibration.scale", 0, 1.0)[:, None]))
        q = self.node("Add", q, self.constant(padded("calibration.shift", 0)[:, None]))
        p = self.swap_axes(self.node("Softmax", q, axis=-1), n_heads, batch, widest)
        p = self.reshape(p, batch, n_heads * widest)
        columns = [head * widest + c for head, n in enumerate(n_classes) for c in range(n)]
        self.node("Gather", p, self.constant(columns, np.int64), output=PROBABILITIES, axis=1)

    def _refined(self, h: str, names: list[str], n_classes: list[int], padded: Callable[..., F32]) -> str:
        """The refined logits (H, B, N) of all heads. padded: gives one weight of every head, an axis padded to N."""
        spec, w, batch = self._spec, self._weights, self._batch
        n_heads, width, widest = len(names), spec.head_channels, max(n_classes)
        enter = [w[f"{name}.enter.weight"] for name in names]  # each (n + D, G): first probabilities, then the trunk
        from_trunk = np.stack([e[n:] for e, n in zip(enter, n_classes, strict=True)])
        from_first = np.stack([_padded(e[:n], 0, widest, 0.0) for e, n in zip(enter, n_classes, strict=True)])
        # The first logits and what enters the refinement come from the trunk in one product: (D, H * (N + G)).
        both = np.concatenate((padded("first.weight", 1), from_trunk), axis=2).transpose(1, 0, 2)
        bias = np.concatenate((padded("first.bias", 0, ABSENT_LOGIT), self._stacked("enter.bias")), axis=1)
        x = self.linear(h, both.reshape(spec.width, -1), bias.reshape(-1), "heads.first")
        q, r = self.split(self.swap_axes(x, batch, n_heads, widest + width), [widest, width], 2)
        r = self.node("Add", r, self.product(self.node("Softmax", q, axis=-1), from_first, "heads.enter"))
        conv, conv_bias = self._stacked("conv.weight"), self._stacked("conv.bias")[:, :, None]
        mix, mix_bias = self._stacked("mix.weight"), self._stacked("mix.bias")[:, :, None]
        for i in range(len(spec.head_dilations)):
            layer = len(spec.dilations) + i
            r = self.residual(layer, f"heads.{i}", r, conv[:, i], conv_bias[:, i], mix[:, i], mix_bias[:, i])
        left = self.linear(r, padded("leave.weight", 1), padded("leave.bias", 0)[:, None], "heads.leave")
        return self.node("Add", q, left)

    def model(self) -> Any:
        """The nodes as a model, checked by ONNX with full shape inference."""
        helper, float32 = self.onnx.helper, self.onnx.TensorProto.FLOAT
        info = helper.make_tensor_value_info

        def rows(per_stream: int = 1) -> int | str:
            return row_name(per_stream) if self._batch < 0 else per_stream * self._batch

        inputs = [info(FEATURES, float32, (rows(), self._spec.n_features))]
        if self._form == "in_place":
            inputs.append(info(FRAME, self.onnx.TensorProto.INT64, (rows(),)))
        outputs = [info(PROBABILITIES, float32, (rows(), self._spec.n_outputs))]
        caches = [
            (helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), (rows(per_stream), *rest))
            for dtype, (per_stream, *rest) in zip(self._dtypes, self._shapes, strict=True)
        ]
        inputs += [info(past_name(i), *cache) for i, cache in enumerate(caches)]
        outputs += [info(present_name(i), *cache) for i, cache in enumerate(caches)]
        graph = helper.make_graph(self.nodes, f"rtseg-step-{self._form}", inputs, outputs, self.constants)
        opsets = [helper.make_opsetid("", OPSET[self._form])]
        # The lowest version: tools that are older than the package onnx can read the model, too.
        ir_version = helper.find_min_ir_version_for(opsets)
        model = helper.make_model(graph, opset_imports=opsets, ir_version=ir_version, producer_name="rtseg")
        self.onnx.checker.check_model(model, full_check=True)
        return model

    def _stacked(self, suffix: str) -> F32:
        """One weight of every head, (H, ...)."""
        return np.stack([self._weights[f"head.{head.name}.{suffix}"] for head in self._spec.heads])

    def _shift(self, layer: int, x: str) -> str:
        """Append x to a layer's cache and drop the oldest input; the taps (rows, K, C), oldest first."""
        _, depth, channels = self._shapes[layer]
        rows = self._rows(layer)
        window = self.node(
            "Concat", past_name(layer), self._to_cache(layer, self.reshape(x, rows, 1, channels)), axis=1
        )
        axis, end = self.constant([1], np.int64), self.constant([depth + 1], np.int64)
        self.node("Slice", window, self.constant([1], np.int64), end, axis, output=present_name(layer))
        dilation = self.constant([(*self._spec.dilations, *self._spec.head_dilations)[layer]], np.int64)
        return self._from_cache(layer, self.node("Slice", window, self.constant([0], np.int64), end, axis, dilation))

    def _scatter(self, layer: int, x: str) -> str:
        """Write x into a layer's ring at each stream's phase; the taps (rows, K, C), oldest first."""
        per_stream, _, _, channels = self._shapes[layer]
        batch, rows = self._batch, self._rows(layer)
        # Rings are ordered by stream and then head, so that a batch is a stretch of memory; products by head first.
        newest = (
            self.swap_axes(self._to_cache(layer, x), per_stream, batch, channels)
            if per_stream > 1
            else self._to_cache(layer, x)
        )
        update, past = self.reshape(newest, rows, 1, 1, channels), past_name(layer)
        write, present = self._writes[layer], present_name(layer)
        self.node("TensorScatter", past, update, write, output=present, axis=2, mode="linear")
        taps = self.node("GatherND", present, self._taps[layer], batch_dims=1)
        if per_stream > 1:
            taps = self.swap_axes(taps, batch, per_stream, self._spec.kernel * channels)
        return self._from_cache(layer, taps)

    def _rows(self, layer: int) -> int:
        """Rows of a layer's cache; -1 where the batch is open."""
        return -1 if self._batch < 0 else self._batch * self._shapes[layer][0]

    def _ring_index(self, at: str) -> str:
        """Rows (..., 1) of a ring as indices (..., 2) into its shape (1, S): each is (0, row)."""
        return self.node("Mul", at, self.constant([0, 1], np.int64))

    def _to_cache(self, layer: int, x: str) -> str:
        return self.float16(x) if self._dtypes[layer] is np.float16 else x

    def _from_cache(self, layer: int, x: str) -> str:
        return self.float32(x) if self._dtypes[layer] is np.float16 else x

    def _positions(self) -> tuple[list[str], list[str]]:
        """For each layer the indices of its taps, (rows, K, 2) into (1, S), and the row of the newest one, (rows,).

        Tap j of frame t lies at t + 1 + j * dilation, modulo S. Computed for all layers of trunk or heads at once: a
        node costs more than its few numbers.
        """
        taps: list[str] = []
        writes: list[str] = []
        kernel, batch = self._spec.kernel, self._batch
        for dilations, per_stream in (
            (self._spec.dilations, 1),
            (self._spec.head_dilations, len(self._spec.heads)),
        ):
            if not dilations:
                continue
            steps = np.array(dilations)[:, None, None]  # (L, 1, 1) for L layers
            offsets = self.constant(1 + np.arange(kernel) * steps, np.int64)
            after = self.node("Add", self.reshape(FRAME, batch, 1), offsets)
            at = self.node("Mod", after, self.constant((kernel - 1) * steps + 1, np.int64))  # (L, B, K)
            rows = batch if batch < 0 else per_stream * batch
            if per_stream > 1:
                at = self.node("Tile", at, self.constant([1, 1, per_stream], np.int64))
                at = self.reshape(at, len(dilations), rows, kernel)
            # The last tap is the newest: its row is the one to write.
            newest = self.node("Gather", at, self.constant(kernel - 1, np.int64), axis=2)
            index = self._ring_index(self.reshape(at, len(dilations), rows, kernel, 1))
            for layer in range(len(dilations)):
                number = self.constant(layer, np.int64)
                taps.append(self.node("Gather", index, number, axis=0))
                writes.append(self.node("Gather", newest, number, axis=0))
        return taps, writes


def _padded(value: F32, axis: int, size: int, filling: float) -> F32:
    """`value` with `axis` extended to `size`."""
    widths: Sequence[tuple[int, int]] = [(0, size - n if i == axis else 0) for i, n in enumerate(value.shape)]
    return np.pad(value, widths, constant_values=filling)
