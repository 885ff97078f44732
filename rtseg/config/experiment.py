"""The settings of an experiment: one TOML file from which `rtseg run` starts and ends everything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rtseg.config.checks import require

METADATA = ("subject", "session", "operator")
"""What every session says of itself."""


@dataclass(frozen=True)
class CameraSettings:
    """A stream that is expected. fps: its declared rate, 0 = any that the model takes."""

    fps: float = 0.0

    def __post_init__(self) -> None:
        require(self.fps >= 0, f"fps must be 0 or more, got {self.fps}")


@dataclass(frozen=True)
class ExperimentSettings:
    """An experiment. All paths are relative to its file.

    bundle: folder of the model. triggers: trigger file, "" = none. record: folder that gets a folder per session.
    serve: settings of the daemon (TOML), "" = as they are.

    cameras: the streams that are expected, by name; the session begins when all of them send frames. wait_s: for so
    long they are waited for. minutes: how long the session lasts, 0 = until it is stopped. metadata: of the session:
    subject, session, operator, and whatever else is to be kept, as texts.
    """

    bundle: str
    record: str
    metadata: Mapping[str, str]
    cameras: Mapping[str, CameraSettings]
    triggers: str = ""
    serve: str = ""
    wait_s: float = 120.0
    minutes: float = 0.0

    def __post_init__(self) -> None:
        missing = [name for name in METADATA if not self.metadata.get(name, "").strip()]
        require(not missing, f"metadata: {', '.join(missing)} must be given")
        require(bool(self.cameras), "cameras: at least one section [cameras.NAME] is needed, NAME = its stream")
        require(self.wait_s > 0, f"wait_s must be positive, got {self.wait_s}")
        require(self.minutes >= 0, f"minutes must be 0 or more, got {self.minutes}")
