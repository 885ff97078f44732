"""Chosen numbers in a copy of a trigger file, whose comments and other settings stay as their author wrote them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from rtseg.errors import SettingError
from rtseg.triggers.trial import load_triggers
from rtseg.tuning.sweep import Candidate, candidate_of, with_candidate

_SECTION, _IS_SETTING = re.compile(r"^\s*\["), re.compile(r"^\s*[^#\s]")


def tuned_text(path: Path, chosen: Mapping[str, Candidate]) -> str:
    """The text of the trigger file with other thresholds. chosen: by trigger.

    Raises SettingError where a trigger is not written as a section of its own, whose lines can be changed.
    """
    lines, now = path.read_text(encoding="utf-8-sig").splitlines(), load_triggers(path)
    for name, candidate in chosen.items():
        before = asdict(candidate_of(now[name]))
        changed = {key: value for key, value in asdict(candidate).items() if value != before[key]}
        lines = _with_numbers(lines, name, changed)
    return "\n".join(lines) + "\n"


def check_text(path: Path, written: Path, chosen: Mapping[str, Candidate]) -> None:
    """Raise SettingError unless the written file says what the old one does, but for what was chosen; it is deleted."""
    expected = dict(load_triggers(path))
    for name, candidate in chosen.items():
        expected[name] = with_candidate(expected[name], candidate)
    try:
        same = load_triggers(written) == expected
    except SettingError:
        written.unlink()
        raise
    if not same:
        written.unlink()
        names = ", ".join(f"[triggers.{name}]" for name in chosen)
        raise SettingError(f"{path}: its lines could not be changed; write {names} as sections with a line a setting")


def _with_numbers(lines: list[str], name: str, numbers: Mapping[str, float]) -> list[str]:
    heads = [i for i, line in enumerate(lines) if _is_head(line, name)]
    if not heads:
        # It was loaded, so it is there in another of TOML's forms.
        raise SettingError(f"triggers.{name} must be written as a section [triggers.{name}] to be changed")
    start = heads[0] + 1
    stop = next((i for i in range(start, len(lines)) if _SECTION.match(lines[i])), len(lines))
    # What is added goes below the section's last line, not below the blank ones and comments of the next.
    stop = max((i + 1 for i in range(start, stop) if _IS_SETTING.match(lines[i])), default=start)
    section, added = lines[start:stop], []
    for key, value in numbers.items():
        pattern = re.compile(rf"^(\s*{key}\s*=\s*)[-+0-9._eE]+")
        at = [i for i, line in enumerate(section) if pattern.match(line)]
        if at:
            section[at[0]] = pattern.sub(rf"\g<1>{value!r}", section[at[0]])
        else:
            added.append(f"{key} = {value!r}")
    return [*lines[:start], *section, *added, *lines[stop:]]


def _is_head(line: str, name: str) -> bool:
    """Whether a line begins the trigger's section, its name bare or in quotes."""
    text = line.split("#")[0] if '"' not in name and "#" not in name else line
    return text.strip() in (f"[triggers.{name}]", f'[triggers."{name}"]', f"[triggers.'{name}']")
