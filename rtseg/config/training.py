"""How models are trained: augmentation, the loop, gradient boosting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rtseg.config.checks import require


@dataclass(frozen=True)
class AugmentSettings:
    """Changes to training recordings, each a switch (paper, III.B and III.E).

    interpolate: factor of quadratic up-sampling (paper: 3; 1 = off); as in the paper it slows the training recordings
    only, nothing else is up-sampled. rotate, mirror: about the arena's centre. shift_px, noise_px, scale (of the
    logarithm): standard deviations. swap_animals: probability that a crop exchanges its animals. drop_points:
    probability that a point is missing for a short while. drop_animal: the same for a whole animal. drop_like_data:
    probability that a crop also misses the points that another training crop, drawn at random, misses.

    balance_tasks: copies are added until every head group has as many sequences as the largest (paper, III.E and H:
    Tasks 2 and 3 to Task 1's number). A copy carries its group's labels only, and whenever it is drawn it goes through
    the paper's augmentation, whatever else is off: rotation, mirroring, shift by copy_shift_px, noise of copy_noise_px.
    """

    interpolate: int = 1
    rotate: bool = False
    mirror: bool = False
    shift_px: float = 0.0
    noise_px: float = 0.0
    scale: float = 0.0
    swap_animals: float = 0.0
    drop_points: float = 0.0
    drop_animal: float = 0.0
    drop_like_data: float = 0.0
    balance_tasks: bool = False
    copy_shift_px: float = 20.0
    copy_noise_px: float = 1.0

    def __post_init__(self) -> None:
        require(self.interpolate >= 1, f"augment.interpolate must be 1 or more, got {self.interpolate}")
        for name in ("swap_animals", "drop_points", "drop_animal", "drop_like_data"):
            require(0 <= getattr(self, name) <= 1, f"augment.{name} is a share in [0, 1], got {getattr(self, name)}")
        for name in ("shift_px", "noise_px", "scale", "copy_shift_px", "copy_noise_px"):
            require(getattr(self, name) >= 0, f"augment.{name} must be 0 or more, got {getattr(self, name)}")


TASK_WEIGHTINGS = ("settings", "sum", "share", "uncertainty")
SELECTIONS = ("score", "f1", "map", "last")


@dataclass(frozen=True)
class TrainSettings:
    """The training loop.

    apart: every cell of the multitask network is trained as a network of its own, and they are put side by side (an
    ensemble in one network, which has no convolutions then and refines nothing).
    frame_stride: the network is trained on every so many-th frame (features are those of all); its periods and
    dilations must be multiples of it, so that each phase is a sequence of its own, and it is scored on all frames.
    cache_mb: where crops differ by a mirror at most, features of whole recordings are kept up to this size (else each
    crop's are worked out anew).
    crop_frames: length of a training crop, of which the first warmup_frames carry no loss (unless the crop begins the
    recording; where causal = false, half of them at either end). ema: decay of the weights' average, which is what is
    kept. patience: evaluations without a better validation score before stopping.

    Loss: class_weight_power: classes are weighted by inverse frequency to this power. logit_adjustment: times the log
    of the class frequencies is added to the logits in training (Menon et al. 2021; goes with class_weight_power 0).
    smoothing: weight of the truncated smoothing loss, its threshold smoothing_cut (Li et al. 2020, eq. 7).
    boundary_smoothing_frames: so near a label boundary the target mixes both labels, half and half at the boundary.
    soft_f1: weight of one minus the soft macro-F1 of the batch. stage_weight: of every stage but the last.
    distill_weight: share of the loss that is the divergence from a teacher's probabilities, where an example has them.
    future_pose_weight: of predicting the pose future_pose_s ahead from the last hidden layer, causal networks only.

    Tasks: a task's (head group's) loss is the mean over its heads. task_weighting: `settings`: task_weights by group,
    those not named task_weight_default; `sum`: all 1; `share`: each task's share of the batch's loss, L_g / sum of L,
    taken as constants (paper, V.C); `uncertainty`: exp(-s_g) L_g + s_g / 2 with learned s_g (Kendall et al. 2018).
    loss_factor: on the whole loss (paper, V.C: 0.1).

    Selection: what a checkpoint is chosen by on the validation recordings. select: `score` (mean over groups of
    macro-F1 and mAP), `f1` or `map` alone, or `last` (the last epoch's weights). select_group: one head group decides.
    """

    seed: int = 0
    epochs: int = 40
    batch: int = 8
    apart: bool = False
    frame_stride: int = 1
    cache_mb: int = 4096
    crop_frames: int = 3072
    warmup_frames: int = 512
    learning_rate: float = 1e-3
    weight_decay: float = 0.02
    warmup_steps: int = 50
    clip_gradient: float = 1.0
    class_weight_power: float = 0.5
    logit_adjustment: float = 0.0
    label_smoothing: float = 0.0
    boundary_smoothing_frames: int = 0
    smoothing: float = 0.15
    smoothing_cut: float = 4.0
    soft_f1: float = 0.0
    stage_weight: float = 0.5
    distill_weight: float = 0.0
    future_pose_weight: float = 0.0
    future_pose_s: float = 0.5
    loss_factor: float = 1.0
    task_weighting: str = "settings"
    task_weights: Mapping[str, float] = field(default_factory=dict)
    task_weight_default: float = 1.0
    ema: float = 0.998
    evaluate_every: int = 2
    patience: int = 8
    select: str = "score"
    select_group: str = ""
    threads: int = 2
    bfloat16: bool = False

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "frame_stride", "crop_frames", "evaluate_every", "patience", "threads"):
            require(getattr(self, name) >= 1, f"train.{name} must be 1 or more, got {getattr(self, name)}")
        require(
            0 <= self.warmup_frames < self.crop_frames,
            f"train.warmup_frames must lie in 0 .. crop_frames - 1, got {self.warmup_frames} of {self.crop_frames}",
        )
        for name in (
            "cache_mb",
            "learning_rate",
            "logit_adjustment",
            "boundary_smoothing_frames",
            "soft_f1",
            "future_pose_weight",
        ):
            require(getattr(self, name) >= 0, f"train.{name} must be 0 or more, got {getattr(self, name)}")
        require(0 <= self.ema < 1, f"train.ema must lie in [0, 1), got {self.ema}")
        require(0 <= self.distill_weight <= 1, f"train.distill_weight is a share in [0, 1], got {self.distill_weight}")
        require(self.future_pose_s > 0, f"train.future_pose_s must be positive, got {self.future_pose_s}")
        for name, accepted in (("task_weighting", TASK_WEIGHTINGS), ("select", SELECTIONS)):
            require(
                getattr(self, name) in accepted,
                f"train.{name} must be one of {', '.join(accepted)}; got {getattr(self, name)!r}",
            )


@dataclass(frozen=True)
class BoostingSettings:
    """Gradient-boosted trees on window statistics (model.kind = gradient-boosting); seed and threads are train's.

    windows_s: mean, deviation, minimum and maximum of the features named in `groups` (none = all) over windows of these
    lengths: ending at the frame, or centred on it where model.causal = false. frames: at most so many training frames
    (evenly spread; with windows that overlap, neighbours say nearly the same). trees, depth, learning_rate,
    min_child_weight, row_share and column_share (drawn per tree), bins: XGBoost's. early_stopping: rounds without a
    lower weighted validation loss. Classes are weighted as for the networks, by train.class_weight_power.
    """

    windows_s: tuple[float, ...] = (0.5, 4.0)
    groups: tuple[str, ...] = ()
    frames: int = 40_000
    trees: int = 150
    depth: int = 6
    learning_rate: float = 0.15
    min_child_weight: float = 20.0
    row_share: float = 0.4
    column_share: float = 0.3
    bins: int = 64
    early_stopping: int = 15

    def __post_init__(self) -> None:
        require(all(w > 0 for w in self.windows_s), f"boosting.windows_s must be positive, got {self.windows_s}")
        for name in ("frames", "trees", "depth", "early_stopping"):
            require(getattr(self, name) >= 1, f"boosting.{name} must be 1 or more, got {getattr(self, name)}")
        require(self.bins >= 2, f"boosting.bins must be 2 or more, got {self.bins}")
        for name in ("row_share", "column_share"):
            require(0 < getattr(self, name) <= 1, f"boosting.{name} is a share in (0, 1], got {getattr(self, name)}")
