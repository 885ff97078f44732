"""Nodes and constants on their way to an ONNX model, and a product in the precision that was asked for.

Knows nothing of the network (that is `onnx_graph`). Signals travel as float32 between products; what a product reads is
rounded to float16 or to int8 on its way in, so that one graph serves all three precisions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
Precision = Literal["fp32", "fp16", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
LEVELS = 127
"""int8 is used symmetrically, from -127 to 127 with zero at 0: TensorRT takes nothing else."""


class Nodes:
    """A graph under construction.

    scales: for int8, a product's name -> what one int8 step of its input is worth; a product that is not named is made
    in float16. halves: matrices of float32 that are float16 exactly are kept as such and widened when the model is
    loaded: the same step from half the bytes. spelled: products in float16 are written as products in float32 of values
    that were rounded, and rounded again: the same numbers where a backend has no float16 of its own (ONNX Runtime on a
    CPU computes in float32 then, and leaves the rounding out). products: name -> the tensors that enter it, in order.
    """

    def __init__(
        self,
        onnx: Any,
        precision: Precision = "fp32",
        scales: Mapping[str, float] | None = None,
        halves: bool = False,
        spelled: bool = False,
    ) -> None:
        self.onnx, self.precision, self._scales = onnx, precision, scales or {}
        self._halves, self._spelled = halves, spelled
        self.products: dict[str, list[str]] = {}
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def node(self, kind: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Add a node with one output; that output's name."""
        output = output or f"{kind.lower()}.{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def constant(self, value: Any, dtype: type = np.float32) -> str:
        """A tensor that is part of the model."""
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

    def swap(self, x: str, first: int, second: int, last: int) -> str:
        """(first * second, last) or flatter, as (first, second, last), to (second, first, last)."""
        if 1 in (first, second):
            return self.reshape(x, second, first, last)
        return self.node("Transpose", self.reshape(x, first, second, last), perm=[1, 0, 2])

    def product(self, x: str, weight: F32, name: str) -> str:
        """x (..., I) @ weight (..., I, O), float32 in and out."""
        self.products.setdefault(name, []).append(x)
        if self.precision == "int8" and name in self._scales:
            return self.node("MatMul", self._quantized(x, self._scales[name]), self._quantized_weight(weight))
        if self.precision == "fp32":
            return self.node("MatMul", x, self._matrix(weight))
        if self._spelled:
            rounded = self.constant(weight.astype(np.float16))
            return self._rounded(self.node("MatMul", self._rounded(x), rounded))
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

    def _rounded(self, x: str) -> str:
        return self.float32(self.float16(x))

    def _matrix(self, weight: F32) -> str:
        halved = weight.astype(np.float16)
        if self._halves and np.array_equal(halved.astype(np.float32), weight):
            return self.float32(self.constant(halved, np.float16))
        return self.constant(weight)

    def _quantized(self, x: str, scale: float) -> str:
        step, zero = self.constant(scale), self.constant(0, np.int8)
        return self.node("DequantizeLinear", self.node("QuantizeLinear", x, step, zero), step, zero)

    def _quantized_weight(self, weight: F32) -> str:
        """The weight as int8 with a step for each output channel, and what gives it back."""
        steps = weight_steps(weight)
        whole = np.clip(np.rint(weight / steps), -LEVELS, LEVELS)
        zeros = self.constant(np.zeros(len(steps)), np.int8)
        axis = weight.ndim - 1
        return self.node("DequantizeLinear", self.constant(whole, np.int8), self.constant(steps), zeros, axis=axis)


def weight_steps(weight: F32) -> F32:
    """For each output channel (O,) of a weight (..., O) what one int8 step is worth; a channel of zeros gets 1."""
    largest = np.abs(weight).max(axis=tuple(range(weight.ndim - 1)))
    return np.where(largest > 0, largest / LEVELS, 1.0).astype(np.float32)
