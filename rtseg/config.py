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


@dataclass(frozen=True)
class ModelSettings:
    """The causal multitask TCN (paper, IV.C and IV.D).

    channels and layers: the shared predictor generator, dilation first_dilation * 2^layer. head_channels and
    head_layers: each refinement head. lookahead_frames: the answer about frame t is given at t + lookahead.
    """

    channels: int = 64
    layers: int = 10
    first_dilation: int = 1
    kernel: int = 3
    head_channels: int = 16
    head_layers: int = 6
    dropout: float = 0.2
    lookahead_frames: int = 0

    def __post_init__(self) -> None:
        sizes = (self.channels, self.layers, self.first_dilation, self.kernel, self.head_channels)
        _require(min(sizes) >= 1 and self.head_layers >= 0, "model: sizes must be 1 or more, head_layers 0 or more")
        _require(0 <= self.dropout < 1, f"model.dropout must lie in [0, 1), got {self.dropout}")
        _require(self.lookahead_frames >= 0, f"model.lookahead_frames must be 0 or more, got {self.lookahead_frames}")


@dataclass(frozen=True)
class AugmentSettings:
    """Changes to training recordings, each a switch (paper, III.B and III.E).

    interpolate: factor of quadratic up-sampling (paper: 3; 1 = off); as in the paper it slows the training recordings
    only, nothing else is up-sampled. rotate, mirror: about the arena's centre. shift_px, noise_px, scale (of the
    logarithm): standard deviations. swap_animals: probability that a crop exchanges its animals. drop_points:
    probability that a point is missing for a short while. drop_animal: the same for a whole animal.
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

    def __post_init__(self) -> None:
        _require(self.interpolate >= 1, f"augment.interpolate must be 1 or more, got {self.interpolate}")
        for name in ("swap_animals", "drop_points", "drop_animal"):
            _require(0 <= getattr(self, name) <= 1, f"augment.{name} is a share in [0, 1], got {getattr(self, name)}")
        for name in ("shift_px", "noise_px", "scale"):
            _require(getattr(self, name) >= 0, f"augment.{name} must be 0 or more, got {getattr(self, name)}")


@dataclass(frozen=True)
class TrainSettings:
    """The training loop.

    crop_frames: length of a training crop, of which the first warmup_frames carry no loss (unless the crop begins the
    recording). class_weight_power: classes are weighted by inverse frequency to this power. smoothing: weight of the
    truncated smoothing loss, its threshold smoothing_cut (Li et al. 2020, eq. 7). loss_factor: on the whole loss
    (paper, V.C: 0.1). task_weights: head group -> weight; groups not named get task_weight_default. ema: decay of the
    weights' average, which is what is kept. patience: evaluations without a better validation score before stopping.
    """

    seed: int = 0
    epochs: int = 40
    batch: int = 8
    crop_frames: int = 3072
    warmup_frames: int = 512
    learning_rate: float = 1e-3
    weight_decay: float = 0.02
    warmup_steps: int = 50
    clip_gradient: float = 1.0
    class_weight_power: float = 0.5
    label_smoothing: float = 0.0
    smoothing: float = 0.15
    smoothing_cut: float = 4.0
    stage_weight: float = 0.5
    loss_factor: float = 1.0
    task_weights: Mapping[str, float] = field(default_factory=dict)
    task_weight_default: float = 1.0
    ema: float = 0.998
    evaluate_every: int = 2
    patience: int = 8
    threads: int = 2
    bfloat16: bool = True

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "crop_frames", "evaluate_every", "patience", "threads"):
            _require(getattr(self, name) >= 1, f"train.{name} must be 1 or more, got {getattr(self, name)}")
        _require(
            0 <= self.warmup_frames < self.crop_frames,
            f"train.warmup_frames must lie in 0 .. crop_frames - 1, got {self.warmup_frames} of {self.crop_frames}",
        )
        _require(self.learning_rate >= 0, f"train.learning_rate must be 0 or more, got {self.learning_rate}")
        _require(0 <= self.ema < 1, f"train.ema must lie in [0, 1), got {self.ema}")


@dataclass(frozen=True)
class DecodingSettings:
    """From probabilities to bouts; see `rtseg.decoding`."""

    margin: float = 0.0
    min_bout_frames: int = 1
    merge_gap_frames: int = 0

    def __post_init__(self) -> None:
        _require(0 <= self.margin <= 1, f"decoding.margin must lie in [0, 1], got {self.margin}")
        _require(
            self.min_bout_frames >= 1 and self.merge_gap_frames >= 0,
            f"decoding: min_bout_frames must be 1 or more and merge_gap_frames 0 or more, got {self}",
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
class Recipe:
    """Everything that makes a bundle from recordings (`rtseg train RECIPE.toml`).

    dataset: the dataset file, relative to the recipe. arena: box x0, y0, x1, y1 in px, from the experimenter, never
    from a recording that has not happened yet.
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
    decoding: DecodingSettings = field(default_factory=DecodingSettings)
    gaps: GapSettings = field(default_factory=GapSettings)

    def __post_init__(self) -> None:
        x0, y0, x1, y1 = self.arena
        _require(x0 < x1 and y0 < y1, f"arena is a box x0, y0, x1, y1 in px with x0 < x1 and y0 < y1, got {self.arena}")


@dataclass(frozen=True)
class ServeSettings:
    """The daemon.

    frames and predictions: ZeroMQ addresses (ipc:// or tcp:// on loopback). capacity: streams at once. max_batch:
    frames taken up in one turn of the loop; what came together is published in parts of this size. idle_timeout_s:
    after this long without a frame a stream is closed. queue_messages: high-water mark of both sockets.
    max_message_bytes: larger messages are refused unread.
    """

    frames: str = "tcp://127.0.0.1:5757"
    predictions: str = "tcp://127.0.0.1:5758"
    engine: str = "auto"
    capacity: int = 256
    max_batch: int = 16
    idle_timeout_s: float = 60.0
    queue_messages: int = 100_000
    max_message_bytes: int = 1_000_000

    def __post_init__(self) -> None:
        for name in ("capacity", "max_batch", "idle_timeout_s", "queue_messages", "max_message_bytes"):
            _require(getattr(self, name) > 0, f"{name} must be positive, got {getattr(self, name)}")


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
