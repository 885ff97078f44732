"""A recipe for a first model: features that the skeleton has, and a network that trains in minutes on two cores.

The sizes were chosen on recordings of mice, rats and fish (docs/recipe.md says how); `rtseg study` looks for better
ones once there are more recordings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from rtseg.features.spec import FeatureSpec
from rtseg.frames.skeleton import Skeleton
from rtseg.project.body import numbered_stem

_MOVABLE = (
    *("within_distance", "between_distance", "speed", "box_overlap", "extension", "egocentric_self"),
    *("egocentric_other", "relative_angle", "body_velocity", "approach", "acceleration", "averages"),
    *("confidence", "missing", "absence"),
)
"""Groups that do not depend on where the camera stands."""
_MOTION = ("speed", "extension", "body_velocity", "acceleration", "missing")
"""How one animal moves. From a few minutes of it a network learns that animal's shape and the tracker's habits by heart
instead: on blocks of a freezing mouse's first half F1 0.56 with shape and confidence, 0.72 without. And it learns from
averages over seconds when in the recording things happened: mAP 0.69 with them, 0.77 without."""
_WINDOWS_S = (0.5,)
"""Of speeds, of one animal's motion: what trees found in window statistics and the cell did not. mAP 0.83 with them."""
_FEW_S = 600.0
"""Of labelled video, below which one animal's recipe begins with its motion alone."""
_ONE_POINT = ("position", "between_distance", "speed", "approach", "averages", "missing", "absence")
"""An animal of one point has no heading; where it is is most of what is known about it."""
NEED_ARENA = ("position", "center")
_CROP_S, _WARMUP_S = 15.0, 2.0
_BATCH = 8
_SHORT_CROP_S, _SHORT_BATCH = 7.5, 16
"""Of one animal's motion. Where parts are hardly longer than a crop, crops begin where parts do, and the cell learns by
heart how long after that something happened."""
_STEPS = 75
"""At least so many batches, however few the recordings are: fewer leave a network half trained, twice as many make it
learn a single video by heart."""
_PASSES = 12
_SPARSEST = 0.25
"""Crops of samples hold few labels, so more are drawn; below this share more of them would take too long."""
_EVALUATIONS = 6


@dataclass(frozen=True)
class Sizes:
    """What a proposed recipe says: feature groups, cells as (encoder, hidden, period), and how long it is trained."""

    groups: tuple[str, ...]
    motion: str
    windows_s: tuple[float, ...]
    encoder: int
    hidden: int
    period: int
    forget_order: bool
    batch: int
    crop_frames: int
    warmup_frames: int
    epochs: int
    evaluate_every: int
    class_weight_power: float
    settle_frames: int
    min_bout_frames: int

    @property
    def needs_arena(self) -> bool:
        """Whether any feature depends on the arena."""
        return any(group in NEED_ARENA for group in self.groups)

    @property
    def is_of_few_labels(self) -> bool:
        """Whether it is the recipe for one animal with few labels."""
        return self.groups == _MOTION

    @property
    def has_shape(self) -> bool:
        """Whether the features say where an animal's points are to each other."""
        return "within_distance" in self.groups


def propose_sizes(skeleton: Skeleton, n_frames: int, labelled: float, fps: float) -> Sizes:
    """Sizes for training on `n_frames` labelled frames at `fps`. labelled: their share of all frames to train on."""
    groups = _groups(skeleton, n_frames / fps)
    crop_s, batch = (_SHORT_CROP_S, _SHORT_BATCH) if groups == _MOTION else (_CROP_S, _BATCH)
    crop, warmup = round(crop_s * fps), round(_WARMUP_S * fps)
    batches = max(1, round(n_frames / (batch * (crop - warmup))))
    epochs = max(_PASSES, ceil(_STEPS / max(labelled, _SPARSEST) / batches))
    return Sizes(
        groups=groups,
        # Of one animal, stillness tells most. Of two fish, how fast the chase is: there roots took 0.06 from F1.
        motion="roots" if len(skeleton.animals) == 1 < len(skeleton.keypoints) else "linear",
        windows_s=_WINDOWS_S if groups == _MOTION else (),
        encoder=64,
        hidden=64,
        # A cell that moves every other frame sees twice as far, for half the work.
        period=2 if fps >= 20 else 1,
        forget_order=_are_numbered(skeleton.animals),
        batch=batch,
        crop_frames=crop,
        warmup_frames=warmup,
        epochs=epochs,
        evaluate_every=max(1, epochs // _EVALUATIONS),
        # With weights the rare class of one animal's few minutes is answered too often: 0.21 of frames for 0.18.
        class_weight_power=0.0 if groups == _MOTION else 0.25,
        settle_frames=round(4 * fps),
        min_bout_frames=max(1, round(0.1 * fps)),
    )


def _are_numbered(animals: Sequence[str]) -> bool:
    """Whether a number alone tells the animals apart, as individual1 and individual2: which is which means nothing."""
    return 1 < len(animals) <= 4 and numbered_stem(animals) is not None


def _groups(skeleton: Skeleton, labelled_s: float) -> tuple[str, ...]:
    """The groups that have any column for the skeleton. labelled_s: seconds of labelled video to train on."""
    wanted: Sequence[str] = _MOVABLE
    if len(skeleton.keypoints) == 1:
        wanted = _ONE_POINT
    elif len(skeleton.animals) == 1 and labelled_s < _FEW_S:
        wanted = _MOTION
    return tuple(group for group in wanted if FeatureSpec(groups=(group,)).features(skeleton))
