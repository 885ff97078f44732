"""Settings as TOML, read back."""

from __future__ import annotations

import tomllib

from hypothesis import given, settings
from hypothesis import strategies as st

from rtseg.config import ArmSettings, ConditionSettings, TriggerFile, TriggerSettings, from_plain, to_plain
from rtseg.config.toml_text import toml_text

texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
scalars = st.booleans() | st.integers(-(2**62), 2**62) | st.floats(allow_nan=False, allow_infinity=False) | texts
values = st.recursive(scalars, lambda v: st.lists(v, max_size=3) | st.dictionaries(texts, v, max_size=3), max_leaves=6)
sections = st.dictionaries(
    texts, st.dictionaries(texts, st.dictionaries(texts, values, max_size=3), max_size=2), max_size=2
)


@given(plain=sections)
@settings(max_examples=100, deadline=None)
def test_any_sections_come_back(plain: dict[str, object]) -> None:
    # A section without any part is no section of the file.
    assert tomllib.loads(toml_text(plain)) == {name: parts for name, parts in plain.items() if parts}


def test_triggers_come_back() -> None:
    condition = ConditionSettings("S1", ('a "b"', "c"), negate=True)
    yoked = ArmSettings(yoked="a/log.csv", yoked_events=((1, 2), (30, 1)))
    file = TriggerFile({"my laser": TriggerSettings((condition,), on=0.7), "y": TriggerSettings(arms=yoked)})
    assert from_plain(tomllib.loads(toml_text(to_plain(file))), TriggerFile) == file
