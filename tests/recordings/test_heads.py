"""From label tracks to heads: renaming, masking, and what one head implies for another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rtseg.errors import RecordingError, SettingError
from rtseg.recordings.bouts import Bout
from rtseg.recordings.heads import Head, HeadRule, Implied, apply_rules, check_rules, spelt_alike
from rtseg.recordings.labels.label_file import NumberedBout, Track, Tracks, Video, paint
from rtseg.recordings.recording import IGNORE

S1 = HeadRule(Head("S1", ("social", "fight"), ("social", "fight"), "S1"), ignore=("base",))
S2 = HeadRule(
    Head("S2", ("other", "bite"), ("bite",), "S2"),
    rename={"base": "other"},
    missing_ok=True,
    implied=Implied("S1", "other", ("social",)),
    mask_where_ignored="S1",
)
NAMES = ("base", "social", "fight", "bite")


def track(name: str, *labels: str) -> Track:
    """A track from a behaviour's name per frame; '' = no label, 'a+b' = two at once."""
    bouts = [
        NumberedBout(Bout(t, t + 1, NAMES.index(n)), 1) for t, names in enumerate(labels) for n in names.split("+") if n
    ]
    return paint(Path("a.txt"), name, NAMES, bouts, Video(len(labels), 30))


def frames(rules: tuple[HeadRule, ...], *tracks: Track) -> dict[str, list[int]]:
    labels = apply_rules(rules, {t.track: t for t in tracks}, len(tracks[0].frames), "a.txt")
    assert all(
        one.frames.dtype == np.int16 and one.classes == r.head.classes
        for r, one in zip(rules, labels.values(), strict=True)
    )
    return {name: one.frames.tolist() for name, one in labels.items()}


def test_rats58s_rules_on_a_file_with_both_tracks() -> None:
    first = track("S1", "base", "social", "fight", "fight", "base")
    second = track("S2", "bite", "base", "bite", "base", "base")
    assert frames((S1, S2), first, second) == {"S1": [IGNORE, 0, 1, 1, IGNORE], "S2": [IGNORE, 0, 1, 0, IGNORE]}


def test_rats58s_rules_on_a_file_without_s2() -> None:
    first = track("S1", "base", "social", "fight", "", "social")
    assert frames((S1, S2), first) == {"S1": [IGNORE, 0, 1, IGNORE, 0], "S2": [IGNORE, 0, IGNORE, IGNORE, 0]}


def test_unlabelled_frames_get_a_class_but_contradictions_stay_masked() -> None:
    rule = HeadRule(
        Head("S2", ("other", "bite"), ("bite",), "S2"), unlabelled="other", rename={"base": "other"}, missing_ok=True
    )
    assert frames((rule,), track("S2", "bite", "", "bite+base")) == {"S2": [1, 0, IGNORE]}
    assert frames((rule,), track("S9", "", "", "")) == {"S2": [IGNORE, IGNORE, IGNORE]}


def test_a_missing_track_and_an_unknown_behaviour_are_errors() -> None:
    with pytest.raises(RecordingError, match=r"head 'S1' needs the track 'S1'; the file has: S9"):
        frames((S1,), track("S9", "base"))
    with pytest.raises(
        RecordingError, match=r"track 'S1', frame 2 \(from 0\): behaviour 'bite' is no class of head 'S1'"
    ):
        frames((S1,), track("S1", "base", "social", "bite"))


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ((HeadRule(Head("a", ("x",), ("x",), "a")),), "heads.a.classes needs two or more"),
        ((HeadRule(Head("a", ("x", "x"), ("x",), "a")),), "heads.a.classes needs two or more"),
        ((HeadRule(Head("a", ("x", "y"), ("z",), "a")),), "heads.a.scored: 'z' is none of x, y"),
        ((HeadRule(Head("a", ("x", "y"), ("x",), "a"), rename={"q": "z"}),), "heads.a.rename: 'z'"),
        ((HeadRule(Head("a", ("x", "y"), ("x",), "a"), ignore=("y",)),), "y cannot be both masked and a class"),
        ((HeadRule(Head("a", ("x", "y"), ("x",), "a"), unlabelled="z"),), "heads.a.unlabelled: 'z'"),
        ((S2, S1), "heads.S2.mask_where_ignored: 'S1' is none of (nothing)"),
        ((S1, HeadRule(S2.head, implied=Implied("S1", "other", ("bite",)))), "heads.S2.implied.when: 'bite'"),
        ((S1, HeadRule(S2.head, implied=Implied("S1", "social", ("fight",)))), "heads.S2.implied.label: 'social'"),
        ((S1, HeadRule(S2.head, implied=Implied("S3", "other", ("fight",)))), "heads.S2.implied.from: 'S3'"),
    ],
)
def test_rules_that_cannot_be_meant(rules: tuple[HeadRule, ...], words: str) -> None:
    with pytest.raises(SettingError) as error:
        check_rules(rules)
    assert words in str(error.value)


def test_a_track_that_a_file_spells_otherwise_is_no_track_without_events() -> None:
    """One video of forty with 'Adult' would be a video in which nothing ever happened."""
    rule = HeadRule(Head("act", ("other", "bite"), ("bite",), "act"), track="adult:bite", unlabelled="other")
    tracks = Tracks([("Adult: Bite", track("Adult: Bite", "bite", ""))], lists_events=True)
    with pytest.raises(
        RecordingError, match=r"spells it 'Adult: Bite'; say tracks = \{ \"Adult: Bite\" = \"adult:bite\""
    ):
        apply_rules((rule,), tracks, 2, "a.csv")
    assert not spelt_alike("-1", "1")


def test_a_track_beside_one_that_is_spelt_alike_is_refused() -> None:
    """An observer's 'Sniff' beside 'sniff': half of the behaviour would be frames in which it did not happen."""
    rule = HeadRule(Head("S1", ("other", "bite"), ("bite",), "S1"), track="A:bite", unlabelled="other")
    both = (track("A:bite", "bite", "", ""), track("A:Bite", "", "bite", ""))
    with pytest.raises(
        RecordingError, match="has the tracks 'A:bite' and 'A:Bite', of which head 'S1' needs the first"
    ):
        frames((rule,), *both)
    other = HeadRule(Head("S2", ("other", "bite"), ("bite",), "S2"), track="A:Bite", unlabelled="other")
    assert frames((rule, other), *both) == {"S1": [1, 0, 0], "S2": [0, 1, 0]}


def test_letters_in_either_form_and_blanks_of_any_width_are_alike() -> None:
    assert spelt_alike("schn\u00fcffeln", "schnu\u0308ffeln")
    assert spelt_alike("rear\u00a0up", "rear up")
    assert not spelt_alike("-1", "1")
