"""The passes over every value around a dilated convolution's products, forwards and backwards, compiled.

In torch each of them is a call or several that read and write everything again, and in bfloat16 each takes longer than
in float32: together as long as the products. Here values are widened to float32, and rounded once where they are
stored. Sequences are (B, T, C), contiguous; bfloat16 comes as its bits in uint16, which numba has no other type for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import extending, njit, types
from numpy.typing import NDArray

Array = NDArray[Any]
"""float32, float64, or uint16: the bits of bfloat16."""
SHIFT, ONE, HALF = np.uint32(16), np.uint32(1), np.uint32(0x7FFF)
NAN = np.uint16(0x7FC0)


def widen(value: Any) -> Any:
    """A stored value as a number: bits of bfloat16 as float32, anything else as it is."""
    raise NotImplementedError("only in compiled code")


def narrow(number: Any, like: Any) -> Any:
    """A number as it is stored beside `like`: for bfloat16 its bits, rounded to even as torch does."""
    raise NotImplementedError("only in compiled code")


@extending.overload(widen, strict=False)
def _widen_of(value: Any) -> Any:
    if value == types.uint16:
        return lambda value: np.uint32(np.uint32(value) << SHIFT).view(np.float32)
    return lambda value: value


def _rounded(number: Any, like: Any) -> Any:
    bits = np.float32(number).view(np.uint32)
    rounded = np.uint16(np.uint32(bits + HALF + ((bits >> SHIFT) & ONE)) >> SHIFT)
    return rounded if number == number else NAN


@extending.overload(narrow, strict=False)
def _narrow_of(number: Any, like: Any) -> Any:
    return _rounded if like == types.uint16 else lambda number, like: number


def _compiled(kernel: Callable[..., None]) -> Callable[..., None]:
    compiled: Callable[..., None] = njit(cache=True, error_model="numpy", nogil=True)(kernel)
    return compiled


@_compiled
def fill_taps(x: Array, spacing: int, before: int, taps: Array) -> None:
    """x (B, T, C) to taps (B, T, K, C): tap k of frame t is frame t + k * spacing - before, or 0 without one."""
    batch, frames, n, width = taps.shape
    for b in range(batch):
        for t in range(frames):
            for tap in range(n):
                at = t + tap * spacing - before
                if 0 <= at < frames:
                    for c in range(width):
                        taps[b, t, tap, c] = x[b, at, c]
                else:
                    for c in range(width):
                        taps[b, t, tap, c] = 0


@_compiled
def sum_taps(taps: Array, spacing: int, before: int, x: Array) -> None:
    """The gradient of `fill_taps`: to each frame of x (B, T, C) what all taps (B, T, K, C) that it went to got.

    Of three taps the sum is rounded once, of more with every further one.
    """
    batch, frames, n, width = taps.shape
    for b in range(batch):
        for t in range(frames):
            newest = t + before
            # Those of the taps that are there: 0 <= newest - tap * spacing < frames.
            first = max(0, -((frames - 1 - newest) // spacing))
            last = min(n - 1, newest // spacing)
            there = last - first + 1
            if there <= 0:
                for c in range(width):
                    x[b, t, c] = 0
                continue
            at = newest - first * spacing
            # A loop for each number of taps, as the compiler vectorises no loop within another.
            if there == 1:
                for c in range(width):
                    x[b, t, c] = taps[b, at, first, c]
            elif there == 2:
                for c in range(width):
                    total = widen(taps[b, at, first, c]) + widen(taps[b, at - spacing, last, c])
                    x[b, t, c] = narrow(total, x[b, t, c])
            else:
                for c in range(width):
                    total = widen(taps[b, at, first, c]) + widen(taps[b, at - spacing, first + 1, c])
                    x[b, t, c] = narrow(total + widen(taps[b, at - 2 * spacing, first + 2, c]), x[b, t, c])
            for tap in range(first + 3, last + 1):
                for c in range(width):
                    total = widen(x[b, t, c]) + widen(taps[b, newest - tap * spacing, tap, c])
                    x[b, t, c] = narrow(total, x[b, t, c])


@_compiled
def rectify(x: Array, bias: Array) -> None:
    """x (B, T, C) plus bias (C,), to 0 where that is below, in place; NaN stays."""
    batch, frames, width = x.shape
    for b in range(batch):
        for t in range(frames):
            for c in range(width):
                value = widen(x[b, t, c]) + widen(bias[c])
                # A choice and not a branch: which of the two it will be, no processor can foresee.
                x[b, t, c] = narrow(np.float32(0) if value < 0 else value, x[b, t, c])


@_compiled
def block(gradient: Array, rectified: Array, out: Array) -> None:
    """The gradient of `rectify`: 0 where nothing came through. All (B, T, C)."""
    given, came, to = gradient.reshape(-1), rectified.reshape(-1), out.reshape(-1)
    for i in range(given.size):
        value = widen(given[i])
        to[i] = narrow(np.float32(0) if widen(came[i]) <= 0 else value, given[i])


@_compiled
def add_scaled(x: Array, y: Array, bias: Array, factors: Array, out: Array) -> None:
    """x + (y + bias) * factors of every frame: x, y, out (B, T, C), bias (C,), factors (B, C)."""
    batch, frames, width = x.shape
    for b in range(batch):
        for t in range(frames):
            for c in range(width):
                total = widen(x[b, t, c]) + (widen(y[b, t, c]) + widen(bias[c])) * widen(factors[b, c])
                out[b, t, c] = narrow(total, x[b, t, c])


@_compiled
def scale(x: Array, factors: Array, out: Array) -> None:
    """x * factors of every frame: x, out (B, T, C), factors (B, C)."""
    batch, frames, width = x.shape
    for b in range(batch):
        for t in range(frames):
            for c in range(width):
                out[b, t, c] = narrow(widen(x[b, t, c]) * widen(factors[b, c]), x[b, t, c])


@_compiled
def sum_windows(windows: Array, spacing: int, sums: Array, x: Array) -> None:
    """To each frame of x (B, T, C) the sum of what the windows (B, N, K, C) hold of it; the gradient of cutting them.

    Tap k of window n is frame n + k * spacing, and T = N + (K - 1) * spacing. sums: room for (C,), float32 or wider.
    """
    batch, n, taps, width = windows.shape
    for b in range(batch):
        for t in range(x.shape[1]):
            # The taps k whose window n = t - k * spacing there is.
            first, last = max(0, -((n - 1 - t) // spacing)), min(taps - 1, t // spacing)
            for c in range(width):
                sums[c] = 0
            for tap in range(first, last + 1):
                for c in range(width):
                    sums[c] += widen(windows[b, t - tap * spacing, tap, c])
            for c in range(width):
                x[b, t, c] = narrow(sums[c], x[b, t, c])


@_compiled
def pool_pairs(x: Array, spacing: int, larger: Array) -> None:
    """The larger of frame t and frame t + spacing of x (B, T, C): (B, T - spacing, C); NaN stays."""
    batch, frames, width = larger.shape
    for b in range(batch):
        for t in range(frames):
            for c in range(width):
                one, other = widen(x[b, t, c]), widen(x[b, t + spacing, c])
                larger[b, t, c] = x[b, t, c] if one >= other or one != one else x[b, t + spacing, c]


@njit(error_model="numpy")
def _share(gradient: Any, own: Any, other: Any) -> Any:
    """What one of a pair gets of the gradient of the larger one: all of it, half where they are equal, or nothing."""
    return gradient if own > other else (gradient * np.float32(0.5) if own == other else np.float32(0))


@_compiled
def share_pairs(gradient: Array, x: Array, spacing: int, of_x: Array) -> None:
    """The gradient of `pool_pairs`: gradient (B, T - spacing, C), x and of_x (B, T, C)."""
    batch, frames, width = x.shape
    for b in range(batch):
        for t in range(frames):
            # Every frame is the first of one pair and the second of another, but for those at both ends.
            before, after = t - spacing, t + spacing
            if before >= 0 and after < frames:
                for c in range(width):
                    own = widen(x[b, t, c])
                    total = _share(widen(gradient[b, t, c]), own, widen(x[b, after, c]))
                    total += _share(widen(gradient[b, before, c]), own, widen(x[b, before, c]))
                    of_x[b, t, c] = narrow(total, of_x[b, t, c])
            elif after < frames:
                for c in range(width):
                    part = _share(widen(gradient[b, t, c]), widen(x[b, t, c]), widen(x[b, after, c]))
                    of_x[b, t, c] = narrow(part, of_x[b, t, c])
            elif before >= 0:
                for c in range(width):
                    part = _share(widen(gradient[b, before, c]), widen(x[b, t, c]), widen(x[b, before, c]))
                    of_x[b, t, c] = narrow(part, of_x[b, t, c])
            else:
                for c in range(width):
                    of_x[b, t, c] = 0
