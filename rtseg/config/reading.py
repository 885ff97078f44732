"""Settings out of TOML files and `--set section.key=value`, every key and type checked."""

from __future__ import annotations

import dataclasses
import math
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from rtseg.errors import SettingError

T = TypeVar("T")


def load_settings(path: Path | str, kind: type[T], overrides: Sequence[str] = ()) -> T:
    """Settings of dataclass `kind` from a TOML file, with `section.key=value` overrides (values in TOML's syntax).

    Raises SettingError naming the file, the key and what is accepted.
    """
    path = Path(path)
    try:
        # utf-8-sig skips a byte-order mark, which some editors write.
        plain = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise SettingError(f"{path}: no such file") from None
    except OSError as error:
        raise SettingError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:  # no TOML, no UTF-8, or a number of thousands of digits
        raise SettingError(f"{path}: not a TOML file: {error}") from None
    return from_plain(plain, kind, overrides, where=str(path))


def from_plain(plain: Mapping[str, Any], kind: type[T], overrides: Sequence[str] = (), where: str = "settings") -> T:
    """Settings of dataclass `kind` from a plain mapping, as `load_settings`. where: what error messages call it."""
    merged: dict[str, Any] = _copied(plain)
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise SettingError(f"--set wants section.key=value, got {override!r}")
        # A value that is no TOML is text: `--set name=rats` needs no quotes within the shell's quotes.
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


def _build(value: Any, kind: Any, where: str) -> Any:
    """A value of the type `kind`: a dataclass, Optional, tuple, Mapping, or a plain type. Raises SettingError."""
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, Mapping):
            raise SettingError(f"{where}: expected a section, got {value!r}")
        # Of some sections one value says which other ones belong there.
        kind = kind.section_kind(value) if hasattr(kind, "section_kind") else kind
        # Annotations are strings in these modules; the hints are the types that they name.
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
        # Only what is given: the dataclass itself knows its defaults.
        values = {k: _build(v, hints[k], f"{where}: {k}") for k, v in value.items()}
        return typing.cast(type, kind)(**values)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _build_one_of(value, arguments, where)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise SettingError(f"{where}: expected a list, got {value!r}")
        if arguments[-1] is not Ellipsis and len(value) != len(arguments):
            raise SettingError(f"{where}: expected {len(arguments)} values, got {len(value)}")
        # The first type stands for all: no setting's tuple mixes types.
        return tuple(_build(v, arguments[0], where) for v in value)
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise SettingError(f"{where}: expected a section, got {value!r}")
        return {str(k): _build_named(v, arguments[1], f"{where}.{k}") for k, v in value.items()}
    if kind is Any:  # what is checked elsewhere
        return value
    # To Python a bool is an int, and an int no float; to someone who writes a recipe it is the other way round.
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise SettingError(f"{where}: expected a finite number, got one of {len(str(value))} digits") from None
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise SettingError(f"{where}: expected {kind.__name__}, got {value!r}")
    if kind is float and not math.isfinite(value):
        raise SettingError(f"{where}: expected a finite number, got {value}")
    return value


def _build_named(value: Any, kind: Any, where: str) -> Any:
    """A section whose name is the user's. What a dataclass itself refuses is told with the section."""
    try:
        return _build(value, kind, where)
    except SettingError as error:
        text = str(error)
        raise SettingError(text if text.startswith(where) else f"{where}: {text}") from None


def _build_one_of(value: Any, kinds: Sequence[Any], where: str) -> Any:
    """A value of a union: a type or None, or one of several plain types. Raises SettingError."""
    some = [kind for kind in kinds if kind is not type(None)]
    if value is None and len(some) < len(kinds):
        return None
    if len(some) == 1:
        return _build(value, some[0], where)
    if type(value) not in some:
        raise SettingError(f"{where}: expected {' or '.join(kind.__name__ for kind in some)}, got {value!r}")
    return value
