"""Settings of triggers: a file with a wrong value is refused with the section, the key, what is right and what came."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtseg.config import ArmSettings, ConditionSettings, SinkSettings, TriggerFile, TriggerSettings, load_settings
from rtseg.errors import SettingError
from rtseg.recordings.heads import Head
from rtseg.triggers.rule import TriggerRule

ATTACK = (ConditionSettings("task1", ("attack",)),)
HEADS = (Head("task1", ("attack", "other"), ("attack",), "task1"),)
TRIGGER = '[triggers.attack]\nconditions = [{ head = "task1", behaviours = ["attack"] }]\n'


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"on": 0.5}, "expected 0 <= off <= on <= 1, got on 0.5 and off 0.6"),
        ({"refractory_s": -1.0}, "refractory_s must be from 0 to a day of seconds, got -1.0"),
        ({"min_duration_s": 1e300}, "min_duration_s must be from 0 to a day"),
        ({"pulse_s": float("nan")}, "pulse_s must be from 0 to a day"),
        ({"max_on_s": float("inf")}, "max_on_s must be above 0, 86400 at most, got inf"),
        ({"pulse_s": 10.0}, "pulse_s 10.0 is longer than max_on_s 5.0"),
        ({"grace_s": 61.0}, "grace_s must be above 0, 60 at most"),
        ({"window_s": 3601.0}, "window_s must be above 0, 3600 at most"),
        ({"max_events": 2**31}, "max_events must be from 0 to 2147483647"),
        ({"max_duty": 1.5}, "max_duty is a share"),
        ({"train_hz": 1e-300}, "train_hz must be 0 or from 0.001 to 1000"),
        ({"train_hz": 2000.0}, "train_hz must be 0 or from 0.001 to 1000"),
        ({"train_hz": 10.0, "train_width_s": 1e-7}, "train_width_s must be from 0.0001"),
        ({"train_hz": 10.0, "train_width_s": 0.1}, "pulses must be shorter than its period"),
        # As microseconds they are the same.
        ({"train_hz": 750.0, "train_width_s": 0.0013333}, "pulses must be shorter than its period"),
        ({"streams": ()}, "streams must name one or more"),
        ({"never_on": ("tired",)}, "unknown flag tired"),
    ],
)
def test_what_a_trigger_cannot_be(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(SettingError, match=reason):
        TriggerSettings(**({"conditions": ATTACK} | changes))


@pytest.mark.parametrize(
    ("shares", "reason"),
    [
        ({}, "one must be positive"),
        ({"real": 0.0}, "one must be positive"),
        ({"real": -1.0, "sham": 2.0}, "must be finite and not negative"),
        ({"real": 1.0, "sham": float("nan")}, "must be finite and not negative"),
        # Their sum is not finite, and no draw would lie between them.
        ({"real": 1e308, "sham": 1e308}, "must be finite and not negative"),
        ({"Real": 0.5, "sham": 0.5}, "a control cannot be named 'Real'"),
        # Who reads the log takes an arm of this name for one that reached the animal.
        ({"real": 0.5, "yoked": 0.5}, "a control cannot be named 'yoked'"),
        ({"real": 0.5, " ": 0.5}, "an arm needs a name"),
        ({f"arm{i}": 1.0 for i in range(101)}, "100 arms at most, got 101"),
    ],
)
def test_what_arms_cannot_be(shares: dict[str, float], reason: str) -> None:
    with pytest.raises(SettingError, match=reason):
        ArmSettings(shares)


def test_a_yoked_pulse_is_as_long_as_its_log_says() -> None:
    arms = ArmSettings(yoked="log.csv", yoked_events=((3, 4),))
    assert TriggerSettings(max_on_s=0.2, arms=arms).max_on_s < TriggerSettings(ATTACK).pulse_s
    with pytest.raises(SettingError, match=r"yoked_events must be pairs"):
        ArmSettings(yoked="log.csv", yoked_events=((3, 2**63),))


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (("",), "expected 1 to 100 bytes"),
        (("a/b",), "without slashes and control characters"),
        (("a\0b",), "without slashes and control characters"),
        (("n" * 101,), "expected 1 to 100 bytes"),
        (("Attack", "attack"), "'Attack' and 'attack' differ in case or blanks alone"),
        (("attack", "attack "), "differ in case or blanks alone"),
    ],
)
def test_what_triggers_and_sinks_cannot_be_called(names: tuple[str, ...], reason: str) -> None:
    with pytest.raises(SettingError, match=reason):
        TriggerFile(dict.fromkeys(names, TriggerSettings(ATTACK)))
    with pytest.raises(SettingError, match=reason):
        TriggerFile(
            {"\N{GREEK SMALL LETTER MU} 1": TriggerSettings(ATTACK)}, dict.fromkeys(names, SinkSettings(kind="x"))
        )


def test_a_stream_is_named_as_it_is_or_by_a_pattern() -> None:
    chosen = TriggerSettings(ATTACK, streams=("cage[1]", "box*"))
    assert [name for name in ("cage[1]", "cage1", "cage2", "box", "box 7", "Box") if chosen.applies_to(name)] == [
        *("cage[1]", "cage1", "box", "box 7"),
    ]


def test_an_error_names_file_section_and_key(tmp_path: Path) -> None:
    path = tmp_path / "attack.toml"
    path.write_text("\ufeff" + TRIGGER.replace("\n", "\r\n") + "grace_s = 0.0\r\n", encoding="utf-8")
    with pytest.raises(SettingError) as refusal:
        load_settings(path, TriggerFile)
    assert str(refusal.value) == f"{path}: triggers.attack: grace_s must be above 0, 60 at most, got 0.0"
    path.write_text(TRIGGER + '[sinks.laser]\nkind = "serial"\nport = ""\n', encoding="utf-8")
    with pytest.raises(SettingError, match=r"attack\.toml: sinks\.laser: port must name a serial device"):
        load_settings(path, TriggerFile)


numbers = st.one_of(
    st.floats(),
    st.integers(-(10**30), 10**30).map(str),
    st.sampled_from([0.0, 1.0, 0.5, 1e300, 1e-300, "true", '"x"', "[]", "{}", "9" * 400, "9" * 5000, "[" * 3000]),
)


@given(
    key=st.sampled_from(
        [
            *(
                "on",
                "off",
                "min_duration_s",
                "refractory_s",
                "pulse_s",
                "max_on_s",
                "grace_s",
                "max_events",
                "max_duty",
            ),
            *("window_s", "train_hz", "train_width_s", "max_missing", "line", "streams", "sinks", "arms", "never_on"),
            *("arms.seed", "arms.block_s", "arms.block_events", "arms.shares.real", "arms.assign", "arms.yoked_events"),
        ]
    ),
    value=numbers,
)
@settings(max_examples=40, deadline=None)
def test_any_value_is_refused_or_can_be_served(
    tmp_path_factory: pytest.TempPathFactory, key: str, value: float | str
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_text(f"{TRIGGER}{key} = {value}\n", encoding="utf-8")
    try:
        file = load_settings(path, TriggerFile)
    except SettingError as error:
        refusal = str(error)
        assert refusal.startswith(f"{path}: ")
        return
    TriggerRule(file.triggers, HEADS, 30.0, 1, 4).open_slot(0, "cage1")
