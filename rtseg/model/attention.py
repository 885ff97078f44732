"""Attention of each frame to the frames near it, in blocks, so that memory grows with the length and not its square."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SMALLEST_BLOCK = 32
"""Frames; smaller blocks make many tiny products, which are slower than a few that are partly masked."""


class LocalAttention(nn.Module):
    """Each frame attends to itself and to the `reach` frames before it and, unless causal, after it.

    n_asking: width of what queries and keys are made from. n_telling: of what values are made from. inner: width of
    queries, keys and values of all `heads` together. fading: distance counts against a frame, more in some heads than
    in others (Press et al. 2022), for where nothing else says how long ago something was.
    """

    def __init__(
        self,
        n_asking: int,
        n_telling: int,
        inner: int,
        n_out: int,
        *,
        heads: int,
        reach: int,
        causal: bool,
        fading: bool = False,
    ) -> None:
        super().__init__()
        self.heads, self.reach, self.causal, self.fading = heads, reach, causal, fading
        self.query, self.key = nn.Linear(n_asking, inner), nn.Linear(n_asking, inner)
        self.value, self.leave = nn.Linear(n_telling, inner), nn.Linear(inner, n_out)

    @property
    def multiply_adds(self) -> int:
        """Of one frame: a product with each key and each value that it may see."""
        seen = self.reach + 1 if self.causal else 2 * self.reach + 1
        return 2 * seen * self.query.out_features

    def forward(self, asking: Tensor, telling: Tensor) -> Tensor:
        """asking (B, T, n_asking), telling (B, T, n_telling) to (B, T, n_out)."""
        t, size = asking.shape[1], max(self.reach, SMALLEST_BLOCK)
        query = self._blocks(self.query(asking), size)  # (B, heads, blocks, size, D)
        key = self._with_neighbours(self._blocks(self.key(asking), size))  # (B, heads, blocks, 2 or 3 sizes, D)
        value = self._with_neighbours(self._blocks(self.value(telling), size))
        scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1]) + self._bias(t, size).to(query.dtype)
        told = (torch.softmax(scores, -1).to(value.dtype) @ value).flatten(2, 3)[:, :, :t]
        left: Tensor = self.leave(told.transpose(1, 2).flatten(2))
        return left

    def _blocks(self, x: Tensor, size: int) -> Tensor:
        """(B, T, inner) to (B, heads, blocks, size, D), the last block padded."""
        x = F.pad(x, (0, 0, 0, -x.shape[1] % size))
        return x.reshape(len(x), -1, size, self.heads, x.shape[2] // self.heads).permute(0, 3, 1, 2, 4)

    def _with_neighbours(self, x: Tensor) -> Tensor:
        """Each block behind its predecessor and, unless causal, before its successor."""
        padded = F.pad(x, (0, 0, 0, 0, 1, 0 if self.causal else 1))
        n = x.shape[2]
        return torch.cat([padded[:, :, i : i + n] for i in range(2 if self.causal else 3)], 3)

    def _bias(self, t: int, size: int) -> Tensor:
        """(heads or 1, blocks, size, keys): what is added to a score, minus infinity where a frame is not seen."""
        n_keys = size * (2 if self.causal else 3)
        key = torch.arange(n_keys) - size
        distance = torch.arange(size)[:, None] - key
        near = (distance.abs() <= self.reach) & ((distance >= 0) | torch.tensor(not self.causal))
        place = torch.arange(-(-t // size))[:, None, None] * size + key
        # Frames of the padding see themselves, so that no row is empty; nobody reads what they get.
        seen = near & (((place >= 0) & (place < t)) | (distance == 0))
        slopes = 2.0 ** -torch.arange(1, self.heads + 1) if self.fading else torch.zeros(1)
        return torch.where(seen, -slopes[:, None, None, None] * distance.abs(), -math.inf)
