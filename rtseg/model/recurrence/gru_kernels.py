"""The frames of a gated recurrent unit, forwards and backwards, compiled; `gru_autograd` makes one function of them.

A frame waits for the one before it, so this is no large product but a loop of small ones, which in torch, at a dozen
calls a frame, takes most of a training's time. Sequences are independent rows: their bits depend neither on the others
nor on how many threads share them. float32, and float64 for checks of the gradient.

Gates lie side by side in the order reset, update, new; each takes W numbers, the unit's size padded to whole LANES, and
the padding stays zero. A unit with a period of p frames has p states for each sequence, one for every phase. A row of
the products is one state; rows are ordered by phase, so that those which still have a frame at the end come first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rtseg.compiled import cache_stamps, lanes, products
from rtseg.compiled.lanes import add, like, load, multiply, store, subtract
from rtseg.compiled.products import N, product

Array = NDArray[np.floating[Any]]
NOTHING, ONE, THREE = np.uintp(0), np.uintp(1), np.uintp(3)


class Passed(NamedTuple):
    """What a unit computes for B sequences of T frames, and what its gradient needs.

    gates: (B, T, 3W), at first the sums from the input without a bias, then the opened gates and the new value.
    states: (B, p + T, W), the first p zero. own: (B, T, W), what the new gate's sum gets from the state.
    """

    gates: Array
    states: Array
    own: Array


class Gradients(NamedTuple):
    """given: (B, T, W), of the states. sums: (B, T, 3W), of the gates' sums. own: (B, T, W), as `Passed.own`."""

    given: Array
    sums: Array
    own: Array


class Rows(NamedTuple):
    """first, last: sequences of a batch, last excluded. period: p. inputs: R, the unit's size."""

    first: int
    last: int
    period: int
    inputs: int


def scratch_size(rows: Rows, width: int) -> int:
    """Numbers of scratch that `forward` and `backward` need."""
    return (rows.last - rows.first) * rows.period * 5 * width


@njit(cache=False, error_model="numpy")
def _open_gates(passed: Passed, bias: Array, g: Any, to: Any, s: Array, x: Any, y: Any) -> None:
    """One frame of one sequence: a state in s[x:] and the sums from it in s[y:] become a new state.

    g, to: where the frame's gates and its state begin.
    """
    gates, states, own = passed
    width = np.uintp(own.shape[2])
    kept, update, new, third = g // THREE, g + width, g + width + width, THREE * width
    for i in range(NOTHING, width + width, N):
        store(gates, g + i, lanes.sigmoid(add(load(gates, g + i), load(s, y + i))))
    for i in range(NOTHING, width, N):
        # Kept, because the reset gate multiplies it: its share cannot be found in the new value again.
        from_state = load(s, y + width + width + i)
        store(own, kept + i, from_state)
        from_input = add(load(gates, new + i), load(bias, third + i))
        value = lanes.tanh(lanes.muladd(load(gates, g + i), from_state, from_input))
        store(gates, new + i, value)
        # Written as in the engine's step.
        state = lanes.muladd(load(gates, update + i), subtract(load(s, x + i), value), value)
        store(s, x + i, state)
        store(states, to + i, state)


@njit(cache=False, error_model="numpy")
def _close_gates(passed: Passed, gradients: Gradients, g: Any, before: Any, s: Array, later: Any, x: Any) -> None:
    """One frame of one sequence: the gradients of its sums from that of its state.

    s[later:] holds what comes from the next state, and gets what passes to the state before without a gate; s[x:] gets
    the gradients of the sums from the state. g, before: where the frame's gates and the state before begin.
    """
    gates, states, own = passed
    given, sums, grad_own = gradients
    width = np.uintp(own.shape[2])
    kept = g // THREE
    for i in range(NOTHING, width, N):
        reset, update, new = load(gates, g + i), load(gates, g + width + i), load(gates, g + width + width + i)
        one = like(1, new)
        here = add(load(given, kept + i), load(s, later + i))
        by_new = multiply(multiply(here, subtract(one, update)), subtract(one, multiply(new, new)))
        by_update = multiply(
            multiply(here, subtract(load(states, before + i), new)), multiply(update, subtract(one, update))
        )
        by_reset = multiply(multiply(by_new, load(own, kept + i)), multiply(reset, subtract(one, reset)))
        by_own = multiply(by_new, reset)
        store(sums, g + i, by_reset)
        store(sums, g + width + i, by_update)
        store(sums, g + width + width + i, by_new)
        store(grad_own, kept + i, by_own)
        store(s, x + i, by_reset)
        store(s, x + width + i, by_update)
        store(s, x + width + width + i, by_own)
        store(s, later + i, multiply(here, update))


@njit(cache=False, error_model="numpy")
def _places(rows: Rows, row: Any, step: Any, frames: Any, width: Any) -> tuple[Any, Any]:
    """Where a row's gates and the state before its frame begin, `step` frames after the first of all phases."""
    n = np.uintp(rows.last - rows.first)
    sequence, frame = np.uintp(rows.first) + row % n, step + row // n
    return (
        (sequence * frames + frame) * THREE * width,
        (sequence * (frames + np.uintp(rows.period)) + frame) * width,
    )


def _compiled_forward(stamp: int) -> Callable[[Passed, Array, Array, Array, Rows], None]:
    @njit(cache=True, error_model="numpy", nogil=True)
    def forward(passed: Passed, bias: Array, panels: Array, s: Array, rows: Rows) -> None:
        _ = stamp
        frames, width = np.uintp(passed.own.shape[1]), np.uintp(passed.own.shape[2])
        n, period = np.uintp(rows.last - rows.first), np.uintp(rows.period)
        y = n * period * width
        for i in range(y):
            s[i] = 0.0  # states before the first frame
        for step in range(NOTHING, frames, period):
            count = n * min(period, frames - step)
            shape = count, ONE, np.uintp(rows.inputs), THREE * width
            product((bias, panels), (NOTHING, NOTHING), s, (NOTHING, width, NOTHING), (y, THREE * width), shape)
            for row in range(count):
                g, before = _places(rows, row, step, frames, width)
                _open_gates(passed, bias, g, before + period * width, s, row * width, y + row * THREE * width)

    compiled: Callable[[Passed, Array, Array, Array, Rows], None] = forward
    return compiled


def _compiled_backward(stamp: int) -> Callable[[Passed, Gradients, Array, Array, Array, Rows], None]:
    @njit(cache=True, error_model="numpy", nogil=True)
    def backward(passed: Passed, gradients: Gradients, bias: Array, panels: Array, s: Array, rows: Rows) -> None:
        _ = stamp
        frames, width = np.uintp(passed.own.shape[1]), np.uintp(passed.own.shape[2])
        n, period = np.uintp(rows.last - rows.first), np.uintp(rows.period)
        later = NOTHING
        x = n * period * width
        y = x + n * period * THREE * width
        for i in range(x):
            s[i] = 0.0  # nothing comes after the last frame
        last = (frames - ONE) // period * period
        for back in range(NOTHING, frames, period):
            step = last - back
            count = n * min(period, frames - step)
            for row in range(count):
                g, before = _places(rows, row, step, frames, width)
                _close_gates(passed, gradients, g, before, s, later + row * width, x + row * THREE * width)
            shape = count, ONE, THREE * width, width
            product((bias, panels), (NOTHING, NOTHING), s, (x, THREE * width, NOTHING), (y, width), shape)
            for i in range(NOTHING, count * width, N):
                store(s, later + i, add(load(s, later + i), load(s, y + i)))

    compiled: Callable[[Passed, Gradients, Array, Array, Array, Rows], None] = backward
    return compiled


forward = _compiled_forward(cache_stamps.source_stamp(lanes, products))
"""Some sequences from states of zero: gates, states and own of `passed`, in place.

bias: (4W,), of the reset and update gates, and apart what the new gate's sums from the state and from the input get.
panels: the weights (R, 3W) from a state to the gates' sums as `products` wants them: (3W / LANES, R, LANES). s:
`scratch_size` numbers.
"""

backward = _compiled_backward(cache_stamps.source_stamp(lanes, products))
"""Of some sequences `gradients.sums` and `gradients.own` from `gradients.given`.

bias: (W,) zeros. panels: of the transposed weights, (3W, W): (W / LANES, 3W, LANES). s: `scratch_size` numbers.
"""
