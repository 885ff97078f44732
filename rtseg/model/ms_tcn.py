"""The multi-stage TCN for one task (paper, IV.C): a predictor generator, then stages that refine its probabilities.

After Li et al. 2020: dilated residual layers, layer i with dilation 2^i, symmetric as published or causal.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor, nn

from rtseg.config import ModelSettings
from rtseg.model.base import SequenceModel, Stage
from rtseg.model.convolution import residual_convolution
from rtseg.model.residual.layer import add_mixed
from rtseg.recordings.heads import Head


class MultiStageTCN(SequenceModel):
    """`stages` of `layers` each; every refining stage sees all heads' probabilities and nothing else."""

    def __init__(self, n_features: int, heads: Sequence[Head], settings: ModelSettings) -> None:
        c, p = settings.channels, sum(len(h.classes) for h in heads)
        super().__init__(n_features, heads, c, settings.causal, settings.dropout)
        self.enter = nn.Linear(n_features, c)
        self.generator = _layers(settings)
        # A stage each, since every stage's logits are trained (`MultitaskLoss`).
        self.outputs = nn.ModuleList(nn.Linear(c, p) for _ in range(settings.stages))
        self.reenter = nn.ModuleList(nn.Linear(p, c) for _ in range(settings.stages - 1))
        self.refinements = nn.ModuleList(_layers(settings) for _ in range(settings.stages - 1))

    def trunk(self, features: Tensor) -> Tensor:
        """The generator's last layer."""
        return self._through(self.generator, self.enter(self.drop_channels(self.scale(features), self.dropout / 2)))

    def stage_logits(self, hidden: Tensor) -> list[Stage]:
        """The generator's logits, and those of each refinement."""
        logits = self.outputs[0](hidden)
        stages = [self.split_heads(logits)]
        for enter, layers, leave in zip(self.reenter, self.refinements, self.outputs[1:], strict=True):
            assert isinstance(layers, Iterable)
            # The hidden layer is not passed on: a stage that sees only probabilities learns what sequences look like.
            logits = leave(self._through(layers, enter(self.head_probabilities(logits))))
            stages.append(self.split_heads(logits))
        return stages

    def _through(self, layers: Iterable[nn.Module], x: Tensor) -> Tensor:
        for layer in layers:
            x = layer(x, self.channel_factors(x, self.dropout))
        return x


def _layers(settings: ModelSettings) -> nn.ModuleList:
    return nn.ModuleList(_Layer(settings, 2**i) for i in range(settings.layers))


class _Layer(nn.Module):
    """A dilated convolution, rectified, then mixed and added to what came in."""

    def __init__(self, settings: ModelSettings, dilation: int) -> None:
        super().__init__()
        c = settings.channels
        self.convolution = residual_convolution(c, settings.kernel, dilation, settings.causal)
        self.mix = nn.Linear(c, c)

    def forward(self, x: Tensor, factors: Tensor | None) -> Tensor:
        """(B, T, C) to the same. factors: (B, 1, C), of what is added, see `channel_factors`."""
        return add_mixed(x, self.convolution.rectified(x), self.mix.weight, self.mix.bias, factors)
