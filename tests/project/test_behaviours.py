"""Heads from tracks, and above all: what a frame without a label means."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rtseg.project.behaviours import (
    ascii_name,
    head_name,
    head_rule,
    is_background,
    propose_unlabelled,
    summarize_tracks,
    tracks_for_heads,
    watched_frames,
)
from rtseg.recordings.open import read_labels
from tests.project.scenes import N_FRAMES, regular_bouts, write_boris, write_bouts


def summaries(*files: Path) -> dict:  # type: ignore[type-arg]
    return summarize_tracks([read_labels(file, N_FRAMES, 30.0) for file in files])


def stretches(n: int, names: tuple[str, ...]) -> list[tuple[int, int, str]]:
    """Labels without a gap between them, over a part of the video."""
    return [(100 + 40 * i, 140 + 40 * i, names[i % len(names)]) for i in range(n)]


def test_one_behaviour_of_a_list_of_events_leaves_negatives(tmp_path: Path) -> None:
    one = summaries(write_boris(tmp_path / "a.csv", regular_bouts()))["adult"]
    proposed = propose_unlabelled(one)
    assert proposed is not None
    assert proposed.negatives
    rule, notes = head_rule(one, "adult", True, 1)
    assert (rule.head.classes, rule.head.scored, rule.unlabelled) == (("other", "sniff"), ("sniff",), "other")
    assert notes == []


@pytest.mark.parametrize("names", [("normal", "chase", "bite"), ("chase", "bite", "display")])
def test_samples_that_were_labelled_leave_no_negatives(tmp_path: Path, names: tuple[str, ...]) -> None:
    one = summaries(write_bouts(tmp_path / "a.csv", stretches(24, names)))["labels"]
    proposed = propose_unlabelled(one)
    assert proposed is not None
    assert not proposed.negatives
    rule, _ = head_rule(one, "labels", False, 1)
    assert rule.unlabelled is None
    assert rule.head.classes == names  # the background is first here as well
    assert rule.head.scored == tuple(name for name in names if name != "normal")


def test_events_of_several_behaviours_leave_negatives(tmp_path: Path) -> None:
    one = summaries(write_boris(tmp_path / "a.csv", regular_bouts(("sniff", "chase"))))["adult"]
    proposed = propose_unlabelled(one)
    assert proposed is not None
    assert proposed.negatives


def test_labels_of_every_frame_leave_nothing_to_ask(tmp_path: Path) -> None:
    rows = [(i * 100, (i + 1) * 100, "abc"[i % 3]) for i in range(18)]
    assert propose_unlabelled(summaries(write_bouts(tmp_path / "a.csv", rows))["labels"]) is None


def test_a_subject_is_one_head_and_behaviours_at_once_are_several(tmp_path: Path) -> None:
    apart = write_boris(tmp_path / "a.csv", regular_bouts(("sniff", "chase")))
    assert tracks_for_heads(summaries(apart)) == ["adult"]
    at_once = write_boris(tmp_path / "b.csv", [*regular_bouts(("sniff",)), *regular_bouts(("chase",))])
    assert sorted(tracks_for_heads(summaries(at_once))) == ["adult:chase", "adult:sniff"]


def test_a_column_that_says_that_nothing_happens_is_no_head(tmp_path: Path) -> None:
    rows = ["frame,background,sniff", *(f"{t},{int(t % 90 > 30)},{int(t % 90 <= 30)}" for t in range(N_FRAMES))]
    path = tmp_path / "a.csv"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    assert tracks_for_heads(summaries(path)) == ["sniff"]


def test_rare_behaviours_are_masked_and_said(tmp_path: Path) -> None:
    bouts = [*regular_bouts(), ("jump", 58.0, 58.5)]
    rule, notes = head_rule(summaries(write_boris(tmp_path / "a.csv", bouts))["adult"], "adult", True, 1)
    assert rule.ignore == ("jump",)
    assert rule.head.classes == ("other", "sniff")
    assert notes[0] == "head adult: 'jump' is labelled in 1 bout, and needs 4 to be learnt and tested: masked"


def test_a_behaviour_of_one_video_alone_cannot_be_tested(tmp_path: Path) -> None:
    one = write_boris(tmp_path / "a.csv", regular_bouts())
    two = write_boris(tmp_path / "b.csv", regular_bouts(("sniff", "chase")))
    rule, notes = head_rule(summaries(one, two)["adult"], "adult", True, 2)
    assert rule.ignore == ("chase",)
    assert "one video only" in notes[0]


def test_an_end_that_nobody_labelled_is_found() -> None:
    frames = np.zeros(9000, np.int16)
    for start in range(100, 3000, 200):
        frames[start : start + 50] = 1
    assert watched_frames(frames, 0) == (0, 2950)
    frames[8000:8100] = 1  # a long pause in the middle says that there may be long pauses
    assert watched_frames(frames, 0) == (0, 9000)
    assert watched_frames(np.zeros(100, np.int16), 0) == (0, 100)


@pytest.mark.parametrize(
    ("track", "taken", "name"),
    [
        ("labels", [], "behaviour"),
        ("No focal subject", [], "behaviour"),
        ("adult:sniff face", [], "sniff_face"),
        ("adult:sniff", ["sniff"], "adult_sniff"),
        ("S1", [], "S1"),
        ("Männchen:kämpft", [], "kampft"),
        ("::", [], "behaviour"),
    ],
)
def test_names_of_heads(track: str, taken: list[str], name: str) -> None:
    assert head_name(track, taken) == name


def test_words_for_nothing() -> None:
    assert all(map(is_background, ("other", "None", "no behaviour", "NORMAL", "back_ground")))
    assert not any(map(is_background, ("normal walking", "sniff", "rest stop")))


@pytest.mark.parametrize(
    ("text", "name"), [("Ångström_1", "Angstrom_1"), ("Gro\u0308ße 2", "Grosse-2"), ("мыши", ""), ("a--b", "a--b")]
)
def test_letters_keep_what_they_are_without_their_marks(text: str, name: str) -> None:
    assert ascii_name(text, "-") == name
