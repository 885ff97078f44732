"""One table of a dataset file, read strictly: a wrong type, an unknown or an absent key is an error that names the key.

Only for dataset files; the settings of programs live in `config`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rtseg.errors import SettingError


@dataclass(frozen=True)
class Table:
    """A parsed TOML table and its full name ('' = the top of the file)."""

    where: str
    plain: Mapping[str, Any]

    def key(self, name: str) -> str:
        """The full name of a key of this table."""
        return f"{self.where}.{name}" if self.where else name

    def only(self, *accepted: str) -> None:
        """Raise unless every key is accepted."""
        unknown = [k for k in self.plain if k not in accepted]
        if unknown:
            names = ", ".join(self.key(k) for k in unknown)
            raise SettingError(f"unknown key {names}; accepted here: {', '.join(accepted)}")

    def text(self, name: str, default: str | None = None) -> str:
        """A string."""
        return str(self._value(name, str, "a text in quotes", default))

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        return bool(self._value(name, bool, "true or false", default))

    def positive(self, name: str) -> float:
        """A number above zero."""
        value = self._value(name, (int, float), "a number above 0", None)
        if isinstance(value, bool) or not 0 < value < float("inf"):
            raise SettingError(f"{self.key(name)}: expected a number above 0, got {value!r}")
        return float(value)

    def whole(self, name: str, default: int) -> int:
        """A whole number from 0 on."""
        value = self._value(name, int, "a whole number from 0 on", default)
        if isinstance(value, bool) or value < 0:
            raise SettingError(f"{self.key(name)}: expected a whole number from 0 on, got {value!r}")
        return int(value)

    def texts(self, name: str, default: tuple[str, ...] | None = None) -> tuple[str, ...]:
        """A list of different strings."""
        value = self._value(name, (list, tuple), "a list of texts", default)
        if not all(isinstance(v, str) for v in value):
            raise SettingError(f"{self.key(name)}: expected a list of texts, got {value!r}")
        if len(set(value)) != len(value):
            raise SettingError(f"{self.key(name)}: a name comes twice in {', '.join(value)}")
        return tuple(value)

    def names(self, name: str) -> dict[str, str]:
        """A table of strings; empty where absent."""
        value = self._value(name, dict, 'a table such as {base = "other"}', {})
        if not all(isinstance(v, str) for v in value.values()):
            raise SettingError(f"{self.key(name)}: expected texts, got {value!r}")
        return dict(value)

    def table(self, name: str) -> Table:
        """A table below this one."""
        return Table(self.key(name), self._value(name, dict, f"a table [{self.key(name)}]", None))

    def tables(self, name: str) -> list[Table]:
        """The tables below the table `name`, in the order of the file."""
        return [self.table(name).table(key) for key in self.table(name).plain]

    def array(self, name: str) -> list[Table]:
        """The tables [[name]]; none where absent."""
        value = self._value(name, list, f"tables [[{name}]]", [])
        if not all(isinstance(v, dict) for v in value):
            raise SettingError(f"{self.key(name)}: expected tables [[{name}]]")
        return [Table(self.key(name) + (f"[{i}]" if len(value) > 1 else ""), v) for i, v in enumerate(value)]

    def _value(self, name: str, kind: type | tuple[type, ...], expected: str, default: Any) -> Any:
        if name not in self.plain:
            if default is None:
                raise SettingError(f"{self.key(name)} is missing: expected {expected}")
            return default
        value = self.plain[name]
        if not isinstance(value, kind):
            raise SettingError(f"{self.key(name)}: expected {expected}, got {value!r}")
        return value
