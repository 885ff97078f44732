"""What a reader tolerated: one warning for each kind, with a count, and a log that reports many files in few lines.

Readers return warnings with what they read; nothing here prints. A file with a warning was read, and the warning says
how; what cannot be read rightly is a RecordingError instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

_MAX_NAMES = 3


class ReadingWarning(str):
    """One kind of trouble in one file. It is its own text, such as 'frames without a label (30 frames)'.

    kind: what was found and what was done about it, the same words in every file. n, unit: how often. where: the
    track, column or line, where there is one. file: its path, filled in by `open`.
    """

    kind: str
    n: int
    unit: str
    where: str
    file: str

    def __new__(cls, kind: str, n: int, unit: str = "frames", where: str = "", file: str = "") -> ReadingWarning:
        warning = super().__new__(cls, f"{where}: {kind} ({n} {unit})" if where else f"{kind} ({n} {unit})")
        warning.kind, warning.n, warning.unit, warning.where, warning.file = kind, n, unit, where, file
        return warning

    def __reduce__(self) -> tuple[type[ReadingWarning], tuple[str, int, str, str, str]]:
        """What a copy is made of, as where a worker process hands its warnings to the first one."""
        return ReadingWarning, (self.kind, self.n, self.unit, self.where, self.file)


def with_file(warnings: Iterable[ReadingWarning], path: Path) -> tuple[ReadingWarning, ...]:
    """The same warnings with the file that they are about."""
    return tuple(w if w.file else ReadingWarning(w.kind, w.n, w.unit, w.where, str(path)) for w in warnings)


class WarningLog:
    """Warnings of many files, each once however often a file is read."""

    def __init__(self) -> None:
        self._warnings: dict[tuple[str, str], ReadingWarning] = {}  # by file and text
        self._n_told = 0

    def add_warnings(self, warnings: Iterable[ReadingWarning]) -> None:
        """Take in the warnings of a recording or of a label track."""
        self._warnings.update({(warning.file, warning): warning for warning in warnings})

    def warnings(self) -> tuple[ReadingWarning, ...]:
        """All of them, in the order in which they came."""
        return tuple(self._warnings.values())

    def tell(self, say: Callable[[str], None]) -> None:
        """Say the summary of what has come since the last time, each line as 'warning: ...'."""
        new = self.warnings()[self._n_told :]
        self._n_told = len(self._warnings)
        for line in _summary(new):
            say(f"warning: {line}")

    def summary(self) -> list[str]:
        """One line for each kind: the count over all files, and the names of the first files."""
        return _summary(self.warnings())


def _summary(warnings: Iterable[ReadingWarning]) -> list[str]:
    """One line for each kind of warning."""
    kinds: dict[tuple[str, str], list[ReadingWarning]] = {}
    for warning in warnings:
        kinds.setdefault((warning.kind, warning.unit), []).append(warning)
    lines = []
    for (kind, unit), found in kinds.items():
        names = list(dict.fromkeys(Path(w.file).name for w in found if w.file))
        listed = ", ".join(names[:_MAX_NAMES]) + (", ..." if len(names) > _MAX_NAMES else "")
        files = f"{len(names)} {'file' if len(names) == 1 else 'files'}: {listed}" if names else ""
        times = f"{sum(w.n for w in found)} {unit}"
        # Where files are what is counted, they are counted once.
        parts = [files] if files and unit == "file" else [times, files] if files else [times]
        lines.append(f"{kind} ({' in '.join(parts)})")
    return lines
