"""A snapshot of a session: whatever is damaged is refused as a SnapshotError, and the session works after it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtseg.bundle.bundle import load_bundle
from rtseg.config import RangeSettings
from rtseg.errors import RtsegError, SnapshotError
from rtseg.features.extractor import FeatureExtractor
from rtseg.features.ranges import fit_ranges
from rtseg.frames.frame import Frame
from rtseg.inference.classifier import Classifier
from rtseg.inference.predictions import Prediction
from rtseg.inference.session import Session
from tests.inference.test_session import frames_of, wandering

FRAMES = frames_of(wandering(90))
FPS = 50.0
"""Of a camera that is resampled to the model's 30."""


@pytest.fixture(scope="module")
def classifier(tiny_bundle: Path) -> Classifier:
    """A model that has everything which a snapshot can hold: a lookahead, ranges, animals that are swapped back."""
    bundle = load_bundle(tiny_bundle)
    extractor, usual = FeatureExtractor(bundle.skeleton, bundle.features, bundle.fps, bundle.body_size), wandering(100)
    features = extractor.run(usual.keypoints, usual.confidence, bundle.arena)
    ranges = fit_ranges([features], extractor.features, RangeSettings())
    return Classifier(replace(bundle, ranges=ranges, lookahead_frames=4), capacity=3, identity="swap")


@pytest.fixture
def session(classifier: Classifier) -> Iterator[Session]:
    session = classifier.open("s", fps=FPS)
    yield session
    session.close()


@pytest.fixture(scope="module")
def snapshot(classifier: Classifier) -> bytes:
    """Taken in the middle of a stream, with frames that wait for their answers."""
    with closing(classifier.open("s", fps=FPS)) as session:
        step_all(session, FRAMES[:60])
        return session.snapshot()


def step_all(session: Session, frames: list[Frame]) -> list[Prediction]:
    return [answer for frame in frames for answer in session.step(frame)]


def bits_of(answers: list[Prediction]) -> list[tuple[Any, ...]]:
    return [(a.seq, a.quality, a.outputs.tobytes(), a.labels.tobytes(), a.unsure) for a in answers]


def assert_fresh(session: Session, classifier: Classifier) -> None:
    """It answers as one that was opened just now."""
    with closing(classifier.open("s", fps=FPS)) as fresh:
        assert bits_of(step_all(session, FRAMES[:20])) == bits_of(step_all(fresh, FRAMES[:20]))
        assert session.counters == fresh.counters
        assert session.snapshot() == fresh.snapshot()


def assert_refused_or_usable(session: Session, data: bytes) -> None:
    """A damage that no check can see is a number among many: the session goes on with it, and nothing breaks."""
    try:
        session.restore(data)
    except RtsegError:
        return
    session.snapshot()
    answers = step_all(session, FRAMES[60:]) + session.finish()
    n_classes = [len(head.classes) for head in session.pool.heads]
    assert all(0 <= label < n for a in answers for label, n in zip(a.labels, n_classes, strict=True))
    session.reset()


def test_a_whole_snapshot_goes_on_where_it_was_taken(session: Session, classifier: Classifier, snapshot: bytes) -> None:
    with closing(classifier.open("s", fps=FPS)) as whole:
        step_all(whole, FRAMES[:60])
        session.restore(snapshot)
        assert bits_of(step_all(session, FRAMES[60:])) == bits_of(step_all(whole, FRAMES[60:]))


def test_no_beginning_of_a_snapshot_is_one(session: Session, classifier: Classifier, snapshot: bytes) -> None:
    lengths = {*range(300), *range(0, len(snapshot), 97), *range(len(snapshot) - 300, len(snapshot))}
    for length in sorted(lengths):
        with pytest.raises(SnapshotError, match="damaged"):
            session.restore(snapshot[:length])
    with pytest.raises(SnapshotError, match="damaged"):
        session.restore(snapshot + b"\x00")
    assert_fresh(session, classifier)


plain_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.binary(max_size=9)
    | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
FIELDS = (
    *("size", "features", "decoding", "drift", "identities", "network"),
    *("last", "since_reset", "pending", "counters", "resampler"),
)


@settings(max_examples=300, deadline=None)
@given(field=st.sampled_from(FIELDS), value=plain_values)
def test_a_field_of_another_kind_is_refused(classifier: Classifier, snapshot: bytes, field: str, value: Any) -> None:
    plain = msgpack.unpackb(snapshot)
    with closing(classifier.open("s", fps=FPS)) as session:
        assert_refused_or_usable(session, msgpack.packb(plain | {field: value}))


@pytest.mark.parametrize("field", sorted({*FIELDS, "model", "engine"} - {"last"}))
def test_a_field_that_is_missing_is_seen(session: Session, classifier: Classifier, snapshot: bytes, field: str) -> None:
    plain = msgpack.unpackb(snapshot)
    del plain[field]
    with pytest.raises(SnapshotError, match="damaged"):
        session.restore(msgpack.packb(plain))
    assert_fresh(session, classifier)


@pytest.mark.parametrize("scale", [0.0, -1.0, 1e-170, 1e170, float("inf")])
def test_a_scale_that_no_kernel_may_divide_by_is_refused(
    session: Session, classifier: Classifier, snapshot: bytes, scale: float
) -> None:
    plain = msgpack.unpackb(snapshot)
    one = np.float64(1.0).tobytes()
    assert plain["size"].count(one) == 1
    with pytest.raises(SnapshotError, match="damaged"):
        session.restore(msgpack.packb(plain | {"size": plain["size"].replace(one, np.float64(scale).tobytes())}))
    assert_fresh(session, classifier)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_damaged_byte_is_refused_or_does_no_harm(
    classifier: Classifier, snapshot: bytes, data: st.DataObject
) -> None:
    damaged = bytearray(snapshot)
    # Most of a snapshot is floats, which may be any: the interesting bytes are near the fields' names.
    names = [snapshot.index(name.encode()) for name in FIELDS]
    for _ in range(data.draw(st.integers(1, 4))):
        near = data.draw(st.sampled_from(names)) + data.draw(st.integers(-40, 40))
        at = data.draw(st.one_of(st.just(near), st.integers(0, len(snapshot) - 1)))
        damaged[min(max(at, 0), len(damaged) - 1)] = data.draw(st.integers(0, 255))
    with closing(classifier.open("s", fps=FPS)) as session:
        assert_refused_or_usable(session, bytes(damaged))


@pytest.mark.parametrize(
    "damage",
    [
        {"last": [3]},
        {"last": [-1, 0]},
        {"last": [2**63, 0]},
        {"since_reset": -1},
        {"since_reset": True},
        {"pending": [[0, 0, 0]] * 5},
        {"pending": [[0, 0, 2**16]]},
        {"pending": [[0, 0]]},
        {"counters": {"frames": -1}},
        {"counters": {"frames": 1.0}},
        {"counters": {"unknown": 1}},
        {"decoding": [[0, 0]] * 4},
        {"decoding": [[4, 0]] + [[0, 0]] * 4},
        {"decoding": [[0, -2]] + [[0, 0]] * 4},
        {"decoding": [[0, 0], [0, 2**31]] + [[0, 0]] * 3},
        {"features": b""},
        {"network": b""},
        {"network": None},
        {"identities": b"\xff" * 120},
        {"resampler": None},
        {"resampler": {"origin": 0, "next": 1, "last": None}},
        {"resampler": {"origin": 0, "next": 1, "last": [2**62, 0, b"", b""]}},
        {"model": None},
    ],
    ids=str,
)
def test_what_cannot_be_a_sessions_is_refused(
    session: Session, classifier: Classifier, snapshot: bytes, damage: dict[str, Any]
) -> None:
    with pytest.raises(RtsegError, match=r"damaged|bytes"):
        session.restore(msgpack.packb(msgpack.unpackb(snapshot) | damage))
    assert_fresh(session, classifier)


def test_a_resampler_that_would_make_frames_without_end_is_refused(session: Session, snapshot: bytes) -> None:
    plain = msgpack.unpackb(snapshot)
    for part, value in (("next", 0), ("next", 2**40), ("origin", 2**62), ("origin", -(2**62))):
        damaged = plain | {"resampler": plain["resampler"] | {part: value}}
        with pytest.raises(SnapshotError, match="resampling"):
            session.restore(msgpack.packb(damaged))
    seq, t_ns, points, scores = plain["resampler"]["last"]
    damaged = plain | {"resampler": plain["resampler"] | {"last": [seq + 2**40, t_ns, points, scores]}}
    with pytest.raises(SnapshotError, match="resampling"):
        session.restore(msgpack.packb(damaged))


def test_bytes_that_are_no_map_are_refused(session: Session) -> None:
    for data in (b"", b"\xc1", b"\x90", msgpack.packb([1, 2]), b"\x91" * 2000, msgpack.packb({1: 2}), b"\xd6\xff\x00"):
        with pytest.raises(SnapshotError, match="damaged"):
            session.restore(data)
    assert np.isnan(FRAMES[0].keypoints).any()  # the frames above have missing points, as real ones do
