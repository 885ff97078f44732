"""Sixteen floats side by side as one value in compiled code: what products and gates are written with.

float32 wherever something is served or trained; float64 for checks of what is written with them.

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
_VECTORS = {32: ir.VectorType(ir.FloatType(), LANES), 64: ir.VectorType(ir.DoubleType(), LANES)}
_HALVES = ir.VectorType(ir.HalfType(), LANES)
_WHOLES = ir.VectorType(ir.IntType(32), LANES)


class LanesType(types.Type):
    """numba's type for LANES numbers side by side: float32 or, for checks alone, float64."""

    def __init__(self, bits: int) -> None:
        self.bits = bits
        super().__init__(f"float{bits}x{LANES}")


_TYPES = {bits: LanesType(bits) for bits in _VECTORS}


@register_model(LanesType)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, _VECTORS[fe_type.bits])  # type: ignore[no-untyped-call]


def _call(builder: Any, name: str, *values: Any) -> Any:
    """LLVM's own function of that name on vectors."""
    vector = values[0].type
    kind = ir.FunctionType(vector, [vector] * len(values))
    insert: Any = cgutils.get_or_insert_function
    function = insert(builder.module, kind, f"llvm.{name}.v{LANES}{'f32' if vector == _VECTORS[32] else 'f64'}")
    return builder.call(function, values)


def _spread(builder: Any, value: Any, kind: Any) -> Any:
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

    float32, float64, or the bits of float16 stored as uint16, widened exactly to float32.
    """
    # None tells numba that there is no such function for these types: an error when it compiles.
    if array.layout != "C":
        return None
    half = array.dtype == types.uint16
    bits = 32 if half else array.dtype.bitwidth

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, at = arguments
        pointer = _pointer(context, builder, signature.args[0], array, at, _HALVES if half else _VECTORS[bits])
        # The alignment of one value: rows need not begin at a cache line, and a load that expects it would crash.
        value = builder.load(pointer, align=2 if half else bits // 8)
        return builder.fpext(value, _VECTORS[32]) if half else value

    return _TYPES[bits](array, types.uintp), code


@intrinsic
def store(_: Any, array: Any, at: Any, value: Any) -> Any:
    """array[at : at + LANES] = value, of a flat array of the same numbers."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, at, value = arguments
        builder.store(
            value,
            _pointer(context, builder, signature.args[0], array, at, value.type),
            align=signature.args[2].bits // 8,
        )
        return context.get_dummy_value()

    return types.void(array, types.uintp, value), code


@intrinsic
def spread(_: Any, value: Any) -> Any:
    """One float32 or float64 in all lanes."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _spread(builder, arguments[0], _VECTORS[signature.return_type.bits])

    return _TYPES[value.bitwidth](value), code


@intrinsic
def muladd(_: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c, rounded once where the processor can."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _call(builder, "fmuladd", *arguments)

    return a(a, a, a), code


def _binary(operation: str) -> Any:
    @intrinsic
    def both(_: Any, a: Any, b: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return getattr(builder, operation)(*arguments)

        return a(a, a), code

    return both


add, subtract, multiply, divide = map(_binary, ("fadd", "fsub", "fmul", "fdiv"))


@intrinsic
def larger(_: Any, a: Any, b: Any) -> Any:
    """The larger of two in each lane; b where a is NaN."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a, b = arguments
        return builder.select(builder.fcmp_ordered(">", a, b), a, b)

    return a(a, a), code


@intrinsic
def smaller(_: Any, a: Any, b: Any) -> Any:
    """The smaller of two in each lane; b where a is NaN."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a, b = arguments
        return builder.select(builder.fcmp_ordered("<", a, b), a, b)

    return a(a, a), code


@intrinsic
def known(_: Any, a: Any, b: Any) -> Any:
    """In each lane a, or b where a is NaN."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a, b = arguments
        return builder.select(builder.fcmp_ordered("ord", a, a), a, b)

    return a(a, a), code


@intrinsic
def whole(_: Any, a: Any) -> Any:
    """The next whole number below."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _call(builder, "floor", *arguments)

    return a(a), code


@intrinsic
def power_of_two(_: Any, n: Any) -> Any:
    """2**n for whole n in -126 .. 127: n goes into a float's exponent bits."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        # float32: the exponent, plus 127, stands above the 23 bits of the mantissa.
        bits = builder.fptosi(arguments[0], _WHOLES)
        bits = builder.add(bits, _spread(builder, ir.Constant(ir.IntType(32), 127), _WHOLES))
        bits = builder.shl(bits, _spread(builder, ir.Constant(ir.IntType(32), 23), _WHOLES))
        return builder.bitcast(bits, _VECTORS[32])

    return n(n), code


@intrinsic
def _library_exponential(_: Any, a: Any) -> Any:
    """e**x as the C library computes it, one lane after the other."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _call(builder, "exp", *arguments)

    return a(a), code


@intrinsic
def like(_: Any, number: Any, a: Any) -> Any:
    """A whole number in all lanes, of the type of a."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = arguments[1].type
        return _spread(builder, builder.sitofp(arguments[0], vector.element), vector)

    return a(number, a), code


f32 = np.float32
LOWEST, HIGHEST = f32(-87.0), f32(88.0)
"""The exponential's argument is limited to these: beyond them float32 soon has no values."""
# ln 2 in two parts, the first with few bits, so that n times it is exact; and Cephes' coefficients of expf.
_LOG2E, _LN2_HIGH, _LN2_LOW = f32(1.44269504), f32(0.693359375), f32(-2.12194440e-4)
_P0, _P1, _P2 = f32(1.9875691500e-4), f32(1.3981999507e-3), f32(8.3334519073e-3)
_P3, _P4, _P5 = f32(4.1665795894e-2), f32(1.6666665459e-1), f32(5.0000001201e-1)


def exponential(x: Any) -> Any:
    """e**x: of float32 by `_float32_exponential`, of float64 by the C library."""
    raise NotImplementedError("only in compiled code")


@extending.overload(exponential, jit_options={"error_model": "numpy"}, strict=False)  # names alone
def _exponential_of(x: Any) -> Any:
    return {32: lambda x: _float32_exponential(x), 64: lambda x: _library_exponential(x)}[x.bits]


@njit(cache=False, error_model="numpy")
def _float32_exponential(x: Any) -> Any:
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
    one = like(1, x)
    return divide(one, add(one, exponential(subtract(like(0, x), x))))


@njit(cache=False, error_model="numpy")
def tanh(x: Any) -> Any:
    """Hyperbolic tangent, within 3e-7."""
    one = like(1, x)
    # 1 - 2 / (1 + e**2x): the exponential is limited, so this goes to 1 and -1 without an overflow.
    return subtract(one, divide(add(one, one), add(one, exponential(add(x, x)))))
