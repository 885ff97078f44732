"""The settings of behaviour triggers: a TOML file with a section `[triggers.NAME]` for each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import pairwise

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
            f"triggers: behaviours of head {self.head!r} must be one or more different names, got {self.behaviours}",
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
        require(
            bool(self.shares) and min(self.shares.values()) >= 0 and sum(self.shares.values()) > 0,
            f"arms.shares must not be negative, and one must be positive, got {dict(self.shares)}",
        )
        require(self.block_events >= 1, f"arms.block_events must be 1 or more, got {self.block_events}")
        require(self.block_s > 0, f"arms.block_s must be positive, got {self.block_s}")
        is_alone = not self.is_yoked or (dict(self.shares) == {"real": 1.0} and self.assign == "random")
        require(is_alone, "arms.yoked stands without shares and assign: all of its events are of the arm `yoked`")
        starts = [start for start, _ in self.yoked_events]
        rise = all(early < late for early, late in pairwise(starts))
        are_frames = rise and all(start >= 0 and n >= 1 for start, n in self.yoked_events)
        require(
            are_frames, "arms.yoked_events must be pairs of a first frame, rising, and a number of frames from 1 on"
        )

    @property
    def is_yoked(self) -> bool:
        """Whether a log says when events begin, and not the animal."""
        return bool(self.yoked)


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
        return any(fnmatchcase(stream, pattern) for pattern in self.streams)

    def __post_init__(self) -> None:
        for name, accepted in (("combine", COMBINE), ("source", SOURCES)):
            value = getattr(self, name)
            require(value in accepted, f"triggers: {name} must be one of {', '.join(accepted)}, got {value!r}")
        require(bool(self.conditions) or self.arms.is_yoked, "triggers: at least one condition is needed")
        require(0 <= self.off <= self.on <= 1, f"triggers: 0 <= off <= on <= 1, got on {self.on} and off {self.off}")
        for name in ("min_duration_s", "refractory_s", "pulse_s", "train_hz"):
            require(getattr(self, name) >= 0, f"triggers: {name} must not be negative, got {getattr(self, name)}")
        for name in ("max_on_s", "grace_s", "window_s", "train_width_s"):
            require(getattr(self, name) > 0, f"triggers: {name} must be positive, got {getattr(self, name)}")
        require(self.window_s <= 3600, f"triggers: window_s must be 3600 or less, got {self.window_s}")
        require(0 <= self.max_missing <= 1, f"triggers: max_missing is a share in [0, 1], got {self.max_missing}")
        require(self.max_events >= 0 and 0 <= self.max_duty <= 1, "triggers: max_events >= 0, max_duty in [0, 1]")
        require(self.train_hz * self.train_width_s < 1, "triggers: a train's pulses must be shorter than its period")
        require(len(set(self.sinks)) == len(self.sinks), f"triggers: sinks must be different names, got {self.sinks}")
        unknown = sorted(set(self.never_on) - set(QUALITY_FLAGS))
        require(not unknown, f"triggers: unknown flag {', '.join(unknown)}; accepted: {', '.join(QUALITY_FLAGS)}")


@dataclass(frozen=True)
class TriggerFile:
    """A trigger file. triggers, sinks: by name."""

    triggers: Mapping[str, TriggerSettings]
    sinks: Mapping[str, SinkSettings] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(bool(self.triggers), "a trigger file needs a section [triggers.NAME]")
        for name, trigger in self.triggers.items():
            unknown = [sink for sink in trigger.sinks if sink not in self.sinks]
            require(
                not unknown,
                f"triggers.{name}: no section [sinks.NAME] for {', '.join(unknown)}; "
                f"there are: {', '.join(self.sinks) or 'none'}",
            )
