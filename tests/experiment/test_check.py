"""A check of sinks: what is driven, what is measured, and what is told where it is not as it should be."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from rtseg.bundle.bundle import load_bundle
from rtseg.cli.app import app
from rtseg.config import ConditionSettings, TriggerFile, TriggerSettings, ZmqSinkSettings
from rtseg.errors import SettingError
from rtseg.experiment.check import (
    CAMERA_STOPS,
    DAEMON_HANGS,
    ON_FRAMES,
    WAYS,
    Checked,
    SinkCheck,
    _keep_worst,
    check_sinks,
    checked_lines,
)
from rtseg.experiment.check_page import check_page_of, lateness, off_rows
from rtseg.system.capabilities import why_no_sinks
from tests.commands import here
from tests.conftest import REPO
from tests.experiment.test_summary_page import checked as checked_page

BUNDLE = REPO / "engines" / "mice-sim"
ATTACK = TriggerSettings((ConditionSettings("task1", ("attack",)),), sinks=("net",), grace_s=1.0, max_duty=0.1)
FILE = TriggerFile(
    {"attack": ATTACK, "recorded only": replace(ATTACK, sinks=())},
    {"net": ZmqSinkSettings(kind="zmq", address="tcp://127.0.0.1:*")},
)


def test_lines_are_driven_at_given_frames_without_limits() -> None:
    file = replace(FILE, triggers={**FILE.triggers, "attack": replace(ATTACK, train_hz=20.0)})
    lines = checked_lines(file, load_bundle(BUNDLE), 3)
    assert list(lines.triggers) == ["attack"]
    trigger = lines.triggers["attack"]
    assert (trigger.sinks, trigger.train_hz, trigger.grace_s) == (("net",), 20.0, 1.0)
    assert (trigger.max_duty, trigger.never_on, trigger.conditions) == (1.0, (), ())
    assert [frames for _, frames in trigger.arms.yoked_events] == [ON_FRAMES] * 3 + [1800] * 2


def test_a_file_without_sinks_has_nothing_to_check() -> None:
    with pytest.raises(SettingError, match="no trigger of the file names sinks"):
        checked_lines(TriggerFile({"a": replace(ATTACK, sinks=())}), load_bundle(BUNDLE), 3)


@pytest.mark.skipif(bool(why_no_sinks()), reason=why_no_sinks() or "-")
def test_a_real_sink_is_measured_and_lets_go_by_itself() -> None:
    found = check_sinks(FILE, str(BUNDLE), load_bundle(BUNDLE), 3)
    (sink,) = found.sinks
    assert (sink.name, sink.kind, sink.lines, sink.unanswered) == ("net", "zmq", ("attack",), 0)
    assert len(sink.ways_ms["frame sent to line on"]) == 5
    assert all(sent > 0 for sent in sink.ways_ms["frame sent to line on"])
    assert sum(found.outcomes.values()) == 3
    # The lease is what a line stays on for; how punctual this machine is does not belong into a test.
    lease_ms = 1000 / 30 + 1000
    assert found.lease_ms == pytest.approx(lease_ms)
    assert set(sink.off_after_ms) == {CAMERA_STOPS, DAEMON_HANGS}
    assert all(after_ms > lease_ms - 50 for after_ms in sink.off_after_ms.values())
    # Nobody listens there, and nothing says so.
    assert not sink.acknowledges
    assert found.notes[0].startswith("sink net acknowledges nothing")
    assert found.verdict == "everything was as it should be, as far as the sinks tell"
    assert found.notes[0][1:] in " ".join(checked_page(check_page_of(found, {}, "")).text)


def test_each_line_is_judged_by_its_own_lease() -> None:
    """One that lets go within another trigger's long grace, and not within its own, is not in time."""
    sink = SinkCheck("box", "serial", ("short", "long"))
    for after_ms, lease_ms in ((300.0, 1033.3), (300.0, 35.3), (1000.0, 1033.3)):
        _keep_worst(sink, CAMERA_STOPS, after_ms, lease_ms)
    assert (sink.off_after_ms, sink.leases_ms) == ({CAMERA_STOPS: 300.0}, {CAMERA_STOPS: 35.3})
    found = Checked((sink,), 30.0, 35.3, Counter(), [])
    assert found.problems == ["sink box, the camera stops: off after 300.0 ms; the lease is 35.3 ms"]
    _keep_worst(sink, CAMERA_STOPS, float("nan"), 1033.3)
    _keep_worst(sink, CAMERA_STOPS, 2000.0, 35.3)
    assert np.isnan(sink.off_after_ms[CAMERA_STOPS])


def result(*, off_ms: float = 35.0, unanswered: int = 0, ended: str = "pulse over") -> Checked:
    ways = {way: [1.0, 2.0, 3.0] for way in WAYS}
    sink = SinkCheck("<box>", "serial", ("a & b",), ways, unanswered, {CAMERA_STOPS: off_ms})
    return Checked((sink,), 30.0, 36.3, Counter({ended: 3}), [0.1, 0.2, 5.0])


@pytest.mark.parametrize(
    ("checked", "words"),
    [
        (result(off_ms=41.4), "<box>, the camera stops: off after 41.4 ms"),
        (result(off_ms=float("nan")), "nobody told of its end"),
        (result(unanswered=2), "2 events were never acknowledged"),
        (result(ended="sink timeout"), "3 events ended as 'sink timeout'"),
    ],
)
def test_what_is_not_as_it_should_be_is_told(checked: Checked, words: str) -> None:
    (problem,) = checked.problems
    assert words in problem
    assert "Everything was" not in " ".join(checked_page(check_page_of(checked, {}, "")).text)


def test_the_page_is_whole() -> None:
    page = checked_page(check_page_of(result(), {"when": "today", "rtseg": "0"}, "[triggers.a] # <b>"))
    text = " ".join(page.text)
    for words in ("Everything was as it should be.", "<box>", "a & b", "36.3", "[triggers.a] # <b>"):
        assert words in text
    assert off_rows(result())[0][2:] == ["35.0", "36.3", "yes"]
    assert off_rows(result(off_ms=np.nan))[0][2:] == ["not known", "36.3", "NO"]
    assert "up to 5.0 ms later" in lateness(result())
    assert "ends as stale" in lateness(result())


def test_nothing_goes_on_before_somebody_says_yes(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    text = (REPO / "engines" / "demo-triggers.toml").read_text(encoding="utf-8")
    done = here("trigger", "check", REPO / "engines" / "demo-triggers.toml", BUNDLE)
    assert done.returncode == 1
    assert done.stderr == "rtseg: no trigger of the file names sinks; there is no line to check\n"
    sinks = '\nsinks = ["net"]\n[sinks.net]\nkind = "zmq"\naddress = "tcp://127.0.0.1:*"\n'
    path.write_text(text.strip() + sinks, encoding="utf-8")
    asked = CliRunner().invoke(app, ["trigger", "check", str(path), str(BUNDLE), "--events", "7"], input="n\n")
    assert asked.exit_code == 1
    assert "lines of near really go on, 7 times and more. Is no animal connected?" in asked.output
    assert not list(tmp_path.glob("*.html"))
