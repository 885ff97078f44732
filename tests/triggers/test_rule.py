"""The trigger rule: what a laboratory relies on, one by one, and the slow version of all of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rtseg.config import QUALITY_FLAGS, ArmSettings, ConditionSettings, TriggerSettings
from rtseg.errors import SettingError
from rtseg.recordings.heads import Head
from rtseg.triggers.arms import arm_names
from rtseg.triggers.plan import trigger_numbers
from rtseg.triggers.rule import ARM, BEGAN, ENDED, ENDED_AT, FIRED, LINE, WITHHELD, TriggerRule
from tests.naive_triggers import Answer, Numbers, decide

HEADS = (
    Head("social", ("other", "attack", "mount"), ("attack", "mount"), "social"),
    Head("posture", ("still", "rear"), ("rear",), "posture"),
)
FPS = 10.0
POINTS = 10
UNSURE = 1 << QUALITY_FLAGS.index("unsure")
ATTACK = (ConditionSettings("social", ("attack",)),)


def trigger(**changes: Any) -> TriggerSettings:
    """A trigger on attack, without limits, that lasts as long as the attack."""
    plain: dict[str, Any] = {"conditions": ATTACK, "refractory_s": 0.0, "pulse_s": 0.0, "max_on_s": 3600.0}
    return TriggerSettings(**(plain | changes))


def probabilities(attack: list[float]) -> NDArray[np.float32]:
    probs = np.zeros((len(attack), 5), np.float32)
    probs[:, 1] = attack
    probs[:, 0] = 1 - probs[:, 1]
    probs[:, 3] = 1
    return probs


def run(
    chosen: TriggerSettings,
    attack: list[float],
    *,
    quality: dict[int, int] | None = None,
    disarmed: tuple[int, ...] = (),
    seq: list[int] | None = None,
    labels: NDArray[np.int16] | None = None,
    probs: NDArray[np.float32] | None = None,
    stream: str = "cage",
    chunk: int | None = None,
    missing: list[int] | None = None,
    camera_fps: float | None = None,
) -> NDArray[np.uint8]:
    """What one trigger decides about frames of one stream: (T, 4)."""
    rule, n = TriggerRule({"laser": chosen}, HEADS, FPS, 3, POINTS), len(attack)
    rule.open_slot(1, stream, camera_fps)
    flags, armed = np.zeros(n, np.int32), np.ones(n, np.bool_)
    for t, flag in (quality or {}).items():
        flags[t] = flag
    armed[list(disarmed)] = False
    probs = probabilities(attack) if probs is None else probs
    labels = np.zeros((n, 2), np.int16) if labels is None else labels
    numbers = np.array(seq or range(n), np.int64)
    absent = np.array(missing or [0] * n, np.int32)
    parts = []
    for start in range(0, n, chunk or n):
        here = slice(start, start + (chunk or n))
        slots = np.full(len(numbers[here]), 1, np.int32)
        parts.append(rule.step(slots, numbers[here], probs[here], labels[here], flags[here], absent[here], armed[here]))
    return np.concatenate(parts)[:, 0]


def on(decided: NDArray[np.uint8]) -> list[int]:
    """Frames with the line on."""
    return np.flatnonzero(decided[:, LINE]).tolist()


def began(decided: NDArray[np.uint8]) -> list[tuple[int, str]]:
    return [(t, WITHHELD[decided[t, BEGAN]]) for t in np.flatnonzero(decided[:, BEGAN]).tolist()]


def ended(decided: NDArray[np.uint8]) -> list[tuple[int, str]]:
    return [(t, ENDED[decided[t, ENDED_AT]]) for t in np.flatnonzero(decided[:, ENDED_AT]).tolist()]


def test_it_goes_on_at_the_upper_threshold_and_off_below_the_lower_one() -> None:
    decided = run(trigger(on=0.75, off=0.5), [0.5, 0.74, 0.75, 0.6, 0.5, 0.49, 0.6, 0.9])
    assert on(decided) == [2, 3, 4, 7]
    assert ended(decided) == [(5, "behaviour over")]


def test_it_waits_for_the_minimum_duration() -> None:
    decided = run(trigger(min_duration_s=0.3), [0.9, 0.9, 0.1, 0.9, 0.9, 0.9, 0.9, 0.1])
    assert on(decided) == [5, 6]


def test_a_pulse_is_as_long_as_it_says_and_a_bout_gets_one() -> None:
    decided = run(trigger(pulse_s=0.2), [0.9] * 6 + [0.1] + [0.9])
    assert on(decided) == [0, 1, 7]
    assert ended(decided) == [(2, "pulse over")]


def test_an_event_in_the_refractory_time_is_withheld_and_not_made_up_for() -> None:
    decided = run(trigger(pulse_s=0.1, refractory_s=0.4), [0.9, 0.1, 0.9, 0.9, 0.9, 0.9, 0.9, 0.1, 0.9])
    assert on(decided) == [0, 8]
    assert began(decided) == [(0, "fired"), (2, "refractory"), (8, "fired")]


def test_a_running_event_ends_with_the_first_flagged_frame_and_does_not_come_back_in_that_bout() -> None:
    decided = run(trigger(), [0.9] * 6 + [0.1, 0.9], quality={2: UNSURE})
    assert on(decided) == [0, 1, 7]
    assert ended(decided) == [(2, "quality")]


def test_a_flag_at_the_beginning_withholds_the_event_once() -> None:
    decided = run(trigger(), [0.9] * 5 + [0.1, 0.9], quality={0: UNSURE, 1: UNSURE})
    assert began(decided) == [(0, "quality"), (6, "fired")]


def test_flags_that_are_not_forbidden_do_not_matter() -> None:
    missing = 1 << QUALITY_FLAGS.index("missing_points")
    assert on(run(trigger(), [0.9] * 3, quality={1: missing})) == [0, 1, 2]


def test_disarmed_nothing_goes_on_and_what_is_on_goes_off() -> None:
    decided = run(trigger(), [0.9] * 4 + [0.1, 0.9, 0.9, 0.1, 0.9], disarmed=(2, 3, 4, 5))
    assert on(decided) == [0, 1, 8]
    assert began(decided) == [(0, "fired"), (5, "disarmed"), (8, "fired")]
    assert ended(decided) == [(2, "disarmed")]


def test_a_gap_ends_what_was_running() -> None:
    decided = run(trigger(), [0.9] * 4, seq=[0, 1, 4, 5])
    assert on(decided) == [0, 1]
    assert ended(decided) == [(2, "gap")]


def test_nothing_is_on_longer_than_the_maximum() -> None:
    decided = run(trigger(max_on_s=0.3), [0.9] * 8)
    assert on(decided) == [0, 1, 2]
    assert ended(decided) == [(3, "max_on")]


def test_no_more_events_than_allowed_in_a_window() -> None:
    decided = run(trigger(pulse_s=0.1, max_events=2, window_s=1.0), [0.9, 0.1] * 8)
    assert on(decided) == [0, 2, 10, 12]
    assert (4, "max_events") in began(decided)


def test_the_line_is_on_for_no_more_than_its_share_of_a_window() -> None:
    decided = run(trigger(max_duty=0.3, window_s=1.0), [0.9, 0.9, 0.1] * 20)
    line = decided[:, LINE].astype(int)
    assert max(line[t : t + 10].sum() for t in range(len(line) - 9)) == 3


def test_controls_run_like_events_with_the_line_off() -> None:
    arms = ArmSettings({"real": 1.0, "sham": 1.0}, assign="blocks", block_events=1)
    decided = run(trigger(pulse_s=0.2, refractory_s=0.3, arms=arms), [0.9, 0.1, 0.1] * 8)
    starts = [t for t, what in began(decided) if what == "fired"]
    assert starts == [0, 6, 12, 18]
    assert on(decided) == [0, 1, 12, 13]
    assert [arm_names(arms)[decided[t, ARM]] for t in starts] == ["real", "sham", "real", "sham"]


def test_a_withheld_event_leaves_its_arm_to_the_next_one() -> None:
    arms = ArmSettings({"real": 0.5, "sham": 0.5}, seed=3)
    attack = [0.9, 0.1] * 40
    plain = run(trigger(pulse_s=0.1, arms=arms), attack)
    limited = run(trigger(pulse_s=0.1, arms=arms, refractory_s=0.5), attack)
    drawn = [arm for arm, what in plain[:, [ARM, BEGAN]].tolist() if what]
    fired = [arm for arm, what in limited[:, [ARM, BEGAN]].tolist() if what == FIRED]
    assert len(fired) < 20
    assert fired == drawn[: len(fired)]
    assert 10 < sum(drawn) < 30


def test_streams_have_sequences_of_arms_of_their_own() -> None:
    arms = ArmSettings({"real": 0.5, "sham": 0.5}, seed=3)
    one, other = (run(trigger(arms=arms), [0.9, 0.1] * 40, stream=name) for name in ("cage 1", "cage 2"))
    assert (one[:, ARM] != other[:, ARM]).any()


def test_a_trigger_is_for_the_streams_that_it_names() -> None:
    assert on(run(trigger(streams=("cage ?",)), [0.9] * 2, stream="cage 1")) == [0, 1]
    assert on(run(trigger(streams=("cage ?",)), [0.9] * 2, stream="arena")) == []


def test_bouts_are_the_decoded_label_whatever_the_probability() -> None:
    labels = np.zeros((4, 2), np.int16)
    labels[1:3, 0] = 2
    chosen = trigger(conditions=(ConditionSettings("social", ("attack", "mount")),), source="bout")
    assert on(run(chosen, [0.0] * 4, labels=labels)) == [1, 2]


def test_conditions_combine() -> None:
    probs = np.array([[0.1, 0.9, 0.0, 0.9, 0.1], [0.1, 0.5, 0.4, 0.1, 0.9], [0.9, 0.1, 0.0, 0.1, 0.9]], np.float32)
    social = ConditionSettings("social", ("attack", "mount"))
    still = ConditionSettings("posture", ("rear",), negate=True)
    for combine, expected in (("any", [0, 1]), ("all", [0])):
        chosen = trigger(conditions=(social, still), combine=combine)
        assert on(run(chosen, [0.0] * 3, probs=probs)) == expected


def test_a_condition_that_is_not_known_leaves_all_unknown_and_any_to_the_others() -> None:
    probs = np.array([[0.0, 0.9, 0, 0.1, 0.9], [0.0, 0.9, 0, 0.1, np.nan], [0.0, np.nan, 0, 0.1, 0.9]], np.float32)
    attack, rear = ConditionSettings("social", ("attack",)), ConditionSettings("posture", ("rear",))
    for conditions in ((attack, rear), (rear, attack)):
        assert on(run(trigger(conditions=conditions, combine="any"), [0.0] * 3, probs=probs)) == [0, 1, 2]
        assert on(run(trigger(conditions=conditions, combine="all"), [0.0] * 3, probs=probs)) == [0]


def test_heads_of_several_animals_are_chosen_by_name() -> None:
    heads = tuple(Head(f"attack of {name}", ("no", "yes"), ("yes",), "attack") for name in ("left", "right"))
    probs = np.array([[0.1, 0.9, 0.9, 0.1], [0.9, 0.1, 0.1, 0.9]], np.float32)
    chosen = {
        name: trigger(conditions=(ConditionSettings(f"attack of {name}", ("yes",)),)) for name in ("left", "right")
    }
    rule = TriggerRule(chosen, heads, FPS, 1, POINTS)
    rule.open_slot(0, "cage")
    zeros = np.zeros(2, np.int32)
    labels = np.zeros((2, 2), np.int16)
    decided = rule.step(zeros, np.arange(2), probs, labels, zeros, zeros, np.ones(2, np.bool_))
    assert decided[:, :, LINE].tolist() == [[1, 0], [0, 1]]


def test_too_many_missing_points_are_as_a_forbidden_flag() -> None:
    decided = run(trigger(max_missing=0.3), [0.9] * 5 + [0.1, 0.9], missing=[0, 3, 4, 0, 0, 10, 3])
    assert on(decided) == [0, 1, 6]
    assert ended(decided) == [(2, "quality")]


def test_a_share_that_is_a_whole_number_of_points_is_that_number() -> None:
    for points in range(1, 60):
        for n in range(points + 1):
            assert trigger_numbers(trigger(max_missing=n / points), FPS, points).max_missing == n


def test_arms_alternate_in_stretches_of_time() -> None:
    arms = ArmSettings({"real": 1.0, "sham": 1.0}, assign="time_blocks", block_s=1.0)
    decided = run(trigger(pulse_s=0.1, arms=arms), [0.9, 0.1] * 20, seq=list(range(7, 47)))
    assert [t for t, _ in began(decided)] == list(range(0, 40, 2))
    # By the stream's own frames, whatever their numbers.
    assert on(decided) == [t for t in range(0, 40, 2) if t // 10 % 2 == 0]


def yoked(*events: tuple[int, int], **changes: Any) -> TriggerSettings:
    return trigger(conditions=(), arms=ArmSettings(yoked="log.csv", yoked_events=events), **changes)


def test_a_yoked_trigger_fires_at_the_recorded_frames_whatever_the_animal_does() -> None:
    decided = run(yoked((102, 3), (109, 1)), [0.9] + [0.0] * 11, seq=list(range(100, 112)))
    assert on(decided) == [2, 3, 4, 9]
    assert ended(decided) == [(5, "pulse over"), (10, "pulse over")]
    assert arm_names(yoked((0, 1)).arms) == ("yoked",)


def test_limits_and_quality_hold_for_a_yoked_trigger_too() -> None:
    events = ((0, 5), (6, 1), (8, 1), (12, 2))
    decided = run(yoked(*events, max_on_s=0.2, refractory_s=0.5), [0.0] * 14, quality={8: UNSURE}, disarmed=(13,))
    assert on(decided) == [0, 1, 12]
    assert began(decided) == [(0, "fired"), (6, "refractory"), (8, "quality"), (12, "fired")]
    assert ended(decided) == [(2, "max_on"), (13, "disarmed")]


def test_recorded_events_of_before_the_first_frame_and_in_a_gap_are_not_made_up_for() -> None:
    decided = run(yoked((3, 2), (20, 2), (24, 2), (30, 2)), [0.0] * 5, seq=[10, 11, 26, 27, 30])
    assert on(decided) == []
    assert began(decided) == [(2, "quality"), (4, "quality")]
    decided = run(yoked((3, 2), (20, 2), (24, 2), (30, 2)), [0.0] * 3, seq=[29, 30, 31])
    assert on(decided) == [1, 2]


def test_a_resampled_camera_s_numbers_are_no_gaps() -> None:
    for camera_fps, seq in ((20.0, [5, 7, 9, 11, 13]), (5.0, [5, 6, 6, 7, 7]), (7.0, [5, 6, 7, 8, 8])):
        assert on(run(trigger(pulse_s=0.3), [0.9] * 5, seq=seq, camera_fps=camera_fps)) == [0, 1, 2]
    reset = 1 << QUALITY_FLAGS.index("reset")
    decided = run(trigger(never_on=()), [0.9] * 4, seq=[5, 7, 49, 51], camera_fps=20.0, quality={2: reset})
    assert ended(decided) == [(2, "gap")]


def test_recorded_events_last_as_long_at_a_resampled_camera() -> None:
    assert on(run(yoked((8, 4)), [0.0] * 8, seq=list(range(5, 21, 2)), camera_fps=20.0)) == [2, 3]


def test_a_probability_that_is_no_number_is_no_behaviour() -> None:
    assert on(run(trigger(), [float("nan"), 0.9, float("nan"), 0.9])) == [1, 3]


@pytest.mark.parametrize(
    ("conditions", "words"),
    [
        ((ConditionSettings("sociable", ("attack",)),), "no head 'sociable'; it has: social, posture"),
        ((ConditionSettings("social", ("bite",)),), "no behaviour bite; it has: other, attack, mount"),
    ],
)
def test_what_the_model_does_not_have_is_named(conditions: tuple[ConditionSettings, ...], words: str) -> None:
    with pytest.raises(SettingError, match=words):
        TriggerRule({"laser": trigger(conditions=conditions)}, HEADS, FPS, 1, POINTS)


values = st.sampled_from([0.0, 0.4, 0.5, 0.6, 0.7, 0.9, 1.0])
answers = st.lists(
    st.tuples(
        st.sampled_from([1, 1, 1, 1, 1, 1, 2, 9]), values, st.integers(0, 7), st.integers(0, 9), st.integers(0, POINTS)
    ),
    max_size=80,
)
recorded = st.lists(st.tuples(st.integers(0, 9), st.integers(1, 6)), min_size=1, max_size=20)


@given(
    answers=answers,
    frames=st.tuples(*[st.integers(0, 6)] * 3),
    max_on=st.integers(1, 9),
    max_events=st.integers(0, 3),
    max_duty=st.sampled_from([0.0, 0.1, 0.4, 1.0]),
    window=st.integers(1, 20),
    shares=st.sampled_from([{"real": 1.0}, {"real": 0.5, "sham": 0.5}, {"a": 1.0, "real": 2.0, "b": 0.0}]),
    block=st.tuples(st.sampled_from(["random", "blocks", "time_blocks"]), st.integers(1, 20)),
    max_missing=st.integers(0, POINTS),
    recorded=st.none() | recorded,
    chunk=st.integers(1, 7),
)
@settings(max_examples=150, deadline=None)
def test_it_decides_as_the_slow_version_does_in_any_chunks(
    answers: list[tuple[int, float, int, int, int]],
    frames: tuple[int, int, int],
    max_on: int,
    max_events: int,
    max_duty: float,
    window: int,
    shares: dict[str, float],
    block: tuple[str, int],
    max_missing: int,
    recorded: list[tuple[int, int]] | None,
    chunk: int,
) -> None:
    if not answers:
        return
    assign, size = block
    arms = ArmSettings(shares, seed=7, assign=assign, block_events=size, block_s=size / FPS)
    yoked_events = None
    if recorded is not None:
        # Each so many frames after the end of the one before.
        ends = np.cumsum([wait + frames for wait, frames in recorded]).tolist()
        yoked_events = tuple((end - frames, frames) for end, (_, frames) in zip(ends, recorded, strict=True))
        arms = ArmSettings(seed=7, yoked="log.csv", yoked_events=yoked_events)
    min_frames, refractory, pulse = frames
    pulse = min(pulse, max_on)  # the settings take no longer one
    chosen = trigger(
        on=0.7,
        off=0.5,
        min_duration_s=min_frames / FPS,
        refractory_s=refractory / FPS,
        pulse_s=pulse / FPS,
        max_on_s=max_on / FPS,
        max_events=max_events,
        max_duty=max_duty,
        window_s=window / FPS,
        max_missing=max_missing / POINTS,
        arms=arms,
    )
    seq = np.cumsum([step for step, *_ in answers])
    values = np.array([value for _, value, *_ in answers], np.float32).tolist()
    quality = {t: UNSURE for t, (_, _, flag, *_) in enumerate(answers) if flag == 0}
    disarmed = tuple(t for t, (*_, armed, _) in enumerate(answers) if armed == 0)
    # Mostly few, so that events do happen.
    missing = [points if points > 7 else 0 for *_, points in answers]
    plain = [
        Answer(int(s), v, t in quality, t not in disarmed, missing[t])
        for t, (s, v) in enumerate(zip(seq, values, strict=True))
    ]
    numbers = Numbers(
        0.7,
        0.5,
        max(min_frames, 1),
        refractory,
        pulse,
        max_on,
        max_events,
        int(max_duty * window),
        window,
        tuple(shares.items()),
        size if assign == "blocks" else 0,
        7,
        size if assign == "time_blocks" else 0,
        max_missing,
        yoked_events,
    )
    expected = decide(plain, numbers, "cage", "laser")
    decided = run(chosen, values, quality=quality, disarmed=disarmed, seq=seq.tolist(), chunk=chunk, missing=missing)
    names = arm_names(arms)
    told = [
        (bool(line), WITHHELD[b], names[arm] if b else "", ENDED[end])
        for line, b, arm, end in decided[:, [LINE, BEGAN, ARM, ENDED_AT]].tolist()
    ]
    assert told == expected
