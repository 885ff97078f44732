"""The settings of behaviour triggers: a TOML file with a section `[triggers.NAME]` for each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import pairwise
from math import inf

from rtseg.config.checks import require
from rtseg.config.sinks import SinkSettings

SOURCES = ("probability", "bout")
COMBINE = ("any", "all")
ASSIGNMENTS = ("random", "blocks", "time_blocks")
QUALITY_FLAGS = (
    "warming_up",
    "gap_filled",
    "reset",
    "missing_points",
    "low_confidence",
    "identity_jump",
    "late",
    "unsure",
    "out_of_range",
    "frozen",
)
"""The names of an answer's quality flags, in the order of their bits, as tables print them (docs/wire.md)."""
_NEVER_ON = tuple(name for name in QUALITY_FLAGS if name != "missing_points")
LONGEST_S = 86_400.0
LONGEST_GRACE_S = 60.0
"""As long as a board keeps a lease at most (`sinks.serial_frames.LONGEST_LEASE_US`)."""
TRAIN_HZ = (0.001, 1000.0)
SHORTEST_WIDTH_S = 1e-4
"""What a board keeps beside everything else that its loop does."""
MOST_ARMS = 100
MOST_NAME_BYTES = 100
MOST = 2**31 - 1
"""Of what is counted: events, and those of a block."""


@dataclass(frozen=True)
class ConditionSettings:
    """A behaviour of one head, or any of several.

    head: its name. behaviours: classes of it; their probabilities are added, for only one of them can be true. negate:
    its opposite.
    """

    head: str
    behaviours: tuple[str, ...]
    negate: bool = False

    def __post_init__(self) -> None:
        require(
            bool(self.behaviours) and len(set(self.behaviours)) == len(self.behaviours),
            f"behaviours of head {self.head!r} must be one or more different names, got {self.behaviours}",
        )


@dataclass(frozen=True)
class ArmSettings:
    """Which events are stimulated and which are controls.

    shares: what is drawn, `real` (the line goes on) and any other names (decided and recorded, and the line stays off:
    `sham`), and how often. assign: `random`, an independent draw for each event; `blocks`, in turn for block_events
    events each; `time_blocks`, in turn for block_s each from the stream's first frame on; both in the order of shares,
    whose numbers then do not matter. seed: of the draws.

    yoked: the log of a session (`triggers.csv`), at whose frames another animal gets what was given in it, whatever it
    does itself; the only arm is then `yoked`. yoked_stream, yoked_trigger: which
    events of a log of several; "" = there is one only. yoked_events: first frame and number of frames of each event
    that was given; read from the log where it is empty.
    """

    shares: Mapping[str, float] = field(default_factory=lambda: {"real": 1.0})
    assign: str = "random"
    block_events: int = 1
    block_s: float = 60.0
    seed: int = 0
    yoked: str = ""
    yoked_stream: str = ""
    yoked_trigger: str = ""
    yoked_events: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        require(self.assign in ASSIGNMENTS, f"arms.assign must be one of {', '.join(ASSIGNMENTS)}, got {self.assign!r}")
        shares = dict(self.shares)
        require(
            bool(shares) and all(0 <= share < inf for share in shares.values()) and 0 < sum(shares.values()) < inf,
            f"arms.shares must be finite and not negative, and one must be positive, got {shares}",
        )
        require(len(shares) <= MOST_ARMS, f"arms.shares: {MOST_ARMS} arms at most, got {len(shares)}")
        for name in shares:
            _check_arm_name(name)
        require(1 <= self.block_events <= MOST, f"arms.block_events must be from 1 to {MOST}, got {self.block_events}")
        require(0 < self.block_s <= LONGEST_S, f"arms.block_s must be above 0, a day at most, got {self.block_s}")
        is_alone = not self.is_yoked or (dict(self.shares) == {"real": 1.0} and self.assign == "random")
        require(is_alone, "arms.yoked stands without shares and assign: all of its events are of the arm `yoked`")
        starts = [start for start, _ in self.yoked_events]
        rise = all(early < late for early, late in pairwise(starts))
        are_frames = rise and all(0 <= start < 2**62 and 1 <= n < 2**62 for start, n in self.yoked_events)
        require(
            are_frames, "arms.yoked_events must be pairs of a first frame, rising, and a number of frames from 1 on"
        )

    @property
    def is_yoked(self) -> bool:
        """Whether a log says when events begin, and not the animal."""
        return bool(self.yoked)


def _check_arm_name(name: str) -> None:
    """Raise SettingError for an arm whose events would be taken for others: `real` and `yoked` reach the animal."""
    plain = name.strip().casefold()
    require(bool(plain), f"arms.shares: an arm needs a name, got {name!r}")
    require(
        name == "real" or plain not in ("real", "yoked"),
        f"arms.shares: a control cannot be named {name!r}: `real` is the arm that reaches the animal, and `yoked` is "
        "one without shares",
    )


@dataclass(frozen=True)
class TriggerSettings:
    """One trigger. All times are rounded to whole frames of the model's rate, so that it decides the same live and in
    a replay.

    conditions: what is watched (nothing for a yoked trigger), combined by `combine`: `any` of them or `all`. source:
    `probability`, with the thresholds on and off (hysteresis: it begins at `on` or above and ends below `off`), or
    `bout`, the decoded label. min_duration_s: it must hold for so long before the trigger fires. refractory_s: after
    the end of an event none begins for so long.

    grace_s: live, an event ends where an answer comes later than one frame interval and this time after the one before;
    as long as this a sink keeps the line on that hears nothing more.

    pulse_s: how long the line is on; 0 = as long as the behaviour lasts. max_on_s: never longer than this. max_events
    and max_duty: within each window_s at most so many events, and the line on for at most this share of the time (0
    events = no limit). train_hz and train_width_s: pulses within the event, made by the sink (0 = a steady line).

    never_on: quality flags with which no event begins and a running one ends (`QUALITY_FLAGS`). max_missing: the same
    where more than this share of a frame's points is missing; 1 = no limit. streams: names that it applies to, with `*`
    and `?` as in file names.

    sinks: names of sections `[sinks.NAME]` where its line goes. line: which one, as the sink numbers or names them: a
    pin, a TTL line; "" = the trigger's name.
    """

    conditions: tuple[ConditionSettings, ...] = ()
    combine: str = "any"
    source: str = "probability"
    on: float = 0.8
    off: float = 0.6
    min_duration_s: float = 0.0
    refractory_s: float = 1.0
    pulse_s: float = 0.5
    max_on_s: float = 5.0
    grace_s: float = 0.002
    max_events: int = 0
    max_duty: float = 1.0
    window_s: float = 60.0
    train_hz: float = 0.0
    train_width_s: float = 0.005
    never_on: tuple[str, ...] = _NEVER_ON
    max_missing: float = 1.0
    streams: tuple[str, ...] = ("*",)
    sinks: tuple[str, ...] = ()
    line: int | str = ""
    arms: ArmSettings = ArmSettings()

    def applies_to(self, stream: str) -> bool:
        """Whether the trigger is for a stream of this name."""
        # A name as it is, too: brackets in it are a pattern's.
        return stream in self.streams or any(fnmatchcase(stream, pattern) for pattern in self.streams)

    def __post_init__(self) -> None:
        for name, accepted in (("combine", COMBINE), ("source", SOURCES)):
            value = getattr(self, name)
            require(value in accepted, f"{name} must be one of {', '.join(accepted)}, got {value!r}")
        require(bool(self.conditions) or self.arms.is_yoked, "at least one condition is needed")
        require(0 <= self.off <= self.on <= 1, f"expected 0 <= off <= on <= 1, got on {self.on} and off {self.off}")
        self._check_times()
        self._check_train()
        require(0 <= self.max_missing <= 1, f"max_missing is a share in [0, 1], got {self.max_missing}")
        require(0 <= self.max_events <= MOST, f"max_events must be from 0 to {MOST}, got {self.max_events}")
        require(0 <= self.max_duty <= 1, f"max_duty is a share in [0, 1], got {self.max_duty}")
        require(bool(self.streams), "streams must name one or more, * for all")
        require(len(set(self.sinks)) == len(self.sinks), f"sinks must be different names, got {self.sinks}")
        unknown = sorted(set(self.never_on) - set(QUALITY_FLAGS))
        require(not unknown, f"unknown flag {', '.join(unknown)}; accepted: {', '.join(QUALITY_FLAGS)}")

    def _check_times(self) -> None:
        for name in ("min_duration_s", "refractory_s", "pulse_s"):
            value = getattr(self, name)
            require(0 <= value <= LONGEST_S, f"{name} must be from 0 to a day of seconds, got {value}")
        for name, longest in (("max_on_s", LONGEST_S), ("grace_s", LONGEST_GRACE_S), ("window_s", 3600)):
            value = getattr(self, name)
            require(0 < value <= longest, f"{name} must be above 0, {longest:g} at most, got {value}")
        # A pulse that is always cut short is none that anybody asked for.
        require(
            self.pulse_s <= self.max_on_s or self.arms.is_yoked,
            f"pulse_s {self.pulse_s} is longer than max_on_s {self.max_on_s}: make one of them fit",
        )

    def _check_train(self) -> None:
        slowest, fastest = TRAIN_HZ
        require(
            self.train_hz == 0 or slowest <= self.train_hz <= fastest,
            f"train_hz must be 0 or from {slowest} to {fastest:g}, got {self.train_hz}",
        )
        width_s = self.train_width_s
        require(
            SHORTEST_WIDTH_S <= width_s <= LONGEST_S,
            f"train_width_s must be from {SHORTEST_WIDTH_S} to a day, got {width_s}",
        )
        # In microseconds, as what drives the line counts.
        require(
            self.train_hz == 0 or round(width_s * 1e6) < round(1e6 / self.train_hz),
            f"a train's pulses must be shorter than its period, got {width_s} s at {self.train_hz} Hz",
        )


@dataclass(frozen=True)
class TriggerFile:
    """A trigger file. triggers, sinks: by name."""

    triggers: Mapping[str, TriggerSettings]
    sinks: Mapping[str, SinkSettings] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(bool(self.triggers), "a trigger file needs a section [triggers.NAME]")
        _check_names("triggers", self.triggers)
        _check_names("sinks", self.sinks)
        for name, trigger in self.triggers.items():
            unknown = [sink for sink in trigger.sinks if sink not in self.sinks]
            require(
                not unknown,
                f"triggers.{name}: no section [sinks.NAME] for {', '.join(unknown)}; "
                f"there are: {', '.join(self.sinks) or 'none'}",
            )


def _check_names(section: str, names: Iterable[str]) -> None:
    """Raise SettingError for names that files, topics, markers or people would take for others."""
    known: dict[str, str] = {}
    for name in names:
        require(
            0 < len(name.encode()) <= MOST_NAME_BYTES and name.isprintable() and not set(name) & set("/\\"),
            f"{section}.{name!r}: expected 1 to {MOST_NAME_BYTES} bytes without slashes and control characters",
        )
        other = known.setdefault(name.strip().casefold(), name)
        require(other == name, f"{section}: {other!r} and {name!r} differ in case or blanks alone: rename one of them")
