"""What TensorRT would refuse about a step, found before anything is built: one line each, with node and reason.

Looks at a model and changes nothing. The rules were observed with the parser of TensorRT-RTX 1.7.1; one more is that a
cache is updated in place only if a single linear TensorScatter writes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from rtseg.errors import EngineError, needs_extra

INTEGER_OPERATORS = {"DynamicQuantizeLinear", "MatMulInteger", "ConvInteger", "QLinearMatMul", "QLinearConv"}
"""The parser knows none of them: it takes int8 only as QuantizeLinear and DequantizeLinear around a float operator."""
CACHE_AXIS, CACHE_RANK = 2, 4
PAST = "past."


def require_supported(model: Any) -> None:
    """Raise EngineError naming the first node that TensorRT would refuse, why, and how many more there are.

    model: an onnx.ModelProto, or its bytes. Raises RtsegError where onnx is missing, EngineError also where the bytes
    are not a model.
    """
    found = find_problems(model)
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise EngineError(f"TensorRT would refuse this step: {found[0]}{more}")


def find_problems(model: Any) -> list[str]:
    """All that TensorRT would refuse, a line each, in the order of the nodes. Raises as `require_supported`."""
    try:
        import onnx
    except ImportError:
        raise needs_extra("onnx", "onnx", "looking through the network's step") from None
    if isinstance(model, bytes):
        try:
            model = onnx.load_model_from_string(model)
        except Exception as error:  # protobuf's own, which is no public name
            raise EngineError(f"expected an ONNX model, got {len(model):,} bytes that are none: {error}") from None
    return list(_GraphChecker(onnx, model.graph).problems())


class _GraphChecker:
    """One graph and its constants, checked node by node."""

    def __init__(self, onnx: Any, graph: Any) -> None:
        self._onnx, self._graph = onnx, graph
        self._constants: Mapping[str, Any] = {tensor.name: tensor for tensor in graph.initializer}
        self._kinds: dict[str, int] = {name: tensor.data_type for name, tensor in self._constants.items()}
        # Of other tensors the type is known only where the model states it.
        for value in (*graph.input, *graph.output, *graph.value_info):
            self._kinds.setdefault(value.name, value.type.tensor_type.elem_type)

    def problems(self) -> Iterator[str]:
        for tensor in self._graph.initializer:
            if tensor.data_type == self._onnx.TensorProto.DOUBLE:
                yield f"constant {tensor.name}: float64, which TensorRT does not have"
        for node in self._graph.node:
            for reason in self._node(node):
                yield f"node {node.output[0]} ({node.op_type}): {reason}"
        yield from self._caches()

    def _node(self, node: Any) -> Iterator[str]:
        if node.op_type in INTEGER_OPERATORS:
            yield "integer arithmetic must be written as QuantizeLinear and DequantizeLinear around a float operator"
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            yield from self._quantisation(node)
        if node.op_type == "TensorScatter":
            yield from self._scatter(node)

    def _quantisation(self, node: Any) -> Iterator[str]:
        scale = self._value(node.input[1])
        if scale is None:
            yield f"its scale {node.input[1]} must be a constant"
        elif not (np.isfinite(scale).all() and (scale > 0).all()):
            yield f"its scale {node.input[1]} must be finite and above 0, got {float(np.min(scale)):g}"
        # ONNX Runtime's `quantize_static` writes biases like this unless it is told not to.
        if node.op_type == "DequantizeLinear" and self._kinds.get(node.input[0]) == self._onnx.TensorProto.INT32:
            yield "it gives back int32 (a quantised bias): TensorRT takes int8 only, leave the bias in float"
        if len(node.input) < 3:  # the zero point may be left out
            if node.op_type == "QuantizeLinear" and not _attribute(self._onnx, node, "output_dtype", 0):
                yield "without a zero point it quantises to uint8: give it an int8 zero point of 0"
            return
        zero = self._value(node.input[2])
        if zero is None:
            yield f"its zero point {node.input[2]} must be a constant"
        elif zero.dtype not in (np.int8, np.int32):
            yield f"it quantises to {zero.dtype}: TensorRT takes int8 only"
        elif zero.any():
            worst = zero.reshape(-1)[np.abs(zero.reshape(-1)).argmax()]
            yield f"its zero point must be 0 (symmetric quantisation), got {int(worst)}"

    def _scatter(self, node: Any) -> Iterator[str]:
        mode = _attribute(self._onnx, node, "mode", b"linear")
        if mode != b"linear":
            yield f"mode must be linear, got {mode.decode()}"
        axis = _attribute(self._onnx, node, "axis", -2)
        if axis not in (CACHE_AXIS, CACHE_AXIS - CACHE_RANK):
            yield f"axis must be {CACHE_AXIS} of {CACHE_RANK}, got {axis}"
        kind = self._kinds.get(node.input[0])
        floats = self._onnx.TensorProto
        if kind is not None and kind not in (floats.FLOAT, floats.FLOAT16, floats.BFLOAT16):
            yield f"a cache must hold float32, float16 or bfloat16, got {floats.DataType.Name(kind)}"

    def _caches(self) -> Iterator[str]:
        """Every `past.` input is written by exactly one TensorScatter, whose result is an output."""
        outputs = {value.name for value in self._graph.output}
        for value in self._graph.input:
            if not value.name.startswith(PAST):
                continue
            rank = len(value.type.tensor_type.shape.dim)
            if rank != CACHE_RANK:
                yield f"input {value.name}: a cache has {CACHE_RANK} dimensions, got {rank}"
            # TensorRT makes an in-place update of this pattern and of no other.
            writers = [n for n in self._graph.node if n.op_type == "TensorScatter" and n.input[0] == value.name]
            if len(writers) != 1 or writers[0].output[0] not in outputs:
                yield (
                    f"input {value.name}: expected one TensorScatter that writes it into an output, found "
                    f"{len(writers)}: it would be copied at every step"
                )

    def _value(self, name: str) -> Any:
        """A constant's value; None where the tensor is computed."""
        tensor = self._constants.get(name)
        return None if tensor is None else self._onnx.numpy_helper.to_array(tensor)


def _attribute(onnx: Any, node: Any, name: str, default: Any) -> Any:
    return next((onnx.helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)
