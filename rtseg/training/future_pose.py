"""An auxiliary loss: the pose half a second ahead, predicted from the hidden layer; dropped when training is over.

Labels teach a network little about what happens next; the poses themselves do, in every frame, labelled or not.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rtseg.errors import SettingError
from rtseg.features.spec import Feature
from rtseg.model.base import SequenceModel

POSE_GROUPS = (
    "position",
    "within_distance",
    "between_distance",
    "center",
    "extension",
    "egocentric_self",
    "egocentric_other",
    "heading",
    "relative_angle",
)
"""Feature groups that say where the points are at one moment."""
AHEAD_S = 0.5


class FuturePose(nn.Module):
    """A linear output on a causal network's hidden layer, and its loss: the scaled pose features some frames ahead."""

    def __init__(self, model: SequenceModel, features: Sequence[Feature], weight: float, rows_per_s: float) -> None:
        """rows_per_s: of the sequences that the network is trained on. Raises SettingError where nothing can be
        predicted.
        """
        super().__init__()
        if not model.causal:
            raise SettingError(
                "train.future_pose_weight needs model.causal = true: what sees the future has nothing to predict"
            )
        self.columns = [i for i, f in enumerate(features) if f.group in POSE_GROUPS]
        if not self.columns:
            raise SettingError(f"train.future_pose_weight needs a feature group of {', '.join(POSE_GROUPS)}")
        ends = [i for i, column in enumerate(self.columns, 1) if column + 1 not in self.columns]
        self._stretches = [slice(self.columns[a], self.columns[b - 1] + 1) for a, b in pairwise([0, *ends])]
        self.frames = max(1, round(AHEAD_S * rows_per_s))
        self.weight = weight
        self.output = nn.Linear(model.width, len(self.columns))

    def forward(self, hidden: Tensor, features: Tensor, model: SequenceModel) -> Tensor:
        """The weighted loss (Huber) of hidden (B, T, C) on raw features (B, T, F), where they are known.

        model: scales them.
        """
        # The last frames of a crop have no later pose within it to be compared with.
        guess = self.output(hidden[:, : -self.frames]).float()
        # Stretches of columns are copied much faster than columns one by one.
        raw = torch.cat([features[:, self.frames :, stretch] for stretch in self._stretches], -1)
        # Unknown features are filled with the training mean when scaled; predicting that teaches nothing.
        known = ~torch.isnan(raw)
        losses = F.huber_loss(guess, model.scale(raw, self.columns), reduction="none") * known
        return self.weight * losses.sum() / known.sum().clamp(min=1)
