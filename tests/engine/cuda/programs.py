"""A step program interpreted in numpy, float64: slow, obvious, one stream."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rtseg.engine.cuda import step_program as p

F64 = NDArray[np.float64]


class Interpreter:
    """One stream's rings, and what each operation does to them and to the scratch row."""

    def __init__(self, program: p.StepProgram, n_outputs: int) -> None:
        self.weights = program.weights.astype(np.float64)
        n_ops, start = int(program.code[0]), int(program.code[5])
        self.ops = program.code[p.HEADER : start].reshape(n_ops, p.FIELDS).tolist()
        self.tables = program.code[start:]
        self.rings, self.frame, self.n_outputs = np.zeros(program.ring_floats), 0, n_outputs
        self.scratch_floats = program.scratch_floats

    def step(self, features: NDArray[np.float32]) -> F64:
        # What an operation reads must have been written in this step: the rest is no number.
        self.s, self.features = np.full(self.scratch_floats, np.nan), features.astype(np.float64)
        self.out = np.full(self.n_outputs, np.nan)
        for kind, *fields in self.ops:
            names = {p.LINEAR: self.linear, p.SCALE: self.scale, p.READ_RINGS: self.read_rings, p.VIEWS: self.views}
            names |= {p.POOL: self.pool, p.GATES: self.gates, p.SOFTMAX: self.softmax, p.OUTPUT: self.output}
            names[p.WRITE_RINGS] = self.write_rings
            names[kind](*fields)
        self.frame += 1
        return self.out

    def columns(self, table: int, n: int, count: int) -> list[NDArray[np.int32]]:
        return list(self.tables[table : table + n * count].reshape(count, n))

    def linear(
        self, x: int, n_in: int, y: int, n_out: int, w: int, bias: int, relu: int, groups: int,
        x_step: int, y_step: int, w_step: int, b_step: int, residual: int, r_step: int, *_: int,
    ) -> None:  # fmt: skip
        for g in range(groups):
            weight = self.weights[w + g * w_step :][: n_in * n_out].reshape(n_in, n_out)
            value = self.s[x + g * x_step :][:n_in] @ weight + self.weights[bias + g * b_step :][:n_out]
            value = np.maximum(value, 0.0) if relu else value
            if residual != p.NONE:
                value = value + self.s[residual + g * r_step :][:n_out]
            self.s[y + g * y_step :][:n_out] = value

    def scale(self, z: int, n: int, fill: int, shift: int, scale: int, clip: int, *_: int) -> None:
        w = self.weights
        known = np.where(np.isnan(self.features), w[fill : fill + n], self.features)
        self.s[z : z + n] = np.clip((known - w[shift : shift + n]) * w[scale : scale + n], -w[clip], w[clip])

    def read_rings(self, n: int, table: int, *_: int) -> None:
        place, at, depth, shift, width = self.columns(table, n, 5)
        self.s[place] = self.rings[at + (self.frame + shift) % depth * width]

    def write_rings(self, n: int, table: int, *_: int) -> None:
        place, at, depth, width = self.columns(table, n, 4)
        self.rings[at + self.frame % depth * width] = self.s[place]

    def views(self, x: int, y: int, n: int, table: int, *_: int) -> None:
        (column,) = self.columns(table, n, 1)
        self.s[y : y + n] = self.s[x + np.abs(column) - 1] * np.sign(column)

    def pool(self, x: int, n: int, views: int, table: int, *_: int) -> None:
        mean, above = self.columns(table, n, 2)
        codes = self.s[x : x + views * n].reshape(views, n)
        self.s[mean] = codes.mean(axis=0)
        self.s[above] = codes.max(axis=0) - codes.mean(axis=0)

    def gates(self, from_x: int, from_h: int, state: int, y: int, n: int, cells: int, *_: int) -> None:
        for c in range(cells):
            g, k = (self.s[at + c * 3 * n :][: 3 * n].reshape(3, n) for at in (from_x, from_h))
            reset, update = 1 / (1 + np.exp(-(g[:2] + k[:2])))
            before = self.s[state + c * n :][:n]
            self.s[y + c * n :][:n] = (1 - update) * np.tanh(g[2] + reset * k[2]) + update * before

    def softmax(self, x: int, y: int, heads: int, n: int, scale: int, shift: int, *_: int) -> None:
        value = self.s[x : x + heads * n].reshape(heads, n)
        if scale != p.NONE:
            value = value * self.weights[scale:][: heads * n].reshape(heads, n)
            value = value + self.weights[shift:][: heads * n].reshape(heads, n)
        value = np.exp(value - value.max(axis=1, keepdims=True))
        self.s[y : y + heads * n] = (value / value.sum(axis=1, keepdims=True)).ravel()

    def output(self, n: int, table: int, *_: int) -> None:
        (place,) = self.columns(table, n, 1)
        self.out[:n] = self.s[place]
