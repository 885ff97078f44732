"""The page of a session: whole, without any address, and safe with any names."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

from rtseg.experiment.summary import Camera, Pulse, Summary
from rtseg.experiment.summary_page import MOST_EVENTS, page_of
from rtseg.experiment.timeline import timeline_svg
from rtseg.triggers.events import TriggerEvent

ABOUT: dict[str, Any] = {
    "metadata": {"subject": "<script>m</script>", "session": "day & night", "operator": "x"},
    "mode": "dry run",
    "started": "2026-11-30T14:05:09",
    "ended": "2026-11-30T14:15:09",
    "reason": "stopped by the operator",
    "problems": ["camera a: no frame for two intervals"] * 3,
    "bundle": {"name": "mice", "folder": "f", "hash": "abc"},
    "versions": {"rtseg": "0"},
}


class Checker(HTMLParser):
    """Tags that are opened and closed in order; attributes that lead somewhere else."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [name for name, _ in attrs if name in ("src", "href", "srcset", "onclick", "onload")]
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def pulse(
    start_s: float, stop_s: float | None, decision: str = "fired", arm: str = "real", *, is_sent: bool = False
) -> Pulse:
    event = TriggerEvent("a<b", "laser & led", 10, decision, arm, None if stop_s is None else 19, "pulse over")
    return Pulse(event, start_s, stop_s, is_sent, {"frame received to decision": start_s})


def summary(*pulses: Pulse) -> Summary:
    cameras = {"a<b": Camera("a<b", 30.0, 900, 900, 0.0, 30.0)}
    return Summary(cameras, pulses, ("laser & led",), 30.0, ("f.mcap: cut",))


def checked(page: str) -> Checker:
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    assert checker.addresses == []
    assert "script" not in checker.tags
    return checker


def test_the_page_is_whole_and_says_what_happened() -> None:
    found = summary(pulse(1.0, 2.0), pulse(3.0, 4.5, arm="sham"), pulse(5.0, None, "refractory"))
    checker = checked(page_of(ABOUT, found, '[triggers."laser & led"]\non = 0.7 # <b>'))
    text = " ".join(checker.text)
    for words in ("<script>m</script>, day & night", "nothing was sent to any device", "(3 times)", "f.mcap: cut"):
        assert words in text
    for words in ("1 real, 1 sham", "1 refractory", "3.3%", "on = 0.7 # <b>", "stopped by the operator"):
        assert words in text
    assert checker.tags.count("rect") == 2


def test_an_armed_session_says_on_of_what_was_sent_alone() -> None:
    """A trigger without sinks decides beside one that has some; what nobody acknowledges may not have arrived."""
    about = {**ABOUT, "mode": "armed", "sinks": {"quiet": {"acknowledges": False}, "board": {"acknowledges": True}}}
    both = summary(pulse(1.0, 2.0, is_sent=True), pulse(3.0, 4.5))
    page = page_of(about, both, "")
    text = " ".join(checked(page).text)
    for words in ("2 real; of these 1 sent to no sink", "line would have been on (no sink)", "3.3%"):
        assert words in text
    assert "quiet: acknowledges nothing, so its times end where an event was handed over" in text
    assert (page.count('class="real"'), page.count('class="dry"')) == (1, 1)
    assert "no sink" not in page_of(about, summary(pulse(1.0, 2.0, is_sent=True)), "")


def test_a_session_that_was_not_ended_says_so_and_an_empty_one_is_a_page_too() -> None:
    text = " ".join(checked(page_of({**ABOUT, "ended": None, "problems": []}, Summary({}, (), (), 0.0, ()), "")).text)
    assert "not ended in order" in text
    assert "No camera sent anything" in text


def test_a_long_session_lists_its_first_events() -> None:
    many = [pulse(i / 100, i / 100 + 0.005) for i in range(MOST_EVENTS + 7)]
    text = " ".join(checked(page_of(ABOUT, summary(*many), "")).text)
    assert "7 more stand in triggers.csv" in text


def test_a_picture_without_events_says_so() -> None:
    assert ">no events</text>" in timeline_svg(summary())
    assert "no events" not in timeline_svg(summary(pulse(0.0, 15.0)))


def test_marks_stand_where_they_happened() -> None:
    armed = timeline_svg(summary(pulse(0.0, 15.0, is_sent=True), pulse(15.0, 30.0, arm="sham")))
    assert 'x="190.0" y="12" width="370.0" height="18" class="real"' in armed
    assert 'x="560.0" y="12" width="370.0" height="18" class="control"' in armed
