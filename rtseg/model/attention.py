"""Attention of each frame to the frames near it, in blocks, so that memory grows with the length and not its square."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SMALLEST_BLOCK = 32
"""Frames; smaller blocks make many tiny products, which are slower than a few that are partly masked."""


class LocalAttention(nn.Module):
    """Each frame attends to itself and to the `reach` frames before it and, unless causal, after it.

    n_query: width of the input that queries and keys are made from. n_value: of the one that values are made from.
    inner: width of queries, keys and values of all `heads` together. distance_bias: distance counts against a frame,
    more in some heads than in others (ALiBi, Press et al. 2022), for networks in which nothing else tells the order.
    """

    def __init__(
        self,
        n_query: int,
        n_value: int,
        inner: int,
        n_out: int,
        *,
        heads: int,
        reach: int,
        causal: bool,
        distance_bias: bool = False,
    ) -> None:
        super().__init__()
        self.heads, self.reach, self.causal, self.distance_bias = heads, reach, causal, distance_bias
        self.query, self.key = nn.Linear(n_query, inner), nn.Linear(n_query, inner)
        self.value, self.output = nn.Linear(n_value, inner), nn.Linear(inner, n_out)

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of one frame: a product with each key and each value that it may see."""
        seen = self.reach + 1 if self.causal else 2 * self.reach + 1
        return 2 * seen * self.query.out_features

    def forward(self, query_input: Tensor, value_input: Tensor) -> Tensor:
        """query_input (B, T, n_query), value_input (B, T, n_value) to (B, T, n_out)."""
        # A block is as long as the reach, so what a frame may see lies in its own block and the neighbouring ones.
        t, size = query_input.shape[1], max(self.reach, SMALLEST_BLOCK)
        query = self._blocks(self.query(query_input), size)  # (B, heads, blocks, size, D)
        key = self._with_neighbours(self._blocks(self.key(query_input), size))  # (B, heads, blocks, 2 or 3 sizes, D)
        value = self._with_neighbours(self._blocks(self.value(value_input), size))
        # Queries are divided and not the scores, of which there are many more.
        scores = query / math.sqrt(query.shape[-1]) @ key.mT + self._bias(t, size, query.dtype)
        mixed = (torch.softmax(scores, -1).to(value.dtype) @ value).flatten(2, 3)[:, :, :t]
        output: Tensor = self.output(mixed.transpose(1, 2).flatten(2))
        return output

    def _blocks(self, x: Tensor, size: int) -> Tensor:
        """(B, T, inner) to (B, heads, blocks, size, D), the last block padded."""
        # Padded frames are masked in `_bias` and cut off at the end.
        x = F.pad(x, (0, 0, 0, -x.shape[1] % size))
        return x.reshape(len(x), -1, size, self.heads, x.shape[2] // self.heads).permute(0, 3, 1, 2, 4)

    def _with_neighbours(self, x: Tensor) -> Tensor:
        """Each block joined to its predecessor and, unless causal, to its successor."""
        padded = F.pad(x, (0, 0, 0, 0, 1, 0 if self.causal else 1))
        n = x.shape[2]
        return torch.cat([padded[:, :, i : i + n] for i in range(2 if self.causal else 3)], 3)

    def _bias(self, t: int, size: int, dtype: torch.dtype) -> Tensor:
        """(heads or 1, blocks, size, keys): what is added to a score, minus infinity where a frame is not seen."""
        return _bias(t, size, self.reach, self.causal, self.heads if self.distance_bias else 0, dtype)


# As many as the layers of one stage differ in: every stage and every batch asks for the same again.
@lru_cache(maxsize=12)
def _bias(t: int, size: int, reach: int, causal: bool, sloping_heads: int, dtype: torch.dtype) -> Tensor:
    n_keys = size * (2 if causal else 3)
    key = torch.arange(n_keys) - size
    distance = torch.arange(size)[:, None] - key
    near = (distance.abs() <= reach) & ((distance >= 0) | torch.tensor(not causal))
    place = torch.arange(-(-t // size))[:, None, None] * size + key
    # Frames of the padding see themselves: a row without any would be NaN, and its gradient with it.
    seen = near & (((place >= 0) & (place < t)) | (distance == 0))
    slopes = 2.0 ** -torch.arange(1, sloping_heads + 1) if sloping_heads else torch.zeros(1)
    return torch.where(seen, -slopes[:, None, None, None] * distance.abs(), -math.inf).to(dtype)
