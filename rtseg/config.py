"""All settings, in frozen dataclasses; TOML files and `--set section.key=value` fill them.

Each part of the program gets its own section only. Unknown keys and wrong types are errors. No default stands anywhere
else.
"""

from __future__ import annotations

import dataclasses
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from rtseg.errors import SettingError

T = TypeVar("T")


@dataclass(frozen=True)
class FeatureSettings:
    """Which features the model sees; see `rtseg.features.spec`. No groups = all of them."""

    groups: tuple[str, ...] = ()
    lags: tuple[int, ...] = (1, 3, 9)
    horizons_s: tuple[float, ...] = (0.5, 2.0, 8.0)
    hold_frames: int = 15
    absence_cap_s: float = 4.0
    animal_order: str = "kept"
    identities: str = "tracker"
    relink_margin_px: float = 5.0
    relink_cap_px: float = 200.0


@dataclass(frozen=True)
class ScalerSettings:
    """How features are scaled: `standard` (mean 0, deviation 1) or `minmax` (the paper's [0, 1], section III.H).

    clip: scaled features are cut at this distance from the training mean, in standard deviations.
    """

    kind: str = "standard"
    clip: float = 6.0

    def __post_init__(self) -> None:
        if self.kind not in ("standard", "minmax"):
            raise SettingError(f"scaler.kind must be standard or minmax, got {self.kind!r}")


KINDS = (
    "multitask-tcn",
    "ms-tcn",
    "fully-connected",
    "lstm",
    "gru",
    "self-attention",
    "conv1d",
    "transformer",
    "gradient-boosting",
)
"""Systems that can be trained; only a causal multitask-tcn becomes a bundle, the others are there to compare with."""


@dataclass(frozen=True)
class CellSettings:
    """A recurrent cell of the multitask network: `rtseg.network.Cell`."""

    encoder: int = 96
    hidden: int = 128
    period: int = 1

    def __post_init__(self) -> None:
        _require(min(self.encoder, self.hidden, self.period) >= 1, f"model.cells: sizes must be 1 or more, got {self}")


@dataclass(frozen=True)
class ModelSettings:
    """Which system, and its sizes (paper, IV). Sizes that a kind does not name below mean nothing to it.

    causal: false lets the system see the whole recording (symmetric convolutions and attention, both directions).
    lookahead_frames: the answer about frame t is given at t + lookahead. dropout: all networks.

    channels: width of every network's layers. kernel: taps of multitask-tcn, ms-tcn, transformer and conv1d.
    multitask-tcn (IV.C and IV.D): `layers` of the shared predictor generator, dilation first_dilation * 2^layer;
    head_channels and head_layers of each refinement head, dilations head_first_dilation * 2^layer; cells: recurrent
    cells beside the convolutions or, with layers = 0, in their place; forget_order: the cells see the features once for
    every way to call the animals and answer the same for all. ms-tcn: `stages` of `layers` each (generator and
    refinements), dual_dilation as in MS-TCN++'s generator. transformer: one encoder and stages - 1 decoders of `layers`
    each, layer i attends to 2^i frames, at most attention_window. lstm, gru: `depth` layers. self-attention: `depth`
    blocks with attention_heads over attention_window frames. fully-connected, conv1d: a window of window_frames frames
    to each side (causal: to the past), every window_stride-th of them; fully-connected has `depth` hidden layers, the
    first 4 times `channels` wide, conv1d three convolutions, the first twice `channels` wide.
    """

    kind: str = "multitask-tcn"
    causal: bool = True
    channels: int = 64
    layers: int = 10
    first_dilation: int = 1
    kernel: int = 3
    head_channels: int = 16
    head_layers: int = 6
    head_first_dilation: int = 1
    cells: tuple[CellSettings, ...] = ()
    forget_order: bool = False
    stages: int = 4
    dual_dilation: bool = False
    depth: int = 1
    attention_heads: int = 4
    attention_window: int = 256
    window_frames: int = 100
    window_stride: int = 2
    dropout: float = 0.2
    lookahead_frames: int = 0

    def __post_init__(self) -> None:
        _require(self.kind in KINDS, f"model.kind must be one of {', '.join(KINDS)}; got {self.kind!r}")
        for name in (
            *("channels", "first_dilation", "kernel", "head_first_dilation", "stages", "depth"),
            *("attention_heads", "attention_window", "window_frames", "window_stride"),
        ):
            _require(getattr(self, name) >= 1, f"model.{name} must be 1 or more, got {getattr(self, name)}")
        _require(
            self.head_layers >= 0 and self.head_channels >= (1 if self.head_layers else 0),
            "model.head_layers must be 0 or more, head_channels 1 or more (0 and 0: nothing is refined); got "
            f"{self.head_layers} and {self.head_channels}",
        )
        _require(
            self.layers >= (0 if self.cells else 1),
            f"model.layers must be 1 or more (0 or more where there are cells), got {self.layers}",
        )
        _require(0 <= self.dropout < 1, f"model.dropout must lie in [0, 1), got {self.dropout}")
        _require(self.lookahead_frames >= 0, f"model.lookahead_frames must be 0 or more, got {self.lookahead_frames}")
        _require(
            self.causal or self.lookahead_frames == 0,
            "model.lookahead_frames is the delay of a causal model; with causal = false it must be 0, "
            f"got {self.lookahead_frames}",
        )
        _require(
            self.causal or self.kernel % 2 == 1 or self.kind not in ("multitask-tcn", "ms-tcn", "transformer"),
            f"model.kernel must be odd where causal = false, so that it looks equally far both ways; got {self.kernel}",
        )


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
        _require(self.interpolate >= 1, f"augment.interpolate must be 1 or more, got {self.interpolate}")
        for name in ("swap_animals", "drop_points", "drop_animal", "drop_like_data"):
            _require(0 <= getattr(self, name) <= 1, f"augment.{name} is a share in [0, 1], got {getattr(self, name)}")
        for name in ("shift_px", "noise_px", "scale", "copy_shift_px", "copy_noise_px"):
            _require(getattr(self, name) >= 0, f"augment.{name} must be 0 or more, got {getattr(self, name)}")


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
            _require(getattr(self, name) >= 1, f"train.{name} must be 1 or more, got {getattr(self, name)}")
        _require(
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
            _require(getattr(self, name) >= 0, f"train.{name} must be 0 or more, got {getattr(self, name)}")
        _require(0 <= self.ema < 1, f"train.ema must lie in [0, 1), got {self.ema}")
        _require(0 <= self.distill_weight <= 1, f"train.distill_weight is a share in [0, 1], got {self.distill_weight}")
        _require(self.future_pose_s > 0, f"train.future_pose_s must be positive, got {self.future_pose_s}")
        for name, accepted in (("task_weighting", TASK_WEIGHTINGS), ("select", SELECTIONS)):
            _require(
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
        _require(all(w > 0 for w in self.windows_s), f"boosting.windows_s must be positive, got {self.windows_s}")
        for name in ("frames", "trees", "depth", "early_stopping"):
            _require(getattr(self, name) >= 1, f"boosting.{name} must be 1 or more, got {getattr(self, name)}")
        _require(self.bins >= 2, f"boosting.bins must be 2 or more, got {self.bins}")
        for name in ("row_share", "column_share"):
            _require(0 < getattr(self, name) <= 1, f"boosting.{name} is a share in (0, 1], got {getattr(self, name)}")


@dataclass(frozen=True)
class DecodingSettings:
    """From probabilities to bouts; see `rtseg.decoding`."""

    margin: float = 0.0
    min_bout_frames: int = 1
    merge_gap_frames: int = 0
    settle_margin: float = 0.0
    settle_frames: int = 0

    def __post_init__(self) -> None:
        for name in ("margin", "settle_margin"):
            _require(0 <= getattr(self, name) <= 1, f"decoding.{name} must lie in [0, 1], got {getattr(self, name)}")
        _require(
            self.min_bout_frames >= 1 and self.merge_gap_frames >= 0 and self.settle_frames >= 0,
            "decoding: min_bout_frames must be 1 or more, merge_gap_frames and settle_frames 0 or more, "
            f"got {self.min_bout_frames}, {self.merge_gap_frames} and {self.settle_frames}",
        )


@dataclass(frozen=True)
class GapSettings:
    """Missing frames: up to fill_frames of them are stepped as frames without any point, beyond that a stream restarts.

    low_confidence: mean confidence of the seen points under which a prediction is flagged.
    """

    fill_frames: int = 30
    low_confidence: float = 0.3

    def __post_init__(self) -> None:
        _require(self.fill_frames >= 0, f"gaps.fill_frames must be 0 or more, got {self.fill_frames}")


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
        _require(0 <= self.percentile < 50, f"ranges.percentile must lie in [0, 50), got {self.percentile}")
        _require(0 <= self.share <= 1, f"ranges.share is a share in [0, 1], got {self.share}")
        _require(min(self.margin, self.far) >= 0, f"ranges: margin and far must be 0 or more, got {self}")


@dataclass(frozen=True)
class Recipe:
    """Everything that makes a bundle from recordings (`rtseg train RECIPE.toml`).

    dataset: the dataset file, relative to the recipe. arena: box x0, y0, x1, y1 in px, from the experimenter, never
    from a recording that has not happened yet. abstain: head -> probability; where a head's highest one lies below it,
    the head says that it is unsure (heads not named never do).
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
    abstain: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_abstain(self.abstain)
        cells_alone = self.model.cells and self.model.layers == 0 and self.model.head_channels == 0
        _require(
            not self.train.apart or bool(cells_alone),
            "train.apart = true needs model.cells, layers = 0, head_layers = 0 and head_channels = 0: only cells can "
            "be trained apart",
        )
        x0, y0, x1, y1 = self.arena
        _require(x0 < x1 and y0 < y1, f"arena is a box x0, y0, x1, y1 in px with x0 < x1 and y0 < y1, got {self.arena}")


@dataclass(frozen=True)
class PaperSettings:
    """The comparison with the paper (`rtseg paper`); what is trained stands in `rtseg.paper.plan`.

    validation_share, split_seed: the part of the training recordings that chooses the epoch where a dataset has no
    third split. resamples: of the bootstrap over videos. timing_frames: length of the recording that inference is timed
    on. timing_s: for all systems together, and again for the steps of those that can be streamed.
    """

    validation_share: float = 0.15
    split_seed: int = 0
    resamples: int = 1000
    timing_frames: int = 3000
    timing_s: float = 60.0

    def __post_init__(self) -> None:
        _require(
            0 < self.validation_share < 1, f"validation_share must lie between 0 and 1, got {self.validation_share}"
        )
        for name in ("resamples", "timing_frames", "timing_s"):
            _require(getattr(self, name) > 0, f"{name} must be positive, got {getattr(self, name)}")


@dataclass(frozen=True)
class PrecisionSettings:
    """When a bundle is accepted in float16 or int8; see `rtseg.precision`.

    f1_drop: mean F1 must fall by less. largest, mean: how far a probability may stand from float32's, the worst of all
    and the mean of a head. int8's ranges come from the first range_frames of range_recordings recordings.
    """

    f1_drop: float = 0.005
    fp16_largest: float = 0.01
    fp16_mean: float = 0.0005
    int8_largest: float = 0.1
    int8_mean: float = 0.005
    range_recordings: int = 12
    range_frames: int = 2000

    def __post_init__(self) -> None:
        for field_ in dataclasses.fields(self):
            _require(getattr(self, field_.name) > 0, f"{field_.name} must be positive")


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
        _require(self.threads > 0, f"threads must be positive, got {self.threads}")
        nested = all(small < large and large % small == 0 for small, large in pairwise(self.batches))
        _require(
            self.batches[:1] == (1,) and nested,
            f"batches begin with 1 and each divides the next, as 1, 16, 64; got {list(self.batches)}",
        )


IDENTITY = ("flag", "swap", "reset")
"""What may be done about animals that a tracker has mixed up."""


@dataclass(frozen=True)
class ServeSettings:
    """The daemon.

    frames and predictions: ZeroMQ addresses (ipc:// or tcp:// on loopback). capacity: streams at once. max_batch:
    frames taken up in one turn of the loop; what came together is published in parts of this size. idle_timeout_s:
    after this long without a frame a stream is closed. queue_messages: high-water mark of both sockets.
    max_message_bytes: larger messages are refused unread.

    backlog_frames: of one stream, at most so many wait to be stepped; what is beyond is dropped, oldest first, and
    counted. max_load: a hello is refused where the daemon would be busy for more than this share of the time (0 = any).
    workers: processes that share the streams, each with `capacity` places; worker_snapshot_s: how often a stream's
    state is kept for a worker that might die; worker_silence_s: one without any sign of life for so long hangs, and is
    replaced. identity: what happens where a tracker seems to have mixed up two animals: `flag` the answer, `swap` them
    back, or `reset` the stream; offline use takes the same word. heads: the only ones that are answered, nothing is
    computed for the others (empty = all). heartbeat_s: how often subscribers hear that all is well.

    cpus: cores that the daemon may use, the first one for its loop, the others for its network threads (empty = all).
    priority: real-time priority of the loop (1 to 99, SCHED_FIFO; 0 = none). busy_poll: look for frames without ever
    sleeping; takes a whole core. rehearse_us: with busy_poll, after so long without a frame the loop steps one of its
    own and forgets the answer, so that the next frame finds warm caches (0 = never). ahead_us: without busy_poll, the
    loop does that so long before the next frame is due, and looks for it without sleeping until as long after that, as
    long as this takes no more than a quarter of the time (0 = never).

    keys: folder of keys (`rtseg keys`); with one every connection needs a key, and the addresses may lie beyond
    loopback. For a connection with a key: max_streams_per_key, and max_frames_per_s of each of its streams (0 = no
    limit). control: whether `load` and `stop` are taken from connections that need no key. http: HOST:PORT on loopback
    for /metrics, /healthz and /readyz (none where empty; port 0 = a free one). fresh_s: the daemon is not ready while
    an open stream has had no frame for so long. log_format: `text` or `json`, a line each, on stderr.

    record: folder for recordings, one file a run (none where empty; docs/recording.md). resume: streams that come back
    after the daemon was killed go on where the folder's last recording ends. record_buffer_mb: memory between the
    daemon and the process that writes. record_snapshot_s: how often a stream's state is noted, which is what a
    restart has to step again at most. record_sync_s: how often what is written is forced onto the disk.
    """

    frames: str = "tcp://127.0.0.1:5757"
    predictions: str = "tcp://127.0.0.1:5758"
    engine: str = "auto"
    capacity: int = 256
    max_batch: int = 16
    idle_timeout_s: float = 60.0
    queue_messages: int = 100_000
    max_message_bytes: int = 1_000_000
    backlog_frames: int = 256
    max_load: float = 0.0
    workers: int = 1
    worker_snapshot_s: float = 2.0
    worker_silence_s: float = 10.0
    identity: str = "flag"
    heads: tuple[str, ...] = ()
    heartbeat_s: float = 1.0
    cpus: tuple[int, ...] = ()
    priority: int = 0
    busy_poll: bool = False
    rehearse_us: int = 100
    ahead_us: int = 0
    keys: str = ""
    max_streams_per_key: int = 64
    max_frames_per_s: float = 1000.0
    control: bool = True
    http: str = ""
    fresh_s: float = 2.0
    log_format: str = "text"
    record: str = ""
    resume: bool = False
    record_buffer_mb: int = 32
    record_snapshot_s: float = 10.0
    record_sync_s: float = 1.0

    @property
    def slots(self) -> int:
        """Of the engine: one more than there may be streams, where the loop rehearses."""
        return self.capacity + self.rehearses

    @property
    def rehearses(self) -> bool:
        """Whether the loop steps frames of its own while it waits."""
        return self.looks_ahead or (self.busy_poll and self.rehearse_us > 0)

    @property
    def looks_ahead(self) -> bool:
        """Whether the loop is awake before a frame is due."""
        return self.ahead_us > 0 and not self.busy_poll

    def __post_init__(self) -> None:
        for name in ("capacity", "max_batch", "idle_timeout_s", "queue_messages", "max_message_bytes"):
            _require(getattr(self, name) > 0, f"{name} must be positive, got {getattr(self, name)}")
        for name in ("backlog_frames", "heartbeat_s", "workers", "worker_snapshot_s"):
            _require(getattr(self, name) > 0, f"{name} must be positive, got {getattr(self, name)}")
        _require(
            self.worker_silence_s >= 1,
            f"worker_silence_s must be 1 or more (signs of life come five a second), got {self.worker_silence_s}",
        )
        for name in ("max_load", "rehearse_us", "ahead_us"):
            _require(getattr(self, name) >= 0, f"{name} must be 0 or more, got {getattr(self, name)}")
        _require(self.identity in IDENTITY, f"identity must be one of {', '.join(IDENTITY)}; got {self.identity!r}")
        _require(0 <= self.priority <= 99, f"priority must lie in 0 .. 99, got {self.priority}")
        _require(all(cpu >= 0 for cpu in self.cpus), f"cpus must be numbers of cores, got {list(self.cpus)}")
        for name in ("max_streams_per_key", "fresh_s"):
            _require(getattr(self, name) > 0, f"{name} must be positive, got {getattr(self, name)}")
        _require(self.max_frames_per_s >= 0, f"max_frames_per_s must be 0 or more, got {self.max_frames_per_s}")
        _require(self.log_format in ("text", "json"), f"log_format must be one of text, json; got {self.log_format!r}")
        for name in ("record_buffer_mb", "record_snapshot_s", "record_sync_s"):
            _require(getattr(self, name) > 0, f"{name} must be positive, got {getattr(self, name)}")
        _require(bool(self.record) or not self.resume, "resume needs record: the folder that holds the recordings")


def load(path: Path | str, kind: type[T], overrides: Sequence[str] = ()) -> T:
    """Settings of dataclass `kind` from a TOML file, with `section.key=value` overrides (values in TOML's syntax).

    Raises SettingError naming the file, the key and what is accepted.
    """
    path = Path(path)
    try:
        plain = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingError(f"{path}: no such file") from None
    except OSError as error:
        raise SettingError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingError(f"{path}: not a TOML file: {error}") from None
    return from_plain(plain, kind, overrides, where=str(path))


def from_plain(plain: Mapping[str, Any], kind: type[T], overrides: Sequence[str] = (), where: str = "settings") -> T:
    """The same from a plain mapping."""
    merged: dict[str, Any] = _copied(plain)
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise SettingError(f"--set wants section.key=value, got {override!r}")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        *sections, last = key.strip().split(".")
        target = merged
        for section in sections:
            target = target.setdefault(section, {})
            if not isinstance(target, dict):
                raise SettingError(f"--set {override}: {section!r} is no section")
        target[last] = value
    built = _build(merged, kind, where)
    assert isinstance(built, kind)
    return built


def _copied(value: Any) -> Any:
    """Sections copied at every depth, so that an override never reaches into the caller's mapping."""
    return {k: _copied(v) for k, v in value.items()} if isinstance(value, Mapping) else value


def to_plain(settings: Any) -> dict[str, Any]:
    """A dataclass as plain values, for a manifest."""
    plain: dict[str, Any] = dataclasses.asdict(settings)
    return plain


def check_abstain(below: Mapping[str, float]) -> None:
    """Raise SettingError for a threshold that is no probability."""
    for head, threshold in below.items():
        _require(0 <= threshold <= 1, f"abstain.{head} is a probability in [0, 1], got {threshold}")


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise SettingError(otherwise)


def _build(value: Any, kind: Any, where: str) -> Any:
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, Mapping):
            raise SettingError(f"{where}: expected a section, got {value!r}")
        hints = typing.get_type_hints(kind)
        fields = {f.name: f for f in dataclasses.fields(kind)}
        unknown = set(value) - set(fields)
        if unknown:
            raise SettingError(f"{where}: unknown key {', '.join(sorted(unknown))}; accepted: {', '.join(fields)}")
        needed = [
            n
            for n, f in fields.items()
            if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING and n not in value
        ]
        if needed:
            raise SettingError(f"{where}: missing key {', '.join(needed)}")
        values = {k: _build(v, hints[k], f"{where}: {k}") for k, v in value.items()}
        return typing.cast(type, kind)(**values)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return None if value is None else _build(value, next(a for a in arguments if a is not type(None)), where)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise SettingError(f"{where}: expected a list, got {value!r}")
        if arguments[-1] is not Ellipsis and len(value) != len(arguments):
            raise SettingError(f"{where}: expected {len(arguments)} values, got {len(value)}")
        return tuple(_build(v, arguments[0], where) for v in value)
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise SettingError(f"{where}: expected a section, got {value!r}")
        return {str(k): _build(v, arguments[1], f"{where}.{k}") for k, v in value.items()}
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise SettingError(f"{where}: expected {kind.__name__}, got {value!r}")
    return value
