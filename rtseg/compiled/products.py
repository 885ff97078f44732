"""Matrix products for a step: many rows at once where there are many, one row at the weights' own speed where not.

Every output is summed over its inputs in their order, beginning with its bias, in one lane (`lanes`). So a row's bits
do not depend on the rows beside it, and rows may be computed twice: where they do not divide by a block's size, the
last block begins earlier.

Of the weights' two arrays a product has, per group, biases padded to whole LANES; and per group and LANES of outputs a
panel (inputs, LANES). The blocks below are written out, one a shape, so that every sum stays in a register: as a loop
over rows they would go through memory. Groups are products of the same shape with weights and inputs of their own (the
heads' layers).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rtseg.compiled.lanes import LANES, load, muladd, spread, store

F32 = NDArray[np.float32]
Weights = tuple[F32, NDArray[Any]]
"""Vectors (float32); matrices (float32, or float16 as uint16). Both flat, in the order in which a step reads them."""
Cursor = tuple[Any, Any]
"""Where the next product's weights begin: in the vectors, in the matrices."""
N = np.uintp(LANES)
ROWS = np.uintp(6)
"""Rows of a block: 12 sums of 8 lanes fill AVX2's 16 registers, beside a panel's row and one input."""


@njit(cache=False, error_model="numpy")
def padded(n: Any) -> Any:
    """n floats, rounded up to whole LANES. Places are unsigned throughout: a signed index may count from the end."""
    return (np.uintp(n) + N - np.uintp(1)) // N * N


@njit(cache=False, error_model="numpy")
def product(weights: Weights, at: Cursor, s: F32, x: tuple[Any, Any, Any], y: tuple[Any, Any], shape: Any) -> Cursor:
    """s[y] = s[x] @ weight + bias for some rows; returns where the next product's weights begin.

    x: where the first row begins, how far the rows and how far the groups lie apart. y: where the first row goes, how
    far the rows lie apart; a group's outputs take whole LANES there. shape: rows, groups, inputs, outputs. x and y
    may not overlap.
    """
    rows, groups, n_in, n_out = shape
    bias, panel = at
    wide = padded(n_out)
    # Narrow groups, of one panel each, are treated as the panels of one product, each with inputs of its own.
    narrow = wide == N
    repeats, panels = (np.uintp(1), groups) if narrow else (groups, wide // N)
    # Panels of one product share their inputs; those of narrow groups do not.
    x_step = x[2] if narrow else np.uintp(0)
    for group in range(repeats):
        here = bias + group * wide, panel + group * wide * n_in
        inputs = x[0] + group * x[2], x[1], x_step
        _panels(weights, here, s, inputs, (y[0] + group * wide, y[1]), (rows, panels, n_in))
    # The same whatever the number of rows, so a step's cursor meets every product's weights.
    return bias + groups * wide, panel + groups * wide * n_in


@njit(cache=False, error_model="numpy")
def _panels(weights: Weights, at: Cursor, s: F32, x: tuple[Any, Any, Any], y: tuple[Any, Any], shape: Any) -> None:
    """Some panels of one product; x: as in `product`, its last the inputs' distance from panel to panel."""
    rows, panels, n_in = shape
    bias, panel = at
    one, two, four = np.uintp(1), np.uintp(2), np.uintp(4)
    x0, x_row, x_step = x
    # y: where a row's first panel goes, and how far rows lie apart.
    y0, y_row = y
    p = np.uintp(0)
    while p < panels:
        if rows < four and p + one < panels:  # few sums a panel: several panels keep the adders busy
            if rows == one and panels >= four and x_step == np.uintp(0):
                p = min(p, panels - four)  # the last block begins earlier; what is computed twice has the same bits
                here = bias + p * N, panel + p * N * n_in
                _one_by_four(weights, here, s, x0, y0 + p * N, n_in)
                p += four
                continue
            here = bias + p * N, panel + p * N * n_in
            row = np.uintp(0)
            while row < rows:
                if rows > one:
                    row = min(row, rows - two)
                    _two_by_two(
                        weights,
                        here,
                        s,
                        (x0 + row * x_row + p * x_step, x_row, x_step),
                        (y0 + row * y_row + p * N, y_row),
                        n_in,
                    )
                    row += two
                else:
                    _one_by_two(weights, here, s, (x0 + p * x_step, x_step), y0 + p * N, n_in)
                    row += one
            p += two
            continue
        here = bias + p * N, panel + p * N * n_in
        row = np.uintp(0)
        while row < rows:
            left = rows - row  # seven and eight rows are two blocks of four, the rest as many of six as there can be
            if rows >= ROWS and left > four and left != ROWS + one and left != four + four:
                row = min(row, rows - ROWS)
                _six(weights, here, s, (x0 + row * x_row + p * x_step, x_row), (y0 + row * y_row + p * N, y_row), n_in)
                row += ROWS
            elif rows >= four:
                row = min(row, rows - four)
                _four(weights, here, s, (x0 + row * x_row + p * x_step, x_row), (y0 + row * y_row + p * N, y_row), n_in)
                row += four
            else:
                _one(weights, here, s, x0 + row * x_row + p * x_step, y0 + row * y_row + p * N, n_in)
                row += one
        p += one


@njit(cache=False, error_model="numpy")
def _six(weights: Weights, at: Cursor, s: F32, x: tuple[Any, Any], y: tuple[Any, Any], n_in: Any) -> None:
    """Six rows, one panel."""
    vectors, matrices = weights
    b = load(vectors, at[0])
    a0 = a1 = a2 = a3 = a4 = a5 = b
    x0, row = x
    x1 = x0 + row
    x2 = x1 + row
    x3 = x2 + row
    x4 = x3 + row
    x5 = x4 + row
    for i in range(n_in):
        w = load(matrices, at[1] + i * N)
        a0 = muladd(w, spread(s[x0 + i]), a0)
        a1 = muladd(w, spread(s[x1 + i]), a1)
        a2 = muladd(w, spread(s[x2 + i]), a2)
        a3 = muladd(w, spread(s[x3 + i]), a3)
        a4 = muladd(w, spread(s[x4 + i]), a4)
        a5 = muladd(w, spread(s[x5 + i]), a5)
    to, row = y
    store(s, to, a0)
    store(s, to + row, a1)
    store(s, to + row * np.uintp(2), a2)
    store(s, to + row * np.uintp(3), a3)
    store(s, to + row * np.uintp(4), a4)
    store(s, to + row * np.uintp(5), a5)


@njit(cache=False, error_model="numpy")
def _four(weights: Weights, at: Cursor, s: F32, x: tuple[Any, Any], y: tuple[Any, Any], n_in: Any) -> None:
    """Four rows, one panel."""
    vectors, matrices = weights
    b = load(vectors, at[0])
    a0 = a1 = a2 = a3 = b
    x0, row = x
    x1 = x0 + row
    x2 = x1 + row
    x3 = x2 + row
    for i in range(n_in):
        w = load(matrices, at[1] + i * N)
        a0 = muladd(w, spread(s[x0 + i]), a0)
        a1 = muladd(w, spread(s[x1 + i]), a1)
        a2 = muladd(w, spread(s[x2 + i]), a2)
        a3 = muladd(w, spread(s[x3 + i]), a3)
    to, row = y
    store(s, to, a0)
    store(s, to + row, a1)
    store(s, to + row * np.uintp(2), a2)
    store(s, to + row * np.uintp(3), a3)


@njit(cache=False, error_model="numpy")
def _two_by_two(weights: Weights, at: Cursor, s: F32, x: tuple[Any, Any, Any], y: tuple[Any, Any], n_in: Any) -> None:
    """Two rows, two panels."""
    vectors, matrices = weights
    x00, row, step = x
    x10 = x00 + row
    x01, x11 = x00 + step, x10 + step
    near = at[1]
    far = near + N * n_in
    a00 = a10 = load(vectors, at[0])
    a01 = a11 = load(vectors, at[0] + N)
    for i in range(n_in):
        # Two loads serve four multiply-adds.
        w, v = load(matrices, near + i * N), load(matrices, far + i * N)
        a00 = muladd(w, spread(s[x00 + i]), a00)
        a10 = muladd(w, spread(s[x10 + i]), a10)
        a01 = muladd(v, spread(s[x01 + i]), a01)
        a11 = muladd(v, spread(s[x11 + i]), a11)
    to, row = y
    store(s, to, a00)
    store(s, to + N, a01)
    store(s, to + row, a10)
    store(s, to + row + N, a11)


@njit(cache=False, error_model="numpy")
def _one_by_four(weights: Weights, at: Cursor, s: F32, x: Any, to: Any, n_in: Any) -> None:
    """One row, four panels that share its inputs."""
    vectors, matrices = weights
    bias, panel = at
    size = N * n_in
    a0 = load(vectors, bias)
    a1 = load(vectors, bias + N)
    a2 = load(vectors, bias + N + N)
    a3 = load(vectors, bias + N + N + N)
    for i in range(n_in):
        # One input serves four panels; with one row there is nothing else to share.
        value = spread(s[x + i])
        a0 = muladd(load(matrices, panel), value, a0)
        a1 = muladd(load(matrices, panel + size), value, a1)
        a2 = muladd(load(matrices, panel + size + size), value, a2)
        a3 = muladd(load(matrices, panel + size + size + size), value, a3)
        panel += N
    store(s, to, a0)
    store(s, to + N, a1)
    store(s, to + N + N, a2)
    store(s, to + N + N + N, a3)


@njit(cache=False, error_model="numpy")
def _one_by_two(weights: Weights, at: Cursor, s: F32, x: tuple[Any, Any], to: Any, n_in: Any) -> None:
    """One row, two panels."""
    vectors, matrices = weights
    panel0 = at[1]
    panel1 = panel0 + N * n_in
    x0, step = x
    x1 = x0 + step
    a0, a1 = load(vectors, at[0]), load(vectors, at[0] + N)
    for i in range(n_in):
        a0 = muladd(load(matrices, panel0 + i * N), spread(s[x0 + i]), a0)
        a1 = muladd(load(matrices, panel1 + i * N), spread(s[x1 + i]), a1)
    store(s, to, a0)
    store(s, to + N, a1)


@njit(cache=False, error_model="numpy")
def _one(weights: Weights, at: Cursor, s: F32, x: Any, to: Any, n_in: Any) -> None:
    """One row, one panel."""
    vectors, matrices = weights
    a = load(vectors, at[0])
    for i in range(n_in):
        a = muladd(load(matrices, at[1] + i * N), spread(s[x + i]), a)
    store(s, to, a)
