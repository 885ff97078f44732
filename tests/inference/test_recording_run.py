"""A recording run at once gets what a stream of its frames gets, also where frames never came."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtseg.bundle.bundle import load_bundle
from rtseg.inference.classifier import Classifier
from rtseg.inference.gap_rule import Counters
from rtseg.inference.predictions import Predictions, Quality
from rtseg.recordings.recording import IGNORE, Recording
from tests.inference.test_session import delayed, frames_of, same, stepped, wandering
from tests.live import gaps, without_frames


@pytest.fixture(scope="module")
def classifier(tiny_bundle: Path) -> Classifier:
    return Classifier(load_bundle(tiny_bundle), capacity=1)


def live_answers(classifier: Classifier, recording: Recording) -> tuple[Predictions, Counters]:
    """What a stream of the frames that came gets, and what it counted."""
    session = classifier.open("live")
    answers = []
    for t in recording.came.tolist():
        points, scores = recording.keypoints[t], recording.confidence[t]
        answers += session.step(classifier.frame(points, scores, seq=recording.first_seq + t))
    answers += session.finish()
    session.close()
    return Predictions.collect(classifier.bundle.heads, answers), session.counters


@pytest.fixture(scope="module", params=[(0, "flag"), (1, "swap"), (6, "flag"), (6, "swap"), (2, "reset")], ids=str)
def gap_classifier(request: pytest.FixtureRequest, tiny_bundle: Path) -> Classifier:
    """Of a bundle that fills four frames and warms up for six."""
    lookahead, identity = request.param
    bundle = load_bundle(tiny_bundle)
    bundle = replace(bundle, lookahead_frames=lookahead, warmup_frames=6, gaps=replace(bundle.gaps, fill_frames=4))
    return Classifier(bundle, capacity=2, identity=identity)


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 9), max_size=8),
    late=st.integers(0, 12),
    first_seq=st.sampled_from([0, 1, 10**12]),
    chunk_frames=st.sampled_from([1, 3, 4096]),
    seed=st.integers(0, 9),
)
def test_a_recording_with_gaps_gets_what_a_stream_gets(
    gap_classifier: Classifier, lengths: list[int], late: int, first_seq: int, chunk_frames: int, seed: int
) -> None:
    """The same bits, flags and counts, by the one gap rule, and the same numbers of frames."""
    absent = gaps(lengths, late, np.random.default_rng(seed))
    recording = replace(without_frames(wandering(len(absent), seed), absent), first_seq=first_seq)
    live, counted = live_answers(gap_classifier, recording)
    session = gap_classifier.open("offline")
    offline = session.run(recording, chunk_frames)
    session.close()
    assert same(offline, live)
    assert session.counters == counted
    came = first_seq + recording.came
    assert set(came) <= set(offline.seq.tolist())
    filled = sum(length for length in lengths if length <= 4)
    assert len(offline) == len(came) + filled
    assert np.count_nonzero(offline.quality & Quality.GAP_FILLED) == filled
    assert np.count_nonzero(offline.quality & Quality.RESET) >= sum(length > 4 for length in lengths)


def test_answers_by_frame_have_a_row_for_every_frame(gap_classifier: Classifier) -> None:
    absent = gaps([3, 7, 4], 5, np.random.default_rng(0))
    recording = replace(without_frames(wandering(len(absent)), absent), first_seq=20)
    answers = gap_classifier.run(recording)
    rows = answers.by_frame(recording)
    known = ~np.isnan(rows.probs).any(axis=1)
    assert rows.seq.tolist() == list(range(20, 20 + len(recording)))
    assert rows.seq[known].tolist() == answers.seq.tolist()
    assert rows.probs[known].tobytes() == answers.probs.tobytes()
    assert (rows.labels[~known] == IGNORE).all()
    assert np.flatnonzero(~known).tolist() == [*range(5), *np.flatnonzero(absent)[8:15]]


@pytest.mark.parametrize("camera_fps", [25.0, 60.0])
def test_a_resampled_recording_with_gaps_gets_what_a_stream_gets(tiny_bundle: Path, camera_fps: float) -> None:
    classifier = delayed(tiny_bundle, 3)
    absent = gaps([*range(1, 50), 70, 100], 17, np.random.default_rng(1))
    recording = replace(without_frames(wandering(len(absent)), absent), fps=camera_fps)
    session = classifier.open("live", fps=camera_fps)
    answers = stepped(session, [frames_of(recording)[t] for t in recording.came]) + session.finish()
    offline = classifier.run(recording, resample=True)
    assert same(offline, Predictions.collect(classifier.bundle.heads, answers))
    assert {int(Quality.GAP_FILLED), int(Quality.RESET)} <= {int(q & 6) for q in offline.quality}


def test_a_recording_of_which_nothing_came_has_no_answers(classifier: Classifier) -> None:
    recording = without_frames(wandering(9), np.ones(9, np.bool_))
    assert len(classifier.run(recording)) == 0
    assert np.isnan(classifier.run(recording).by_frame(recording).probs).all()
