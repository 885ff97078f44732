"""The multi-stage TCN for one task (paper, IV.C): a predictor generator, then stages that refine its probabilities.

After Li et al. 2020: dilated residual layers, symmetric as published or causal; dual dilated layers in the generator.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from rtseg.config import ModelSettings
from rtseg.model.base import SequenceModel, Stage
from rtseg.model.convolution import same_width
from rtseg.recordings.heads import Head


class MultiStageTCN(SequenceModel):
    """`stages` of `layers` each; every refining stage is shown all heads' probabilities and nothing else."""

    def __init__(self, n_features: int, heads: Sequence[Head], settings: ModelSettings) -> None:
        c, p = settings.channels, sum(len(h.classes) for h in heads)
        super().__init__(n_features, heads, c, settings.causal, settings.dropout)
        last = settings.layers - 1
        self.enter = nn.Linear(n_features, c)
        self.generator = nn.ModuleList(
            _Layer(settings, (2 ** (last - i), 2**i) if settings.dual_dilation else (2**i,))
            for i in range(settings.layers)
        )
        self.outputs = nn.ModuleList(nn.Linear(c, p) for _ in range(settings.stages))
        self.reenter = nn.ModuleList(nn.Linear(p, c) for _ in range(settings.stages - 1))
        self.refinements = nn.ModuleList(
            nn.ModuleList(_Layer(settings, (2**i,)) for i in range(settings.layers)) for _ in range(settings.stages - 1)
        )

    def trunk(self, features: Tensor) -> Tensor:
        """The generator's last layer."""
        return self._through(self.generator, self.enter(self.drop(self.scale(features), self.dropout / 2)))

    def answers(self, hidden: Tensor) -> list[Stage]:
        """The generator's logits, and those of each refinement."""
        logits = self.outputs[0](hidden)
        stages = [self.split(logits)]
        for enter, layers, leave in zip(self.reenter, self.refinements, self.outputs[1:], strict=True):
            assert isinstance(layers, Iterable)
            logits = leave(self._through(layers, enter(self.believed(logits))))
            stages.append(self.split(logits))
        return stages

    def _through(self, layers: Iterable[nn.Module], x: Tensor) -> Tensor:
        for layer in layers:
            x = x + self.drop(layer(x), self.dropout)
        return x


class _Layer(nn.Module):
    """Convolutions with these dilations, and what they say mixed: the residual part of a layer.

    One: rectified, then mixed (MS-TCN). Two: fused, then rectified (MS-TCN++'s dual dilated layer).
    """

    def __init__(self, settings: ModelSettings, dilations: tuple[int, ...]) -> None:
        super().__init__()
        c = settings.channels
        self.convolutions = nn.ModuleList(same_width(c, settings.kernel, d, settings.causal) for d in dilations)
        self.mix = nn.Linear(len(dilations) * c, c)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) to the same."""
        heard = torch.cat([convolution(x) for convolution in self.convolutions], -1)
        if len(self.convolutions) == 1:
            mixed: Tensor = self.mix(torch.relu(heard))
            return mixed
        return torch.relu(self.mix(heard))
