"""Sixteen floats side by side as one value in compiled code: what a step's products and gates are written with.

A compiler that is left to vectorise on its own may round a row's sums one way alone and another way in a batch. Here
every lane is one output, summed in one fixed order, so no bit depends on how many rows or outputs are computed
together. LLVM cuts a value into what the processor has: one register with AVX-512, two with AVX2, four with NEON.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import extending, njit, types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.extending import register_model

LANES = 16
intrinsic: Any = extending.intrinsic  # calls of what it makes take other arguments than its definition
_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_HALVES = ir.VectorType(ir.HalfType(), LANES)
_WHOLES = ir.VectorType(ir.IntType(32), LANES)


class LanesType(types.Type):
    """numba's type for LANES float32 side by side."""

    def __init__(self) -> None:
        super().__init__("float32x16")


_lanes = LanesType()


@register_model(LanesType)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, _VECTOR)  # type: ignore[no-untyped-call]


def _call(builder: Any, name: str, *values: Any) -> Any:
    """LLVM's own function of that name on vectors."""
    kind = ir.FunctionType(_VECTOR, [_VECTOR] * len(values))
    insert: Any = cgutils.get_or_insert_function
    function = insert(builder.module, kind, f"llvm.{name}.v{LANES}f32")
    return builder.call(function, values)


def _spread(builder: Any, value: Any, kind: Any = _VECTOR) -> Any:
    """One number in all lanes."""
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    nowhere = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), nowhere)


def _pointer(context: Any, builder: Any, kind: Any, array: Any, at: Any, vector: Any) -> Any:
    """Where array[at:] begins, as a vector's address."""
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [at]), vector.as_pointer())


@intrinsic
def load(_: Any, array: Any, at: Any) -> Any:
    """array[at : at + LANES] of a contiguous array, as if it were flat.

    float32, or the bits of float16 stored as uint16, widened exactly.
    """
    # None tells numba that there is no such function for these types: an error when it compiles.
    if array.layout != "C":
        return None
    half = array.dtype == types.uint16

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, at = arguments
        pointer = _pointer(context, builder, signature.args[0], array, at, _HALVES if half else _VECTOR)
        # The alignment of one value: rows need not begin at a cache line, and a load that expects it would crash.
        value = builder.load(pointer, align=2 if half else 4)
        return builder.fpext(value, _VECTOR) if half else value

    return _lanes(array, types.uintp), code


@intrinsic
def store(_: Any, array: Any, at: Any, value: Any) -> Any:
    """array[at : at + LANES] = value, of a flat float32 array."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, at, value = arguments
        builder.store(value, _pointer(context, builder, signature.args[0], array, at, _VECTOR), align=4)
        return context.get_dummy_value()

    return types.void(array, types.uintp, _lanes), code


@intrinsic
def spread(_: Any, value: Any) -> Any:
    """One float32 in all lanes."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _spread(builder, arguments[0])

    return _lanes(types.float32), code


@intrinsic
def muladd(_: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c, rounded once where the processor can."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _call(builder, "fmuladd", *arguments)

    return _lanes(_lanes, _lanes, _lanes), code


def _binary(operation: str) -> Any:
    @intrinsic
    def both(_: Any, a: Any, b: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return getattr(builder, operation)(*arguments)

        return _lanes(_lanes, _lanes), code

    return both


add, subtract, multiply, divide = map(_binary, ("fadd", "fsub", "fmul", "fdiv"))


@intrinsic
def larger(_: Any, a: Any, b: Any) -> Any:
    """The larger of two in each lane; b where a is NaN."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a, b = arguments
        return builder.select(builder.fcmp_ordered(">", a, b), a, b)

    return _lanes(_lanes, _lanes), code


@intrinsic
def smaller(_: Any, a: Any, b: Any) -> Any:
    """The smaller of two in each lane; b where a is NaN."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a, b = arguments
        return builder.select(builder.fcmp_ordered("<", a, b), a, b)

    return _lanes(_lanes, _lanes), code


@intrinsic
def known(_: Any, a: Any, b: Any) -> Any:
    """In each lane a, or b where a is NaN."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a, b = arguments
        return builder.select(builder.fcmp_ordered("ord", a, a), a, b)

    return _lanes(_lanes, _lanes), code


@intrinsic
def whole(_: Any, a: Any) -> Any:
    """The next whole number below."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _call(builder, "floor", *arguments)

    return _lanes(_lanes), code


@intrinsic
def power_of_two(_: Any, n: Any) -> Any:
    """2**n for whole n in -126 .. 127: n goes into a float's exponent bits."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        # float32: the exponent, plus 127, stands above the 23 bits of the mantissa.
        bits = builder.fptosi(arguments[0], _WHOLES)
        bits = builder.add(bits, _spread(builder, ir.Constant(ir.IntType(32), 127), _WHOLES))
        bits = builder.shl(bits, _spread(builder, ir.Constant(ir.IntType(32), 23), _WHOLES))
        return builder.bitcast(bits, _VECTOR)

    return _lanes(_lanes), code


f32 = np.float32
LOWEST, HIGHEST = f32(-87.0), f32(88.0)
"""The exponential's argument is limited to these: beyond them float32 soon has no values."""
# ln 2 in two parts, the first with few bits, so that n times it is exact; and Cephes' coefficients of expf.
_LOG2E, _LN2_HIGH, _LN2_LOW = f32(1.44269504), f32(0.693359375), f32(-2.12194440e-4)
_P0, _P1, _P2 = f32(1.9875691500e-4), f32(1.3981999507e-3), f32(8.3334519073e-3)
_P3, _P4, _P5 = f32(4.1665795894e-2), f32(1.6666665459e-1), f32(5.0000001201e-1)


@njit(cache=False, error_model="numpy")
def exponential(x: Any) -> Any:
    """e**x after Cody and Waite (polynomial: Cephes' expf), within 2e-7 of it as a share; x is held in -87 .. 88."""
    # Within these limits n stays in -126 .. 127, as `power_of_two` needs it.
    x = larger(smaller(x, spread(HIGHEST)), spread(LOWEST))
    # e**x = 2**n * e**r with |r| <= ln 2 / 2, the range that the polynomial was made for.
    n = whole(muladd(x, spread(_LOG2E), spread(f32(0.5))))
    r = muladd(n, spread(-_LN2_HIGH), x)
    r = muladd(n, spread(-_LN2_LOW), r)
    y = muladd(spread(_P0), r, spread(_P1))
    y = muladd(y, r, spread(_P2))
    y = muladd(y, r, spread(_P3))
    y = muladd(y, r, spread(_P4))
    y = muladd(y, r, spread(_P5))
    y = muladd(multiply(r, r), y, add(r, spread(f32(1.0))))
    return multiply(y, power_of_two(n))


@njit(cache=False, error_model="numpy")
def sigmoid(x: Any) -> Any:
    """1 / (1 + e**-x), within 2e-7."""
    one = spread(f32(1.0))
    return divide(one, add(one, exponential(subtract(spread(f32(0.0)), x))))


@njit(cache=False, error_model="numpy")
def tanh(x: Any) -> Any:
    """Hyperbolic tangent, within 3e-7."""
    one = spread(f32(1.0))
    # 1 - 2 / (1 + e**2x): the exponential is limited, so this goes to 1 and -1 without an overflow.
    return subtract(one, divide(spread(f32(2.0)), add(one, exponential(add(x, x)))))
