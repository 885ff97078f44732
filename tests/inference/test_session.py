"""A session: replay equals step, no future frame, gaps, snapshots, lookahead."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtseg.bundle.bundle import load_bundle
from rtseg.config import RangeSettings
from rtseg.errors import RtsegError
from rtseg.features.extractor import FeatureExtractor
from rtseg.features.ranges import fit_ranges
from rtseg.frames.frame import Frame, checked_frame
from rtseg.frames.skeleton import MICE7
from rtseg.inference.classifier import Classifier
from rtseg.inference.predictions import Prediction, Predictions, Quality
from rtseg.inference.session import Session
from rtseg.inference.snapshots import is_same_state
from rtseg.recordings.recording import Recording, clean
from tests.trees import with_trees


def wandering(n_frames: int, seed: int = 0, missing: float = 0.1) -> Recording:
    """Two animals that drift, with missing points."""
    rng = np.random.default_rng(seed)
    body = np.cumsum(rng.normal(0, 3, (n_frames, 2, 1, 2)), axis=0) + np.array([400, 250])
    points = body + rng.normal(0, 20, (1, 2, 7, 2)) + rng.normal(0, 1, (n_frames, 2, 7, 2))
    points[rng.random((n_frames, 2, 7)) < missing] = np.nan
    keypoints, confidence = clean(points, rng.random((n_frames, 2, 7)))
    return Recording("wandering", MICE7, keypoints, confidence, 30.0)


def frames_of(recording: Recording, stream: str = "s") -> list[Frame]:
    return [
        checked_frame(k, c, shape=recording.skeleton.shape, seq=i, t_source_ns=i * 33_000_000, stream=stream)
        for i, (k, c) in enumerate(zip(recording.keypoints, recording.confidence, strict=True))
    ]


def stepped(session: Session, some: list[Frame]) -> list[Prediction]:
    return [p for f in some for p in session.step(f)]


def same(one: Predictions, two: Predictions) -> bool:
    return all(
        getattr(one, part).tobytes() == getattr(two, part).tobytes()
        for part in ("seq", "probs", "labels", "quality", "unsure", "missing")
    )


@pytest.fixture(scope="module", params=["network", "trees"])
def classifier(tiny_bundle: Path, request: pytest.FixtureRequest) -> Classifier:
    bundle = load_bundle(tiny_bundle)
    return Classifier(with_trees(bundle) if request.param == "trees" else bundle, capacity=8)


def delayed(tiny_bundle: Path, lookahead: int) -> Classifier:
    return Classifier(replace(load_bundle(tiny_bundle), lookahead_frames=lookahead), capacity=2)


@pytest.mark.parametrize("trees", [False, True])
@pytest.mark.parametrize("lookahead", [0, 1, 6])
def test_a_recording_gets_what_its_frames_get_one_by_one(tiny_bundle: Path, lookahead: int, trees: bool) -> None:
    classifier, recording = delayed(tiny_bundle, lookahead), wandering(300)
    if trees:
        classifier = Classifier(with_trees(classifier.bundle), capacity=2)
    session = classifier.open("s")
    answers = stepped(session, frames_of(recording)) + session.finish()
    assert same(classifier.run(recording), Predictions.collect(classifier.bundle.heads, answers))
    assert [a.seq for a in answers] == list(range(300))
    absent = np.isnan(recording.keypoints[..., 0]).sum(axis=(1, 2))
    assert [a.batch.missing[a.row] for a in answers] == absent.tolist()


def test_chunks_do_not_matter(classifier: Classifier) -> None:
    recording, session = wandering(300), classifier.open("s")
    whole = session.run(recording)
    for chunk in (1, 7, 64, 1000):
        assert same(whole, session.run(recording, chunk))
    session.close()


@pytest.mark.parametrize("lookahead", [0, 4])
def test_the_future_changes_nothing(tiny_bundle: Path, lookahead: int) -> None:
    classifier, recording = delayed(tiny_bundle, lookahead), wandering(200)
    changed = recording.keypoints.copy()
    changed[120:] = np.nan
    before, after = classifier.run(recording), classifier.run(replace(recording, keypoints=changed))
    known = 120 - lookahead
    assert before.probs[:known].tobytes() == after.probs[:known].tobytes()
    assert before.labels[:known].tobytes() == after.labels[:known].tobytes()
    assert before.probs[known:].tobytes() != after.probs[known:].tobytes()


def test_streams_do_not_disturb_each_other(classifier: Classifier) -> None:
    recordings = [wandering(120, seed) for seed in range(4)]
    sessions = [classifier.open(str(i)) for i in range(4)]
    alone = [classifier.run(r) for r in recordings]
    together: list[list[Prediction]] = [[] for _ in sessions]
    columns = [frames_of(r) for r in recordings]
    for t in range(120):
        awake = [i for i in range(4) if (t * 7 + i) % 3]  # each has gaps of its own, filled as missing frames
        answers = classifier.pool.step([sessions[i] for i in awake], [columns[i][t] for i in awake])
        for i, some in zip(awake, answers, strict=True):
            together[i] += some
    for i in range(4):
        single = classifier.open("single")
        kept = [columns[i][t] for t in range(120) if (t * 7 + i) % 3]
        expected = Predictions.collect(classifier.bundle.heads, stepped(single, kept))
        assert same(expected, Predictions.collect(classifier.bundle.heads, together[i]))
        single.close()
        sessions[i].close()
    assert not same(alone[0], alone[1])


def test_a_snapshot_goes_on_bit_for_bit_in_another_slot(classifier: Classifier) -> None:
    some = frames_of(wandering(160))
    first = classifier.open("s")
    whole = stepped(first, some[:100])
    snapshot = first.snapshot()
    whole += stepped(first, some[100:])
    other = classifier.open("s")
    stepped(other, some[:3])
    other.restore(snapshot)
    rest = stepped(other, some[100:])
    heads = classifier.bundle.heads
    assert same(Predictions.collect(heads, whole[100:]), Predictions.collect(heads, rest))
    first.close()
    other.close()


def test_a_snapshot_of_another_model_is_refused(tiny_bundle: Path, classifier: Classifier) -> None:
    stranger = Classifier(replace(load_bundle(tiny_bundle), hash="another"), capacity=1)
    with pytest.raises(RtsegError, match="another"), _open(classifier) as session:
        session.restore(stranger.open("s").snapshot())


def _open(classifier: Classifier) -> _Opened:
    return _Opened(classifier.open("s"))


class _Opened:
    def __init__(self, session: Session) -> None:
        self.session = session

    def __enter__(self) -> Session:
        return self.session

    def __exit__(self, *_: object) -> None:
        self.session.close()


def test_a_short_gap_is_filled_with_frames_without_points(classifier: Classifier) -> None:
    recording = wandering(60)
    some = frames_of(recording)
    with _open(classifier) as session:
        answers = stepped(session, some[:20] + some[25:])
        assert session.counters.gaps == 1
        assert session.counters.filled == 5
    blanked = recording.keypoints.copy()
    blanked[20:25] = np.nan
    scores = recording.confidence.copy()
    scores[20:25] = 0
    expected = classifier.run(replace(recording, keypoints=blanked, confidence=scores))
    assert [a.seq for a in answers] == list(range(60))
    assert np.array([a.outputs for a in answers]).tobytes() == expected.probs.tobytes()
    assert [a.seq for a in answers if a.quality & Quality.GAP_FILLED] == [20, 21, 22, 23, 24]
    assert [a.t_source_ns for a in answers] == [i * 33_000_000 for i in range(60)]


def test_a_long_gap_restarts_and_says_so(classifier: Classifier) -> None:
    some = frames_of(wandering(200))
    with _open(classifier) as session, _open(classifier) as fresh:
        answers = stepped(session, some[:50] + some[120:])
        assert session.counters.restarts == 1
        expected = stepped(fresh, some[120:])
    after = [a for a in answers if a.seq >= 120]
    assert [a.seq for a in after if a.quality & Quality.RESET] == [120]
    assert all(a.outputs.tobytes() == b.outputs.tobytes() for a, b in zip(after, expected, strict=True))
    assert after[0].events.all()


def test_a_long_gap_with_a_lookahead_first_gives_what_is_owed(tiny_bundle: Path) -> None:
    classifier, some = delayed(tiny_bundle, 4), frames_of(wandering(200))
    session = classifier.open("s")
    answers = stepped(session, some[:50] + some[120:]) + session.finish()
    assert [a.seq for a in answers] == [*range(50), *range(120, 200)]


def test_duplicates_and_late_frames_are_dropped_and_counted(classifier: Classifier) -> None:
    some = frames_of(wandering(40))
    with _open(classifier) as session:
        answers = stepped(session, [*some[:20], some[19], some[5], *some[20:]])
        assert (session.counters.duplicates, session.counters.late) == (1, 1)
    expected = classifier.run(wandering(40))
    assert np.array([a.outputs for a in answers]).tobytes() == expected.probs.tobytes()


def test_quality_flags(classifier: Classifier) -> None:
    recording = wandering(100, missing=0.0)
    keypoints, confidence = recording.keypoints.copy(), np.ones_like(recording.confidence)
    keypoints[70, 0, 3] = np.nan
    confidence[70, 0, 3] = 0
    keypoints[80] = np.nan
    confidence[80] = 0
    confidence[90] = 0.1
    quality = classifier.run(replace(recording, keypoints=keypoints, confidence=confidence)).quality
    assert (quality[:64] & Quality.WARMING_UP).all()
    assert not (quality[64:] & Quality.WARMING_UP).any()
    assert quality[70] == Quality.MISSING_POINTS
    assert quality[80] == Quality.MISSING_POINTS | Quality.LOW_CONFIDENCE
    assert quality[90] == Quality.LOW_CONFIDENCE
    assert quality[95] == 0


def watched(tiny_bundle: Path, lookahead: int = 0) -> Classifier:
    """A model that is unsure of its second head now and then, and knows the ranges of one wandering recording."""
    bundle = load_bundle(tiny_bundle)
    extractor = FeatureExtractor(bundle.skeleton, bundle.features, bundle.fps, bundle.body_size)
    usual = wandering(300)
    features = extractor.run(usual.keypoints, usual.confidence, bundle.arena)
    ranges = fit_ranges([features], extractor.features, RangeSettings(percentile=5, margin=0, share=0.2))
    middle = float(np.median(Classifier(bundle).run(usual).of("sniff_face").max(1)))
    bundle = replace(bundle, ranges=ranges, abstain_below={"sniff_face": middle}, lookahead_frames=lookahead)
    return Classifier(bundle, capacity=3)


@pytest.mark.parametrize("lookahead", [0, 5])
def test_doubts_are_the_same_live_and_offline(tiny_bundle: Path, lookahead: int) -> None:
    classifier, recording = watched(tiny_bundle, lookahead), wandering(300)
    session = classifier.open("s")
    answers = stepped(session, frames_of(recording)) + session.finish()
    offline = classifier.run(recording)
    assert same(offline, Predictions.collect(classifier.bundle.heads, answers))
    below = np.float32(classifier.bundle.abstain_below["sniff_face"])
    np.testing.assert_array_equal(offline.unsure[:, 1], offline.of("sniff_face").max(1) < below)
    assert not offline.unsure[:, 0].any()
    assert 0 < offline.unsure[:, 1].mean() < 1
    np.testing.assert_array_equal(offline.quality & Quality.UNSURE > 0, offline.unsure.any(1))
    flagged = int((offline.quality & Quality.OUT_OF_RANGE > 0).sum())
    assert 0 < flagged < 300
    assert session.counters.out_of_range == flagged
    drift = session.drift()
    assert drift["frames"] == 300 + lookahead
    assert drift["features"][0]["frames"] > 0


def test_a_frozen_tracker_is_flagged_the_same_live_offline_and_after_a_snapshot(tiny_bundle: Path) -> None:
    classifier, recording = delayed(tiny_bundle, 2), wandering(200)
    recording.keypoints[40:140] = recording.keypoints[39]  # 100 repeats: flagged from the 60th on
    recording.confidence[40:140] = recording.confidence[39]
    session, frames = classifier.open("s"), frames_of(recording)
    answers = stepped(session, frames[:80])
    other = classifier.open("t")
    other.restore(session.snapshot())
    answers += stepped(other, frames[80:]) + other.finish()
    frozen = [a.seq for a in answers if a.quality & Quality.FROZEN]
    assert frozen == list(range(39 + 60, 140))
    session.close()
    offline = classifier.run(recording)
    assert same(offline, Predictions.collect(classifier.bundle.heads, answers))
    assert other.counters.frozen == len(frozen)


def test_a_snapshot_from_before_the_rule_of_frozen_trackers_is_taken(classifier: Classifier) -> None:
    session, recording = classifier.open("s"), wandering(3)
    stepped(session, frames_of(recording))
    state = session.snapshot()
    older = {k: v for k, v in msgpack.unpackb(state).items() if k != "frozen"}
    del older["counters"]["frozen"]
    assert is_same_state(msgpack.packb(older), state)
    assert not is_same_state(msgpack.packb(older | {"since_reset": 7}), state)
    session.restore(msgpack.packb(older))
    assert session.snapshot() != state
    assert session.last_seq == 2


def test_doubts_change_no_answer(tiny_bundle: Path) -> None:
    recording = wandering(200)
    plain, doubtful = Classifier(load_bundle(tiny_bundle)).run(recording), watched(tiny_bundle).run(recording)
    assert plain.probs.tobytes() == doubtful.probs.tobytes()
    assert plain.labels.tobytes() == doubtful.labels.tobytes()
    both = int(Quality.UNSURE | Quality.OUT_OF_RANGE)
    np.testing.assert_array_equal(plain.quality, doubtful.quality & ~both)


def test_a_bundle_without_ranges_and_thresholds_never_doubts(classifier: Classifier) -> None:
    with _open(classifier) as session:
        answers = session.run(wandering(100))
        assert not answers.quality.max() >= Quality.UNSURE
        assert not answers.unsure.any()
        assert session.drift() == {}


def test_drift_belongs_to_a_stream_and_goes_on_in_a_snapshot(tiny_bundle: Path) -> None:
    classifier, some = watched(tiny_bundle), frames_of(wandering(200))
    first, quiet = classifier.open("first"), classifier.open("quiet")
    stepped(first, some[:100])
    snapshot = first.snapshot()
    stepped(first, some[100:])
    assert quiet.drift()["frames"] == 0
    quiet.restore(snapshot)
    assert quiet.drift()["frames"] == 100
    stepped(quiet, some[100:])
    assert quiet.drift() == first.drift()
    assert quiet.counters == first.counters
    first.close()
    assert classifier.open("second in the same slot").drift()["frames"] == 0


def test_more_streams_than_slots_are_refused_and_a_closed_one_makes_room(tiny_bundle: Path) -> None:
    classifier = delayed(tiny_bundle, 0)
    one, _two = classifier.open("one"), classifier.open("two")
    with pytest.raises(RtsegError, match="all 2 slots are taken"):
        classifier.open("three")
    stepped(one, frames_of(wandering(30, 3)))
    one.close()
    reused = classifier.open("three")
    recording = wandering(30)
    answers = stepped(reused, frames_of(recording))
    expected = classifier
    reused.close()
    assert np.array([a.outputs for a in answers]).tobytes() == expected.run(recording).probs.tobytes()


@settings(max_examples=60, deadline=None)
@given(jumps=st.lists(st.integers(-3, 40), min_size=1, max_size=30))
def test_whatever_the_order_every_kept_frame_is_answered_once(classifier: Classifier, jumps: list[int]) -> None:
    recording = wandering(1)
    with _open(classifier) as session:
        seq, answers, highest = 100, [], -1
        for jump in jumps:
            seq = max(0, seq + jump)
            frame = checked_frame(recording.keypoints[0], shape=MICE7.shape, seq=seq, t_source_ns=seq, stream="s")
            some = session.step(frame)
            assert bool(some) == (seq > highest)
            highest = max(highest, seq)
            answers += some
        seqs = [a.seq for a in answers]
        assert seqs == sorted(set(seqs))
        c = session.counters
        real = sum(not a.quality & Quality.GAP_FILLED for a in answers)
        assert c.frames == len(jumps) == real + c.duplicates + c.late
        assert c.filled == len(answers) - real


def test_a_session_that_follows_a_resampled_one_resamples_too(classifier: Classifier) -> None:
    """Also where a camera frame's number happens to be the next one of the model's frames."""
    some, fps = frames_of(wandering(400)), 25.0
    with _open(classifier) as follower, _open(classifier) as again:
        before = classifier.open("s", fps=fps)
        numbered = [frame._replace(seq=frame.seq + 40) for frame in some]
        stepped(before, numbered[:10])
        follower.follow(before)
        again.follow(before)
        before.close()
        assert follower.is_resampled
        answers = stepped(follower, numbered[10:])
        again.takes_any_next = False  # the general way, frame by frame
        expected = stepped(again, numbered[10:])
    assert [(a.seq, a.outputs.tobytes()) for a in answers] == [(a.seq, a.outputs.tobytes()) for a in expected]
