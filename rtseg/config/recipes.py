"""Whole recipes: everything that makes a bundle, or the systems of the paper, or a bundle in other precisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import pairwise

from rtseg.config.checks import check_abstain, require
from rtseg.config.inference import BodySettings, DecodingSettings, GapSettings, RangeSettings
from rtseg.config.model import FeatureSettings, ModelSettings, ScalerSettings
from rtseg.config.training import AugmentSettings, BoostingSettings, TrainSettings

TREE_KEYS = frozenset(
    {
        *("model", "train", "model.kind", "model.causal", "model.lookahead_frames"),
        *("train.seed", "train.splits", "train.threads", "train.class_weight_power"),
        *("train.select", "train.select_group"),
    }
)
"""What boosted trees take of the sections of networks."""


@dataclass(frozen=True)
class Recipe:
    """Everything that makes a bundle from recordings (`rtseg train RECIPE.toml`).

    dataset: the dataset file, relative to the recipe. arena: box x0, y0, x1, y1 in px, from the experimenter: of a live
    recording the extent is not known beforehand. abstain: head -> probability; where a head's highest one lies below
    it, the head is reported as unsure (heads that are not named never are).
    """

    name: str
    dataset: str
    arena: tuple[float, float, float, float]
    description: str = ""
    features: FeatureSettings = field(default_factory=FeatureSettings)
    scaler: ScalerSettings = field(default_factory=ScalerSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    train: TrainSettings = field(default_factory=TrainSettings)
    boosting: BoostingSettings = field(default_factory=BoostingSettings)
    decoding: DecodingSettings = field(default_factory=DecodingSettings)
    gaps: GapSettings = field(default_factory=GapSettings)
    ranges: RangeSettings = field(default_factory=RangeSettings)
    body: BodySettings = field(default_factory=BodySettings)
    abstain: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_abstain(self.abstain)
        cells_alone = self.model.cells and self.model.layers == 0 and self.model.head_channels == 0
        require(
            not self.train.apart or bool(cells_alone),
            "train.apart = true needs model.cells, layers = 0, head_layers = 0 and head_channels = 0: only cells can "
            "be trained apart",
        )
        require(
            self.features.scale == "px" or not self.augment.scale,
            "augment.scale changes nothing where features.scale = 'body' divides by the body length; leave it out",
        )
        x0, y0, x1, y1 = self.arena
        require(x0 < x1 and y0 < y1, f"arena is a box x0, y0, x1, y1 in px with x0 < x1 and y0 < y1, got {self.arena}")

    def without_effect(self, overrides: Sequence[str]) -> list[str]:
        """A sentence for every key among overrides (`--set section.key=value`) that changes nothing of this model.

        A recipe's file may hold the settings of both kinds; what was named for one command was meant.
        """
        keys = [override.partition("=")[0].strip() for override in overrides]
        if self.model.is_trees:
            networks = ("scaler", "model", "augment", "train")
            unused = [key for key in keys if key.partition(".")[0] in networks and key not in TREE_KEYS]
        else:
            unused = [key for key in keys if key.partition(".")[0] == "boosting"]
        return [f"--set {key} changes nothing: model.kind = {self.model.kind!r} has no use for it" for key in unused]


@dataclass(frozen=True)
class PaperSettings:
    """The comparison with the paper (`rtseg paper`); `rtseg.paper.plan` says what is trained.

    validation_share, split_seed: the part of the training recordings that chooses the epoch where a dataset has no
    third split. resamples: of the bootstrap over videos. timing_frames: length of the recording that inference is timed
    on. timing_s: time for measuring all systems together, and again for the steps of those that can be streamed.

    frame_stride: every network is trained on every n-th frame and answers from every n-th frame (all frames are
    answered and scored); trees and rtseg's own recipe have rates of their own. search_epochs: epochs of each training
    of the search for learning rate and weight decay (`rtseg.paper.search`); 0 = no search. baseline_seeds: seeds of
    Table I, at most those of the command; 0 = as many.
    """

    validation_share: float = 0.15
    split_seed: int = 0
    resamples: int = 1000
    timing_frames: int = 3000
    timing_s: float = 60.0
    frame_stride: int = 1
    search_epochs: int = 3
    baseline_seeds: int = 0

    def __post_init__(self) -> None:
        require(
            0 < self.validation_share < 1, f"validation_share must lie between 0 and 1, got {self.validation_share}"
        )
        for name in ("resamples", "timing_frames", "timing_s", "frame_stride"):
            require(getattr(self, name) > 0, f"{name} must be positive, got {getattr(self, name)}")
        for name in ("search_epochs", "baseline_seeds"):
            require(getattr(self, name) >= 0, f"{name} must be 0 or more, got {getattr(self, name)}")


@dataclass(frozen=True)
class CrossValidationSettings:
    """Cross-validation by video (`rtseg crossvalidate`).

    folds: groups of videos, each left out once. seeds: trainings of each system. against: a kind of model with the
    recipe's other settings, or another recipe's file (with its own settings, on this recipe's dataset). splits: whose
    recordings are cross-validated. fixed_epochs: of networks, which then train on all of a fold's others and choose
    nothing; trees choose their number on some of these and are boosted anew on all. inside_every: of a fold's training
    videos every n-th chooses the checkpoint, unless train.select is "last".
    """

    folds: int = 5
    seeds: int = 1
    against: str | None = None
    splits: tuple[str, ...] = ("train", "validation")
    fixed_epochs: int | None = None
    inside_every: int = 5

    def __post_init__(self) -> None:
        # How many folds there can be is checked where the number of videos is known (`study.crossvalidate.folds_of`).
        for name, least in (("folds", 2), ("seeds", 1), ("inside_every", 1)):
            require(getattr(self, name) >= least, f"{name} must be {least} or more, got {getattr(self, name)}")


@dataclass(frozen=True)
class PrecisionSettings:
    """When a bundle is accepted in float16 or int8; see `rtseg.precision`.

    f1_drop: mean F1 must fall by less. fp16_largest, int8_largest: by how much any probability may differ from
    float32's; fp16_mean, int8_mean: by how much a head's may differ on average. int8's ranges come from the first
    range_frames frames of range_recordings recordings.
    """

    f1_drop: float = 0.005
    fp16_largest: float = 0.01
    fp16_mean: float = 0.0005
    int8_largest: float = 0.1
    int8_mean: float = 0.005
    range_recordings: int = 12
    range_frames: int = 2000

    def __post_init__(self) -> None:
        for field_ in fields(self):
            require(getattr(self, field_.name) > 0, f"{field_.name} must be positive")


@dataclass(frozen=True)
class OnnxSettings:
    """The onnx engine.

    batches: sizes that the step is loaded for; each divides the next, and the first is 1. threads: inside one operator.
    provider: one that ONNX Runtime offers on this machine, in short: cpu, cuda, openvino ...
    """

    batches: tuple[int, ...] = (1, 16, 64, 256)
    threads: int = 1
    provider: str = "cpu"

    def __post_init__(self) -> None:
        require(self.threads > 0, f"threads must be positive, got {self.threads}")
        # A batch of any size is then made of whole larger ones and a rest of smaller ones.
        nested = all(small < large and large % small == 0 for small, large in pairwise(self.batches))
        require(
            self.batches[:1] == (1,) and nested,
            f"batches begin with 1 and each divides the next, as 1, 16, 64; got {list(self.batches)}",
        )
