"""The errors that rtseg raises for reasons that a user can remove.

Every message says what was expected, what came, what to do, and where. Programming mistakes of our own are plain
`assert`s; everything a file, a setting, a message or a machine can get wrong is a child of `RtsegError`.
"""

from __future__ import annotations

from pathlib import Path


class RtsegError(Exception):
    """Base of all errors whose message says what to do."""


class SettingError(RtsegError):
    """A setting, recipe or dataset file holds something unknown or out of range."""


class DivergenceError(SettingError):
    """A training came to numbers that are not finite, most often of a learning rate that is too high."""


class RecordingError(RtsegError):
    """A recording or label file is not what its reader expects."""

    def __init__(self, path: Path | str, problem: str, *, line: int | None = None) -> None:
        self.path, self.line = Path(path), line
        self.problem = problem
        where = f"{path}" if line is None else f"{path}, line {line}"
        super().__init__(f"{where}: {problem}")


class SkeletonError(RtsegError):
    """The keypoints of a source and of a model do not match."""


class RateError(RtsegError):
    """Frames come at another rate than the model was trained at."""


class FrameError(RtsegError):
    """A frame was refused at the boundary."""


class BundleError(RtsegError):
    """A bundle is missing, foreign, damaged or too new."""


class EngineError(RtsegError):
    """An engine cannot run here."""


class SnapshotError(RtsegError):
    """A session's snapshot is damaged."""


class ServeError(RtsegError):
    """The daemon or a client could not start or was refused."""


class SinkError(RtsegError):
    """What a trigger's line goes to is not there, or does not do what it should."""


class RefusedError(ServeError):
    """The daemon has refused a message of a stream. kind: as the wire names it, such as FrameError (docs/wire.md)."""

    def __init__(self, message: str, kind: str) -> None:
        self.kind = kind
        super().__init__(message)


def needs_extra(package: str, extra: str, purpose: str) -> RtsegError:
    """The error for an optional dependency that is not installed."""
    return RtsegError(f"{purpose} needs the package {package!r}: pip install 'rtseg[{extra}]'")


MAX_REASON_CHARACTERS = 1000


def clip_reason(error: Exception) -> str:
    """Why something was refused, no longer than a person reads: it may quote what a stranger sent."""
    return str(error)[:MAX_REASON_CHARACTERS]
