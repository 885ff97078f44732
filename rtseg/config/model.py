"""A network and what goes into it: features, scaler, cells, sizes."""

from __future__ import annotations

from dataclasses import dataclass

from rtseg.config.checks import require

MAX_LOOKAHEAD_FRAMES = 1000
"""A bundle with a longer delay is not loaded; to be refused before it is trained."""


@dataclass(frozen=True)
class FeatureSettings:
    """Which features the model sees; `rtseg.features.spec.FeatureSpec` adds what they mean for a skeleton.

    groups: names from `rtseg.features.spec.GROUPS`, in any order (none = all of them). lags: in frames, for speeds and
    accelerations over causal differences. horizons_s: time constants of the exponential averages. windows_s: the group
    `speed` then has, beside every speed, its mean and its largest value over the last so many seconds. hold_frames: how
    long a missing point is held where it was last seen; beyond that it is NaN. absence_cap_s: where the time since a
    point was seen stops counting.

    animal_order: `kept`, or `sorted` where a tracker's identities can't be trusted: the columns that trade places when
    the animals do are then sorted by value, largest first, NaN last, so that no answer depends on which animal is named
    first (and a signed angle between two animals becomes its magnitude). identities: `tracker` takes the tracker's;
    `relinked` gives every animal the name of the one that was last seen nearest to it, so that a tracker that swaps
    names does not disturb the speeds. Links change where that brings the points nearer by relink_margin_px on average,
    a single point counting for relink_cap_px at most.

    scale: `px` takes distances as they come; `body` divides them by the body length measured so far and multiplies them
    by training's, so that no answer depends on the camera's distance or resolution. `body` has no `position` and no
    `center`, which are measured from the arena's middle.

    motion: `linear` takes speeds, accelerations and approaches (and their averages, and areas) as they come; `roots`
    takes their fourth roots, signs kept. They have long tails: where a run is 500 px/s, an animal that stands still
    and one that sniffs are the same number to a network on standardised features, and not to trees.
    """

    groups: tuple[str, ...] = ()
    lags: tuple[int, ...] = (1, 3, 9)
    horizons_s: tuple[float, ...] = (0.5, 2.0, 8.0)
    hold_frames: int = 15
    absence_cap_s: float = 4.0
    animal_order: str = "kept"
    identities: str = "tracker"
    relink_margin_px: float = 5.0
    relink_cap_px: float = 200.0
    scale: str = "px"
    motion: str = "linear"
    windows_s: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        require(
            bool(self.lags) and min(self.lags) >= 1 and list(self.lags) == sorted(set(self.lags)),
            f"features.lags must be rising positive frame counts, got {self.lags}",
        )
        require(
            all(h > 0 for h in self.horizons_s) and self.hold_frames >= 0 and self.absence_cap_s > 0,
            "features.horizons_s and absence_cap_s must be positive, hold_frames not negative",
        )
        require(
            all(w > 0 for w in self.windows_s) and list(self.windows_s) == sorted(set(self.windows_s)),
            f"features.windows_s must be rising positive numbers of seconds, got {self.windows_s}",
        )
        # Names of groups are checked by `FeatureSpec`, since this room may not import `features`, which defines them.
        for name, accepted in (
            ("animal_order", ("kept", "sorted")),
            ("identities", ("tracker", "relinked")),
            ("scale", ("px", "body")),
            ("motion", ("linear", "roots")),
        ):
            one, other = accepted
            require(
                getattr(self, name) in accepted,
                f"features.{name} must be {one!r} or {other!r}, got {getattr(self, name)!r}",
            )
        require(
            self.relink_margin_px >= 0 and self.relink_cap_px > 0,
            "features.relink_cap_px must be positive, relink_margin_px not negative",
        )

    def window_frames(self, fps: float) -> list[int]:
        """`windows_s` in frames, each one at least."""
        return [max(1, round(fps * seconds)) for seconds in self.windows_s]


@dataclass(frozen=True)
class ScalerSettings:
    """How features are scaled: `standard` (mean 0, deviation 1), `minmax` (the paper's [0, 1], section III.H) or
    `range` (minmax, then less the mean: a range of 1 around 0).

    clip: scaled features are cut at this distance from the training mean, in standard deviations.
    """

    kind: str = "standard"
    clip: float = 6.0

    def __post_init__(self) -> None:
        require(
            self.kind in ("standard", "minmax", "range"),
            f"scaler.kind must be standard, minmax or range, got {self.kind!r}",
        )


NETWORK, TREES = "multitask-tcn", "gradient-boosting"
KINDS = (
    NETWORK,
    "ms-tcn",
    "fully-connected",
    "lstm",
    "gru",
    "self-attention",
    "conv1d",
    "transformer",
    TREES,
)
"""Systems that can be trained; SERVED of them become a bundle, where they are causal."""
SERVED = (NETWORK, TREES)
NO_BUNDLE = f"only a causal {NETWORK} or {TREES} can become a bundle; the other systems are there to compare with"


@dataclass(frozen=True)
class CellSettings:
    """A recurrent cell of the multitask network: `rtseg.bundle.network.Cell`."""

    encoder: int = 96
    hidden: int = 128
    period: int = 1

    def __post_init__(self) -> None:
        require(min(self.encoder, self.hidden, self.period) >= 1, f"model.cells: sizes must be 1 or more, got {self}")


@dataclass(frozen=True)
class ModelSettings:
    """Which system, and its sizes (paper, IV). Sizes that a kind does not name below mean nothing to it.

    causal: false lets the system see the whole recording (symmetric convolutions and attention, both directions).
    lookahead_frames: the answer about frame t is given at t + lookahead. dropout: all networks.

    channels: width of every network's layers. kernel: taps of multitask-tcn, ms-tcn, transformer and conv1d.
    multitask-tcn (IV.C and IV.D): `layers` of the shared predictor generator, dilation first_dilation * 2^layer;
    head_channels and head_layers of each refinement head, dilations head_first_dilation * 2^layer; cells: recurrent
    cells beside the convolutions or, with layers = 0, in their place; forget_order: the cells see the features once for
    every order in which the animals can be named, and answer the same for all. ms-tcn: `stages` of `layers` each
    (generator and refinements). transformer: one encoder and stages - 1 decoders of `layers` each, layer i attends to
    2^i frames, at most attention_window. lstm, gru: `depth` layers. self-attention: `depth` blocks over
    attention_window frames, channels a multiple of 4. fully-connected, conv1d: a window of window_frames frames
    to each side (causal: to the past), every window_stride-th of them; fully-connected has `depth` hidden layers, the
    first 4 times `channels` wide, conv1d three convolutions, the first twice `channels` wide.
    """

    kind: str = NETWORK
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
    depth: int = 1
    attention_window: int = 256
    window_frames: int = 100
    window_stride: int = 2
    dropout: float = 0.2
    lookahead_frames: int = 0

    def __post_init__(self) -> None:
        require(self.kind in KINDS, f"model.kind must be one of {', '.join(KINDS)}; got {self.kind!r}")
        for name in (
            *("channels", "first_dilation", "kernel", "head_first_dilation", "stages", "depth"),
            *("attention_window", "window_frames", "window_stride"),
        ):
            require(getattr(self, name) >= 1, f"model.{name} must be 1 or more, got {getattr(self, name)}")
        require(
            self.head_layers >= 0 and self.head_channels >= (1 if self.head_layers else 0),
            "model.head_layers must be 0 or more, head_channels 1 or more (0 and 0: nothing is refined); got "
            f"{self.head_layers} and {self.head_channels}",
        )
        require(
            self.layers >= (0 if self.cells else 1),
            f"model.layers must be 1 or more (0 or more where there are cells), got {self.layers}",
        )
        require(0 <= self.dropout < 1, f"model.dropout must lie in [0, 1), got {self.dropout}")
        require(
            0 <= self.lookahead_frames <= MAX_LOOKAHEAD_FRAMES,
            f"model.lookahead_frames must be 0 to {MAX_LOOKAHEAD_FRAMES}, got {self.lookahead_frames}",
        )
        require(
            self.causal or self.lookahead_frames == 0,
            "model.lookahead_frames is the delay of a causal model; with causal = false it must be 0, "
            f"got {self.lookahead_frames}",
        )
        require(
            self.causal or self.kernel % 2 == 1 or self.kind not in (NETWORK, "ms-tcn", "transformer"),
            f"model.kernel must be odd where causal = false, so that it looks equally far both ways; got {self.kernel}",
        )

    @property
    def becomes_bundle(self) -> bool:
        """Whether an engine steps such a system."""
        return self.kind in SERVED and self.causal

    @property
    def is_trees(self) -> bool:
        """Whether boosted trees are trained, and no network."""
        return self.kind == TREES
