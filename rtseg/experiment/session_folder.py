"""The folder of one session: what was asked for, with what versions, and where everything that comes of it goes.

2026-11-30T14-05-09_mouse-12_day-3/
    experiment.toml       the file as it was
    triggers.toml         all triggers as the daemon had them, with the events of yoked ones
    session.json          metadata, versions, bundle, armed or dry run, times
    rtseg-....mcap        the daemon's recording
    daemon.log
    triggers.csv          all events (docs/triggers.md), written at the end from the recording
    trigger_times.csv     when each of them was decided, sent and acknowledged
    summary.html
"""

from __future__ import annotations

import json
import os
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import rtseg
from rtseg.bundle.bundle import Bundle
from rtseg.config import ExperimentSettings, TriggerFile, load_settings, to_plain
from rtseg.config.toml_text import toml_text
from rtseg.errors import RecordingError, SettingError
from rtseg.system.files import write_atomically, write_json_atomically
from rtseg.triggers.trial import load_trigger_file

_PACKAGES = ("numpy", "numba", "llvmlite", "pyzmq", "msgpack", "onnxruntime")
SESSION_FILE, TRIGGER_FILE = "session.json", "triggers.toml"
ARMED = "armed"
"""The mode of a session whose events reach sinks."""
MOST_BYTES = 100
"""Of the subject's and of the session's part of a folder's name, of which file systems take 255."""


@dataclass(frozen=True)
class Experiment:
    """An experiment's settings and what they name, read. triggers: None without any. path: of its file."""

    path: Path
    settings: ExperimentSettings
    triggers: TriggerFile | None

    def beside(self, name: str) -> Path:
        """A path of the file, which is relative to it."""
        return Path(os.path.normpath(self.path.parent / name))

    @property
    def bundle(self) -> str:
        """The model's folder, or a shipped model's name."""
        folder = self.beside(self.settings.bundle)
        return str(folder) if folder.exists() else self.settings.bundle


def load_experiment(path: Path, overrides: Sequence[str] = ()) -> Experiment:
    """An experiment's file and its triggers. Raises SettingError."""
    try:
        settings = load_settings(path, ExperimentSettings, overrides)
    except SettingError as error:
        # What a value must be is checked by the settings themselves, which know no file.
        text = str(error)
        raise SettingError(text if str(path) in text else f"{path}: {text}") from None
    triggers = load_trigger_file(path.parent / settings.triggers) if settings.triggers else None
    return Experiment(path, settings, triggers)


def without_sinks(triggers: TriggerFile) -> TriggerFile:
    """The same triggers with nothing at the end of their lines: a dry run decides and records, and sends nothing."""
    return TriggerFile({name: replace(trigger, sinks=()) for name, trigger in triggers.triggers.items()})


class SessionFolder:
    """The folder of a session; see above."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, experiment: Experiment, bundle: Bundle, started: datetime, *, armed: bool) -> SessionFolder:
        """A new folder under the experiment's `record`, with what was asked for. Raises SettingError where none can be
        made there, OSError where it cannot be written to.
        """
        about = experiment.settings.metadata
        stem = f"{started:%Y-%m-%dT%H-%M-%S}_{_plain(about['subject'])}_{_plain(about['session'])}"
        path = _new_folder(experiment, stem)
        folder = cls(path)
        write_atomically(path / "experiment.toml", experiment.path.read_bytes())
        if experiment.triggers is not None:
            triggers = experiment.triggers if armed else without_sinks(experiment.triggers)
            write_atomically(path / TRIGGER_FILE, toml_text(to_plain(triggers)))
        folder.write_about(
            {
                "metadata": dict(about),
                "mode": ARMED if armed else "dry run",
                "started": started.isoformat(timespec="seconds"),
                "ended": None,
                "reason": None,
                "cameras": {name: to_plain(camera) for name, camera in experiment.settings.cameras.items()},
                "settings": to_plain(experiment.settings),
                "experiment": str(experiment.path.resolve()),
                "bundle": {
                    "folder": experiment.bundle,
                    "name": bundle.name,
                    "hash": bundle.hash,
                    "fps": bundle.fps,
                },
                "versions": versions(),
                "problems": [],
            }
        )
        return folder

    @property
    def about(self) -> dict[str, Any]:
        """What the session says of itself. Raises RecordingError where the folder is no session's."""
        path = self.path / SESSION_FILE
        try:
            about = json.loads(path.read_text(encoding="utf-8"))
            _ = about["metadata"], about["mode"], about["versions"], about["bundle"]["hash"], about["problems"]
        except FileNotFoundError:
            raise RecordingError(self.path, f"is no session's folder: it has no {SESSION_FILE}") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RecordingError(path, f"cannot be read: {error!r}") from None
        found: dict[str, Any] = about
        return found

    def write_about(self, about: Mapping[str, Any]) -> None:
        """Keep what the session says of itself."""
        write_json_atomically(self.path / SESSION_FILE, dict(about))

    def recordings(self) -> list[Path]:
        """The daemon's recordings, in their order; several after a crash."""
        found = sorted(self.path.glob("rtseg-*.mcap"))
        return [path for path in found if not path.name.endswith(".recovered.mcap")]


def versions() -> dict[str, str]:
    """Of everything that answers depend on."""
    found = {"rtseg": rtseg.__version__, "python": sys.version.split()[0], "system": platform.platform()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _new_folder(experiment: Experiment, stem: str) -> Path:
    """A folder that nobody else has, also where two sessions begin in the same second."""
    record, n = experiment.settings.record, 1
    try:
        parent = experiment.beside(record)
        parent.mkdir(parents=True, exist_ok=True)
        while True:
            path = parent / (stem if n == 1 else f"{stem}_{n}")
            try:
                path.mkdir()
                return path
            except FileExistsError:
                n += 1
    except (OSError, ValueError) as error:  # ValueError: a path that cannot be one
        reason = error.strerror if isinstance(error, OSError) else error
        raise SettingError(
            f"{experiment.path}: record = {record!r}: no session's folder can be made there: {reason}"
        ) from None


def _plain(text: str) -> str:
    """A piece of a folder's name: any text without what some file systems do not take, two of which fit into a name."""
    letters = re.sub(r"[^\w.-]+", "-", text.strip()).strip("-.")[:40]
    return letters.encode()[:MOST_BYTES].decode(errors="ignore") or "unnamed"
