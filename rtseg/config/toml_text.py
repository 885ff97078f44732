"""Settings as a TOML file that `load_settings` reads back as they were."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def toml_text(plain: Mapping[str, Any]) -> str:
    """A file with a section for each map of maps, and what lies within those on one line each. None is left out."""
    lines = [f"{_key(key)} = {_value(value)}" for key, value in plain.items() if not isinstance(value, Mapping)]
    for section, parts in plain.items():
        if not isinstance(parts, Mapping):
            continue
        for name, part in parts.items():
            lines += ["", f"[{_key(section)}.{_key(name)}]"]
            lines += [f"{_key(key)} = {_value(value)}" for key, value in part.items() if value is not None]
    return "\n".join(lines).lstrip("\n") + "\n"


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _value(name)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{_key(k)} = {_value(v)}' for k, v in value.items() if v is not None)} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    # Texts, numbers and truth values are written as in JSON; TOML wants this one control character escaped as well.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
