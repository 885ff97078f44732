"""Building blocks of an ONNX model: nodes, constants, and products in float32, float16 or int8.

Knows nothing about the network (that is `onnx_graph`). Values between products are float32 in every precision; only
what a product reads is rounded to float16 or int8, so that one description of the network serves all precisions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
Precision = Literal["fp32", "fp16", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
INT8_MAX = 127
"""int8 is used symmetrically, from -127 to 127 with zero at 0: TensorRT accepts nothing else."""


class GraphBuilder:
    """A graph under construction. `nodes` and `constants` are in the order in which they were added.

    scales: for int8, a product's name -> what one int8 step of its input is worth; a product without one is made in
    float16. store_float16: float32 matrices whose numbers are exact in float16 are stored as that and widened at load:
    the same step from half the bytes. emulate_float16: float16 products are written as float32 products of rounded
    values, and rounded again, for backends that would leave the rounding out (ONNX Runtime on a CPU computes them in
    float32). products: name -> the tensors that enter the product, in order.
    """

    def __init__(
        self,
        onnx: Any,
        precision: Precision = "fp32",
        scales: Mapping[str, float] | None = None,
        store_float16: bool = False,
        emulate_float16: bool = False,
    ) -> None:
        self.onnx, self.precision, self._scales = onnx, precision, scales or {}
        self._store_float16, self._emulate_float16 = store_float16, emulate_float16
        self.products: dict[str, list[str]] = {}
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def node(self, kind: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Add a node with one output; that output's name."""
        output = output or f"{kind.lower()}.{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def constant(self, value: Any, dtype: type = np.float32) -> str:
        """Add a constant tensor; its name."""
        name = f"constant.{len(self.constants)}"
        self.constants.append(self.onnx.numpy_helper.from_array(np.asarray(value, dtype, order="C"), name))
        return name

    def reshape(self, x: str, *shape: int) -> str:
        """x in another shape."""
        return self.node("Reshape", x, self.constant(shape, np.int64))

    def split(self, x: str, sizes: list[int], axis: int) -> list[str]:
        """x cut along an axis."""
        names = [f"part.{len(self.nodes)}.{i}" for i in range(len(sizes))]
        lengths = self.constant(sizes, np.int64)
        self.nodes.append(self.onnx.helper.make_node("Split", [x, lengths], names, axis=axis))
        return names

    def swap_axes(self, x: str, first: int, second: int, last: int) -> str:
        """x, read as (first, second, last), with its first two axes swapped: (second, first, last)."""
        if 1 in (first, second):  # nothing moves in memory
            return self.reshape(x, second, first, last)
        return self.node("Transpose", self.reshape(x, first, second, last), perm=[1, 0, 2])

    def product(self, x: str, weight: F32, name: str) -> str:
        """x (..., I) @ weight (..., I, O), float32 in and out, in this graph's precision."""
        self.products.setdefault(name, []).append(x)
        if self.precision == "int8" and name in self._scales:
            return self.node("MatMul", self._quantized(x, self._scales[name]), self._quantized_weight(weight))
        if self.precision == "fp32":
            return self.node("MatMul", x, self._matrix(weight))
        if self._emulate_float16:
            rounded = self.constant(weight.astype(np.float16))
            return self._round_to_float16(self.node("MatMul", self._round_to_float16(x), rounded))
        return self.float32(self.node("MatMul", self.float16(x), self.constant(weight, np.float16)))

    def linear(self, x: str, weight: F32, bias: F32, name: str) -> str:
        """x @ weight + bias."""
        return self.node("Add", self.product(x, weight, name), self.constant(bias))

    def float16(self, x: str) -> str:
        """x rounded to float16."""
        return self.node("Cast", x, to=self.onnx.TensorProto.FLOAT16)

    def float32(self, x: str) -> str:
        """x as float32."""
        return self.node("Cast", x, to=self.onnx.TensorProto.FLOAT)

    def _round_to_float16(self, x: str) -> str:
        """x rounded to float16, as float32 again."""
        return self.float32(self.float16(x))

    def _matrix(self, weight: F32) -> str:
        """The weight as a float32 constant, stored in float16 where that is wanted and exact."""
        halved = weight.astype(np.float16)
        if self._store_float16 and np.array_equal(halved.astype(np.float32), weight):
            return self.float32(self.constant(halved, np.float16))
        return self.constant(weight)

    def _quantized(self, x: str, scale: float) -> str:
        """x rounded to int8 and scaled back, which TensorRT recognises as the input of an int8 product."""
        step, zero = self.constant(scale), self.constant(0, np.int8)
        return self.node("DequantizeLinear", self.node("QuantizeLinear", x, step, zero), step, zero)

    def _quantized_weight(self, weight: F32) -> str:
        """The weight as an int8 constant with a scale for each output channel, scaled back."""
        scales = weight_scales(weight)
        whole = np.clip(np.rint(weight / scales), -INT8_MAX, INT8_MAX)
        zeros = self.constant(np.zeros(len(scales)), np.int8)
        axis = weight.ndim - 1
        return self.node("DequantizeLinear", self.constant(whole, np.int8), self.constant(scales), zeros, axis=axis)


def weight_scales(weight: F32) -> F32:
    """What one int8 step is worth for each output channel (O,) of a weight (..., O); 1 for a channel of zeros."""
    largest = np.abs(weight).max(axis=tuple(range(weight.ndim - 1)))
    return np.where(largest > 0, largest / INT8_MAX, 1.0).astype(np.float32)
