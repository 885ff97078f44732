"""What inference does around the network: decoding, missing frames, what is outside training's range."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rtseg.config.checks import require


@dataclass(frozen=True)
class DecodingSettings:
    """From probabilities to bouts; `rtseg.inference.decoding` states the rules.

    margin: by how much another class must lead before the label changes, and min_bout_frames: for how many frames.
    merge_gap_frames: interruptions of a bout up to this length are part of it. settle_margin: added to the margin right
    after a change; it fades over settle_frames.
    """

    margin: float = 0.0
    min_bout_frames: int = 1
    merge_gap_frames: int = 0
    settle_margin: float = 0.0
    settle_frames: int = 0

    def __post_init__(self) -> None:
        # Margins are differences of probabilities.
        for name in ("margin", "settle_margin"):
            require(0 <= getattr(self, name) <= 1, f"decoding.{name} must lie in [0, 1], got {getattr(self, name)}")
        require(
            self.min_bout_frames >= 1 and self.merge_gap_frames >= 0 and self.settle_frames >= 0,
            "decoding: min_bout_frames must be 1 or more, merge_gap_frames and settle_frames 0 or more, "
            f"got {self.min_bout_frames}, {self.merge_gap_frames} and {self.settle_frames}",
        )


@dataclass(frozen=True)
class GapSettings:
    """Missing frames: up to fill_frames of them are stepped as frames without any point, beyond that a stream restarts.

    low_confidence: mean confidence of the seen points under which a prediction is flagged. frozen_s: predictions are
    flagged where all positions have been the very same for this long, in seconds (0 = never): see `frames.frozen`.
    """

    fill_frames: int = 30
    low_confidence: float = 0.3
    frozen_s: float = 2.0

    def __post_init__(self) -> None:
        require(self.fill_frames >= 0, f"gaps.fill_frames must be 0 or more, got {self.fill_frames}")
        # Written so that NaN is refused.
        require(0 <= self.frozen_s < math.inf, f"gaps.frozen_s must be seconds, 0 or more, got {self.frozen_s}")


@dataclass(frozen=True)
class RangeSettings:
    """When live features no longer look like training's; see `rtseg.features.drift`.

    A feature's range goes from this percentile of its training values to 100 minus it, widened at both ends by `margin`
    times its width. A frame is flagged where more than `share` of its known features are out of range, or one lies more
    than `far` widths beyond an end. (Measured on rats58: 1 in 800 frames of videos not trained on; 1 in 5 where the
    camera stood so much closer that everything is 1.5 times as large, half of them where it is a quarter as large.)
    """

    percentile: float = 0.1
    margin: float = 0.25
    share: float = 0.02
    far: float = 2.0

    def __post_init__(self) -> None:
        # From 50 on the lower end would not lie below the upper one.
        require(0 <= self.percentile < 50, f"ranges.percentile must lie in [0, 50), got {self.percentile}")
        require(0 <= self.share <= 1, f"ranges.share is a share in [0, 1], got {self.share}")
        require(min(self.margin, self.far) >= 0, f"ranges: margin and far must be 0 or more, got {self}")


@dataclass(frozen=True)
class BodySettings:
    """How large animals appear: measured as a recording goes on, and compared with training; see `features.body_size`.

    horizon_s: time constant of the running measure. frames: with a measured animal, after which a stream is judged;
    where its size is far from training's, after a third of them.
    Training's sizes go from this percentile of what was measured in its recordings to 100 minus it, widened at both
    ends by the share `margin`. (Measured on rats58: 1 in 1,000 frames of videos not trained on; at 1.5 times the scale,
    at two thirds, a half or a third of it all but a video's first 100 to 300 measured frames.)
    """

    horizon_s: float = 300.0
    frames: int = 300
    percentile: float = 1.0
    margin: float = 0.15

    def __post_init__(self) -> None:
        require(
            self.horizon_s > 0 and self.frames >= 1 and 0 <= self.percentile < 50 and self.margin >= 0,
            f"body: horizon_s must be positive, frames 1 or more, percentile in [0, 50), margin 0 or more, got {self}",
        )
