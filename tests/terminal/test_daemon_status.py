"""A daemon's status on the terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from rtseg.terminal.daemon_status import arming_line, print_status
from tests.commands import here
from tests.live import HELLO, Child, Raw, daemon, frame_of, random_walk


@pytest.fixture(scope="module")
def child(tiny_bundle: Path) -> Iterator[Child]:
    with daemon(tiny_bundle) as child:
        yield child


def test_status_as_a_user_asks_for_it(child: Child) -> None:
    with Raw(child.frames) as raw:
        assert raw.ask(HELLO | {"stream": "shown"})["type"] == "accepted"
        for t in range(3):
            raw.send(frame_of(random_walk(3, 1), t, stream="shown"))
        done = here("status", child.frames)
        assert (done.returncode, done.stderr) == (0, "")
        assert f"{child.frames}: up 0 min" in done.stdout
        assert "Streams, " in done.stdout
        assert " of 16 " in done.stdout
        assert [w for line in done.stdout.splitlines() if "shown" in line for w in line.split()][2] == "3"
        assert "declared" not in done.stdout
        plain = json.loads(here("status", child.frames, "--json").stdout)
        assert plain["streams"]["shown"]["frames"] == 3
        assert plain["models"]["shown"] == child.about["model"]
        assert raw.ask({"v": 1, "type": "bye", "stream": "shown"})["type"] == "goodbye"
    gone = here("status", "tcp://127.0.0.1:1", "--timeout", "0.2")
    assert gone.returncode == 3
    assert "no daemon at tcp://127.0.0.1:1 within 0.2 s: start `rtseg serve BUNDLE` first" in gone.stderr


def test_a_wrong_rate_and_a_frozen_tracker_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    rates = {"a": {"declared": 30, "measured": 59.97, "by": "source", "wrong": True}, "b": {"wrong": False}}
    status = {"uptime_s": 1, "engine": "numba", "model": "m", "fps": 30, "latency": {}, "streams": {}, "capacity": 4}
    print_status("here", status | {"counters": {}, "rates": rates, "frozen": ["c"]})
    shown = capsys.readouterr().out
    assert "a: 59.97 frames/s by t_source_ns, 30 declared\n" in shown
    assert "c: the tracker repeats one frame\n" in shown
    assert "b:" not in shown


def test_cages_whose_names_begin_alike_can_be_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    counters = {"frames": 123456789, "refused": 1, "late": 2, "gaps": 3, "restarts": 4, "out_of_range": 5}
    names = [f"a long name of the cage in room {i}" for i in (1, 2)]
    status = {"uptime_s": 1, "engine": "numba", "model": "m" * 64, "fps": 30, "latency": {}, "capacity": 4}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "80")
        print_status("here", status | {"counters": {}, "streams": dict.fromkeys(names, counters)})
    lines = capsys.readouterr().out.splitlines()
    words = " ".join(line.split("mmmmmmmm")[0].strip() for line in lines)
    assert all(name in words for name in names)
    assert sum("123456789" in line and line.split()[-1] == "5" for line in lines) == 2
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    ("armed", "left_s", "to_come", "line"),
    [
        ([], {}, False, "disarmed"),
        (["cage1", "cage2"], {"cage2": 9.5}, False, "ARMED: cage1, cage2 (9.5 s left)"),
        ([], {"": 600.0}, True, "ARMED: every new stream (600 s left)"),
    ],
)
def test_who_is_armed_in_one_line(armed: list[str], left_s: dict[str, float], to_come: bool, line: str) -> None:
    assert arming_line({"armed": armed, "left_s": left_s, "all": to_come}) == line
