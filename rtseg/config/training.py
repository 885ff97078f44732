"""How models are trained: augmentation, the loop, gradient boosting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rtseg.config.checks import require

MAX_TREES, MAX_TREE_DEPTH = 10_000, 64
"""Of a head. A bundle with more is not loaded; to be refused before it is trained."""


@dataclass(frozen=True)
class AugmentSettings:
    """Changes to training recordings, each a switch (paper, III.B and III.E).

    interpolate: factor of quadratic up-sampling (paper: 3; 1 = off); as in the paper it slows the training recordings
    only, nothing else is up-sampled. rotate, mirror: about the arena's centre. shift_px, noise_px, scale (of the
    logarithm): standard deviations. drop_points: share of the frames in which a point is missing, in stretches of half
    a second. drop_animal: the same for a whole animal. swap_points, swap_animals: share of the frames, in such
    stretches, in which a left and a right point of an animal, or two animals, are taken for each other.

    rate: standard deviation of the logarithm of how fast time runs in a crop, from half to twice as fast; labels run
    with the poses. camera_rate: the lowest rate of the camera as a share of the recordings' (1 = off, 0.5 at the least,
    as when serving); each crop is filmed at a rate in between and brought back to the recordings' as when serving.

    balance_tasks: copies are added until every head group has as many sequences as the largest (paper, III.E and H:
    Tasks 2 and 3 to Task 1's number). A copy carries its group's labels only, and whenever it is drawn it goes through
    the paper's augmentation, whatever else is off: rotation, mirroring, shift and noise.
    """

    interpolate: int = 1
    rotate: bool = False
    mirror: bool = False
    shift_px: float = 0.0
    noise_px: float = 0.0
    scale: float = 0.0
    drop_points: float = 0.0
    drop_animal: float = 0.0
    swap_points: float = 0.0
    swap_animals: float = 0.0
    rate: float = 0.0
    camera_rate: float = 1.0
    balance_tasks: bool = False

    def __post_init__(self) -> None:
        require(self.interpolate >= 1, f"augment.interpolate must be 1 or more, got {self.interpolate}")
        for name in ("drop_points", "drop_animal", "swap_points", "swap_animals"):
            require(0 <= getattr(self, name) <= 1, f"augment.{name} is a share in [0, 1], got {getattr(self, name)}")
        for name in ("shift_px", "noise_px", "scale", "rate"):
            require(getattr(self, name) >= 0, f"augment.{name} must be 0 or more, got {getattr(self, name)}")
        require(0.5 <= self.camera_rate <= 1, f"augment.camera_rate must lie in 0.5 .. 1, got {self.camera_rate}")


TASK_WEIGHTINGS = ("settings", "sum", "share", "uncertainty")
SELECTIONS = ("score", "f1", "map", "last")
SCHEDULES = ("cosine", "constant")
PATIENCE_FROM = ("start", "constant")


@dataclass(frozen=True)
class TrainSettings:
    """The training loop.

    epoch_batches: batches of an epoch; 0 = as many as show every labelled frame about once. With it `epochs`,
    `evaluate_every` and `patience` count the same number of batches for every system and data set.

    apart: every recurrent cell is trained as a network of its own with its own seed, and the cells are then combined
    into one network whose logits are the mean of theirs (an ensemble; it has no convolutions and refines nothing).
    frame_stride: the network is trained on every n-th frame (features are computed from all of them) and scored on all
    frames. multitask-tcn: periods and dilations must be multiples of n, so that each phase is a sequence of its own.
    Other networks never see the frames between at all: each phase is given to them as a sequence, so that their sizes
    in frames (dilations, windows, attention) count every n-th frame.
    cache_mb: where crops differ by a mirror at most, features of whole recordings are cached up to this size; beyond
    it each crop's features are computed anew.
    crop_frames: length of a training crop, of which the first warmup_frames carry no loss (unless the crop begins the
    recording; where causal = false, half of them at either end). warmup_steps: of the learning rate. schedule: after
    them it falls along half a cosine to a tenth at the last epoch (`cosine`), or stays (`constant`: where `patience`
    ends the training, nobody knows when; the average of the weights then does what the fall would do). ema: decay of
    the weights' moving average, which is what is evaluated and kept; it remembers about 1 / (1 - ema) batches, and no
    more than a ninth of those so far, so that only trainings of more than 9 / (1 - ema) batches reach this decay.
    patience: evaluations without a better validation score before stopping. patience_from: counted from the first
    evaluation on (`start`), or from where macro-F1 of every head group that decides is above that of the best constant
    answer (`constant`: a network that has learnt nothing yet has reached no plateau).

    Loss: class_weight_power: classes are weighted by inverse frequency to this power. label_smoothing: share of each
    target that is spread over all classes. boundary_smoothing_frames: so near a label boundary the target mixes both
    labels, half and half at the boundary. smoothing: weight of the truncated smoothing loss (Li et al. 2020, eq. 7).
    future_pose_weight: weight of predicting the pose half a second ahead from the last hidden layer, causal networks
    only; the predictor is dropped after training.

    Tasks: a task's (head group's) loss is the mean over its heads. task_weighting: `settings`: task_weights by group,
    1 for those not named; `sum`: all 1; `share`: each task's share of the batch's loss, L_g / sum of L, taken as
    constants (paper, V.C); `uncertainty`: exp(-s_g) L_g + s_g / 2 with learned s_g (Kendall et al. 2018).
    loss_factor: on the whole loss (paper, V.C: 0.1).

    splits: the dataset's splits whose recordings `rtseg train` learns from. Where `validation` is among them nothing is
    held out, nothing chooses the epoch (select = "last") and no score is made; `rtseg crossvalidate` and
    `rtseg calibrate --out-of-fold` make them (docs/all-recordings.md). Studies divide the recordings by themselves.
    Selection: what a checkpoint is chosen by on the validation recordings. select: `score` (mean over groups of
    macro-F1 and mAP), `f1` or `map` alone, or `last` (the last epoch's weights; of trees, as many rounds as stretches
    of the training recordings choose in turn). select_group: one head group decides.

    threads: of torch and XGBoost; other numbers of threads may round differently. bfloat16: mixed precision, for
    processors that have such instructions.
    """

    seed: int = 0
    epochs: int = 40
    epoch_batches: int = 0
    batch: int = 8
    apart: bool = False
    frame_stride: int = 1
    cache_mb: int = 4096
    crop_frames: int = 3072
    warmup_frames: int = 512
    learning_rate: float = 1e-3
    weight_decay: float = 0.02
    warmup_steps: int = 50
    schedule: str = "cosine"
    class_weight_power: float = 0.5
    label_smoothing: float = 0.0
    boundary_smoothing_frames: int = 0
    smoothing: float = 0.15
    future_pose_weight: float = 0.0
    loss_factor: float = 1.0
    task_weighting: str = "settings"
    task_weights: Mapping[str, float] = field(default_factory=dict)
    ema: float = 0.998
    evaluate_every: int = 2
    patience: int = 8
    patience_from: str = "start"
    splits: tuple[str, ...] = ("train",)
    select: str = "score"
    select_group: str = ""
    threads: int = 2
    bfloat16: bool = False

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "frame_stride", "crop_frames", "evaluate_every", "patience", "threads"):
            require(getattr(self, name) >= 1, f"train.{name} must be 1 or more, got {getattr(self, name)}")
        require(self.epoch_batches >= 0, f"train.epoch_batches must be 0 or more, got {self.epoch_batches}")
        require(self.seed >= 0, f"train.seed must be 0 or more, got {self.seed}")
        require(
            # A crop that is all warm-up would carry no loss.
            0 <= self.warmup_frames < self.crop_frames,
            f"train.warmup_frames must lie in 0 .. crop_frames - 1, got {self.warmup_frames} of {self.crop_frames}",
        )
        for name in ("cache_mb", "learning_rate", "boundary_smoothing_frames", "future_pose_weight"):
            require(getattr(self, name) >= 0, f"train.{name} must be 0 or more, got {getattr(self, name)}")
        require(bool(self.splits), "train.splits must name a split to learn from, got none")
        require(len(set(self.splits)) == len(self.splits), f"train.splits names one twice: {', '.join(self.splits)}")
        require(
            self.select == "last" or "validation" not in self.splits,
            f'train.select = "{self.select}" chooses the epoch on the split validation, which train.splits learns '
            'from: set train.select = "last" and train.epochs, or leave it out of train.splits',
        )
        require(0 <= self.ema < 1, f"train.ema must lie in [0, 1), got {self.ema}")
        for name, accepted in (
            ("task_weighting", TASK_WEIGHTINGS),
            ("select", SELECTIONS),
            ("schedule", SCHEDULES),
            ("patience_from", PATIENCE_FROM),
        ):
            require(
                getattr(self, name) in accepted,
                f"train.{name} must be one of {', '.join(accepted)}; got {getattr(self, name)!r}",
            )


@dataclass(frozen=True)
class BoostingSettings:
    """Gradient-boosted trees on window statistics (model.kind = gradient-boosting); seed and threads are train's.

    windows_s: mean, deviation, minimum and maximum of every feature over windows of these lengths: ending at the frame,
    or centred on it where model.causal = false. frames: at most this many training frames, evenly spread (windows
    overlap, so neighbouring frames say nearly the same). trees, depth, learning_rate, min_child_weight: XGBoost's; what
    else it takes stands in `rtseg.training.boosting.trees`. Classes are weighted as for the networks, by
    train.class_weight_power.
    """

    windows_s: tuple[float, ...] = (0.5, 4.0)
    frames: int = 40_000
    trees: int = 150
    depth: int = 6
    learning_rate: float = 0.15
    min_child_weight: float = 20.0

    def __post_init__(self) -> None:
        require(all(w > 0 for w in self.windows_s), f"boosting.windows_s must be positive, got {self.windows_s}")
        for name, most in (("frames", None), ("trees", MAX_TREES), ("depth", MAX_TREE_DEPTH)):
            number = getattr(self, name)
            require(number >= 1, f"boosting.{name} must be 1 or more, got {number}")
            require(most is None or number <= most, f"boosting.{name} must be {most} at most, got {number}")
