"""A file's names for its animals and keypoints as a model or a dataset calls them, and which of its animals take part.

The same for a dataset's [[recordings]], `rtseg annotate` and `rtseg replay`; the rule of names is that of a stream's
hello (`frames.skeleton`).
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from rtseg.errors import SettingError, SkeletonError
from rtseg.frames.skeleton import Skeleton, match_names, matches, renamed
from rtseg.recordings.recording import Recording
from rtseg.recordings.toml_table import Table


@dataclass(frozen=True)
class NameMap:
    """keypoints, animals: the file's name -> another. chosen: the file's animals that take part; () = all of them."""

    keypoints: Mapping[str, str] = field(default_factory=dict)
    animals: Mapping[str, str] = field(default_factory=dict)
    chosen: tuple[str, ...] = ()

    @classmethod
    def from_plain(cls, table: Table) -> NameMap:
        """From the keys `keypoints`, a table {the file's name = another}, and `animals`: the same, or a list of names.

        Raises SettingError for values of another kind.
        """
        if isinstance(table.plain.get("animals"), list):
            return cls(table.names("keypoints"), {}, table.texts("animals"))
        return cls(table.names("keypoints"), table.names("animals"))

    @classmethod
    def from_file(cls, path: Path) -> NameMap:
        """From a TOML file with these two keys. Raises SettingError, which names the file."""
        try:
            table = Table("", tomllib.loads(path.read_text(encoding="utf-8-sig")))
            table.only("keypoints", "animals")
            return cls.from_plain(table)
        except OSError as error:
            raise SettingError(f"{path}: cannot be read: {error.strerror or error}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingError(f"{path}: is no TOML: {error}") from error
        except SettingError as error:
            raise SettingError(f"{path}: {error}") from error

    @classmethod
    def from_options(cls, keypoints: tuple[str, ...], animals: tuple[str, ...]) -> NameMap:
        """From texts as a command line has them: FILE=MODEL, and for animals also FILE alone, which chooses.

        Raises SettingError for texts of another form, and where some animals are renamed and others only chosen.
        """
        chosen = tuple(name for name in animals if "=" not in name)
        if chosen and len(chosen) < len(animals):
            raise SettingError(f"expected names of animals, or FILE=MODEL for each, got both: {', '.join(animals)}")
        return cls(_pairs(keypoints), {} if chosen else _pairs(animals), chosen)

    def rename(self, recording: Recording) -> Recording:
        """The recording under these names, with the animals that take part.

        Raises SkeletonError, which names the file, for a name that it does not have.
        """
        if not (self.keypoints or self.animals or self.chosen):
            return recording
        try:
            return self._rename(recording)
        except SkeletonError as error:
            raise SkeletonError(f"{recording.source or recording.name}: {error}") from error

    def _rename(self, recording: Recording) -> Recording:
        asked = self.chosen or tuple(self.animals)
        unique = recording.unique
        if unique is not None and any(matches(name, unique.skeleton.animals[0]) for name in asked):
            recording = recording.with_unique_points()
        listed = recording.listed_animals or recording.skeleton.animals
        called = renamed(listed, self.animals, "animals")
        new_names = dict(zip(listed, called, strict=True))
        if self.chosen:
            listed = tuple(listed[i] for i in match_names(self.chosen, listed, "animals"))
        kept = [i for i, name in enumerate(recording.skeleton.animals) if name in listed]
        if not kept:
            raise SkeletonError(f"none of the animals {', '.join(listed)} is ever seen")
        skeleton = Skeleton(
            tuple(new_names[recording.skeleton.animals[i]] for i in kept),
            renamed(recording.skeleton.keypoints, self.keypoints, "keypoints"),
        )
        return replace(
            recording,
            skeleton=skeleton,
            keypoints=recording.keypoints[:, kept],
            confidence=recording.confidence[:, kept],
            listed_animals=tuple(new_names[name] for name in listed),
        )


def _pairs(texts: tuple[str, ...]) -> dict[str, str]:
    """Names of FILE=MODEL."""
    pairs: dict[str, str] = {}
    for text in texts:
        own, sign, other = text.partition("=")
        if not sign or not own or not other:
            raise SettingError(f"expected FILE=MODEL, the file's name and the model's, got {text!r}")
        if own in pairs:
            raise SettingError(f"the name {own!r} is given twice: {pairs[own]!r} and {other!r}")
        pairs[own] = other
    return pairs


def natural_order(name: str) -> list[tuple[int, str]]:
    """A key that sorts track_2 before track_10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]
