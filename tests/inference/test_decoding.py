"""The decoding rule: cases written out, anything against the naive version, no future frame, streams, snapshots."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rtseg.config import DecodingSettings
from rtseg.inference.decoding import Decoder, DecoderState
from tests import naive


def run(
    decoder: Decoder, probs: NDArray[np.float32], state: DecoderState | None = None, slot: int = 0
) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
    """Labels (T, H) and events (T, H) of one stream, frame after frame."""
    state = state or decoder.init_state(slot + 1)
    labels = np.full((len(probs), decoder.n_heads), -7, np.int16)
    events = np.zeros((len(probs), decoder.n_heads), np.bool_)
    for t in range(len(probs)):
        decoder.step(probs[t : t + 1], np.array([slot], np.int32), state, labels[t : t + 1], events[t : t + 1])
    return labels, events


def decode(leaders: str, lead: float = 0.6, **rule: float) -> str:
    """Labels as a string: each frame of `leaders` gives `lead` to its class and shares the rest among the others."""
    probs = np.full((len(leaders), 3), (1 - lead) / 2, np.float32)
    for t, who in enumerate(leaders):
        probs[t, "abc".index(who)] = lead
    labels, events = run(Decoder((0, 3), DecodingSettings(**rule)), probs)  # type: ignore[arg-type]
    text = "".join("abc"[label] for label in labels[:, 0])
    # An event is exactly where the label differs from the one before, and the first frame.
    assert events[:, 0].tolist() == [t == 0 or text[t] != text[t - 1] for t in range(len(text))]
    return text


@pytest.mark.parametrize(
    ("min_bout", "leaders", "expected"),
    [
        (1, "aabacca", "aabacca"),
        (2, "aabacca", "aaaaacc"),
        (3, "abbbbaaab", "aaabbbbaa"),
        (3, "abbcbbb", "aaaaaab"),
        (3, "abbabbb", "aaaaaab"),
        (2, "abcbcc", "aaaaac"),
        (5, "abbbb", "aaaaa"),
        (2, "baa", "bba"),
    ],
)
def test_a_bout_begins_when_its_label_has_led_long_enough(min_bout: int, leaders: str, expected: str) -> None:
    assert decode(leaders, min_bout_frames=min_bout) == expected


@pytest.mark.parametrize(
    ("merge_gap", "leaders", "expected"),
    [
        (0, "aabaa", "aabaa"),
        (1, "aabaa", "aaaaa"),
        (1, "aabbaa", "aaabba"),
        (2, "aabbaa", "aaaaaa"),
        (2, "aabcaa", "aaaaaa"),
        (2, "aabcbaa", "aaaabbb"),
        (3, "abbbb", "aaaab"),
    ],
)
def test_a_short_interruption_is_part_of_its_bout(merge_gap: int, leaders: str, expected: str) -> None:
    assert decode(leaders, merge_gap_frames=merge_gap) == expected


def test_minimum_bout_and_merge_gap_together() -> None:
    # b leads from frame 1; c interrupts it, so b's lead begins anew at frame 4 while a has been gone since frame 1.
    assert decode("abbcbbbbb", min_bout_frames=3, merge_gap_frames=4) == "aaaaaabbb"
    assert decode("abbbbbbbb", min_bout_frames=3, merge_gap_frames=4) == "aaaaabbbb"
    assert decode("abbbbbbbb", min_bout_frames=6, merge_gap_frames=4) == "aaaaaabbb"


def test_the_margin_is_what_a_better_label_must_lead_by() -> None:
    rows = [(0.6, 0.4), (0.45, 0.55), (0.4, 0.6), (0.45, 0.55), (0.55, 0.45), (0.61, 0.39)]
    probs = np.array(rows, np.float32)
    for margin, expected in ((0.0, [0, 1, 1, 1, 0, 0]), (0.15, [0, 0, 1, 1, 1, 0]), (0.3, [0] * 6)):
        labels, _ = run(Decoder((0, 2), DecodingSettings(margin=margin)), probs)
        assert labels[:, 0].tolist() == expected


def test_a_frame_within_the_margin_interrupts_a_lead() -> None:
    probs = np.array([(0.9, 0.1), (0.3, 0.7), (0.49, 0.51), (0.3, 0.7), (0.3, 0.7)], np.float32)
    labels, _ = run(Decoder((0, 2), DecodingSettings(margin=0.1, min_bout_frames=2)), probs)
    assert labels[:, 0].tolist() == [0, 0, 0, 0, 1]


def test_a_new_bout_is_left_for_a_wider_margin_until_it_has_settled() -> None:
    # Every leader leads by 0.4. After b has come, it takes 0.45, 0.3, 0.15 more to leave it.
    leaders = "ab" + "a" * 6
    assert decode(leaders) == leaders
    assert decode(leaders, settle_margin=0.6, settle_frames=4) == "abbaaaaa"
    assert decode(leaders, settle_margin=0.66, settle_frames=12) == "abbbbbaa"
    assert decode(leaders, margin=0.3, settle_margin=0.6, settle_frames=4) == "abbbbaaa"


def test_the_first_bout_has_settled() -> None:
    assert decode("abab", settle_margin=1.0, settle_frames=100) == "abbb"


def test_the_first_frame_gets_its_best_label_at_once() -> None:
    labels, events = run(Decoder((0, 3), DecodingSettings(0.5, 100, 100)), np.array([[0.2, 0.5, 0.3]], np.float32))
    assert (labels.tolist(), events.tolist()) == ([[1]], [[True]])


rules = st.builds(
    DecodingSettings,
    margin=st.sampled_from([0.0, 0.1, 0.25, 0.5]),
    min_bout_frames=st.integers(1, 6),
    merge_gap_frames=st.integers(0, 6),
    settle_margin=st.sampled_from([0.0, 0.25, 0.4]),
    settle_frames=st.integers(0, 12),
)


@st.composite
def tables(draw: st.DrawFn) -> tuple[tuple[int, ...], NDArray[np.float32]]:
    """Offsets of one to three heads, and probabilities (T, P)."""
    sizes = draw(st.lists(st.integers(2, 4), min_size=1, max_size=3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_frames = draw(st.integers(1, 50))
    if draw(st.booleans()):
        # Quarters make ties and exact margins common.
        probs = rng.integers(0, 5, (n_frames, sum(sizes))) / 4
    else:
        probs = rng.random((n_frames, sum(sizes)))
    return (0, *np.cumsum(sizes).tolist()), probs.astype(np.float32)


@settings(max_examples=300, deadline=None)
@given(table=tables(), rule=rules)
def test_any_probabilities_are_decoded_as_the_naive_version_does(
    table: tuple[tuple[int, ...], NDArray[np.float32]], rule: DecodingSettings
) -> None:
    offsets, probs = table
    labels, events = run(Decoder(offsets, rule), probs)
    for head, (lo, hi) in enumerate(pairwise(offsets)):
        expected = naive.decode(
            probs[:, lo:hi],
            rule.margin,
            rule.min_bout_frames,
            rule.merge_gap_frames,
            rule.settle_margin,
            rule.settle_frames,
        )
        assert (labels[:, head].tolist(), events[:, head].tolist()) == expected


@settings(max_examples=60, deadline=None)
@given(table=tables())
def test_with_nothing_set_it_is_the_best_class(table: tuple[tuple[int, ...], NDArray[np.float32]]) -> None:
    offsets, probs = table
    labels, _ = run(Decoder(offsets, DecodingSettings()), probs)
    for head, (lo, hi) in enumerate(pairwise(offsets)):
        assert labels[:, head].tolist() == probs[:, lo:hi].argmax(1).tolist()


@settings(max_examples=60, deadline=None)
@given(table=tables(), rule=rules, cut=st.integers(0, 50), seed=st.integers(0, 99))
def test_what_was_published_stays(
    table: tuple[tuple[int, ...], NDArray[np.float32]], rule: DecodingSettings, cut: int, seed: int
) -> None:
    offsets, probs = table
    changed = probs.copy()
    changed[cut:] = np.random.default_rng(seed).random(changed[cut:].shape)
    for before, after in zip(run(Decoder(offsets, rule), probs), run(Decoder(offsets, rule), changed), strict=True):
        assert before[:cut].tobytes() == after[:cut].tobytes()


@settings(max_examples=60, deadline=None)
@given(table=tables(), rule=rules, cut=st.integers(0, 50))
def test_a_state_goes_on_in_another_slot(
    table: tuple[tuple[int, ...], NDArray[np.float32]], rule: DecodingSettings, cut: int
) -> None:
    offsets, probs = table
    decoder = Decoder(offsets, rule)
    whole = run(decoder, probs)
    here, there = decoder.init_state(1), decoder.init_state(3)
    first = run(decoder, probs[:cut], here)
    run(decoder, probs[::-1], there, 2)
    for part, kept in zip(there, here, strict=True):
        part[2] = kept[0]
    second = run(decoder, probs[cut:], there, 2)
    for both, one, two in zip(whole, first, second, strict=True):
        assert both.tobytes() == np.concatenate((one, two)).tobytes()


def test_streams_in_one_batch_do_not_disturb_each_other_and_a_reset_is_a_fresh_start() -> None:
    rng = np.random.default_rng(3)
    rule, offsets = DecodingSettings(0.1, 2, 1, 0.2, 5), (0, 3, 5)
    decoder = Decoder(offsets, rule)
    state = decoder.init_state(4)
    streams = rng.random((3, 40, 5)).astype(np.float32)
    slots = np.array([3, 0, 2, 0], np.int32)  # a stream that comes twice is stepped twice, in order
    given_to: dict[int, list[list[int]]] = {0: [], 2: [], 3: []}
    rows_of = {3: 0, 0: 1, 2: 2}
    at = dict.fromkeys(rows_of, 0)
    for _ in range(20):
        rows = []
        for slot in slots.tolist():
            rows.append(streams[rows_of[slot], at[slot]])
            at[slot] += 1
        labels, events = np.empty((4, 2), np.int16), np.empty((4, 2), np.bool_)
        decoder.step(np.array(rows), slots, state, labels, events)
        for slot, label in zip(slots.tolist(), labels.tolist(), strict=True):
            given_to[slot].append(label)
    for slot, row in rows_of.items():
        alone, _ = run(Decoder(offsets, rule), streams[row, : at[slot]])
        assert given_to[slot] == alone.tolist()
    before = [part[[0, 3]].copy() for part in state]
    decoder.reset(state, 2)
    assert all((part[[0, 3]] == kept).all() for part, kept in zip(state, before, strict=True))
    again, _ = run(decoder, streams[2], state, 2)
    assert again.tobytes() == run(Decoder(offsets, rule), streams[2])[0].tobytes()


def test_probabilities_stay_as_they_are() -> None:
    probs = np.random.default_rng(0).random((20, 4)).astype(np.float32)
    before = probs.copy()
    run(Decoder((0, 4), DecodingSettings(0.1, 2, 2)), probs)
    assert probs.tobytes() == before.tobytes()
