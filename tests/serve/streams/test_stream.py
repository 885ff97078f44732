"""From a source's points to the model's, by name, and the sizes of wire frames."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from rtseg.errors import FrameError, RateError, RtsegError, SkeletonError
from rtseg.frames.skeleton import MICE7, Skeleton
from rtseg.inference.classifier import Classifier, load
from rtseg.serve.streams.served_model import ServedModel
from rtseg.serve.streams.stream import Stream, StreamError, Streams, match_points
from rtseg.wire.messages import FrameMessage, Hello
from tests.live import random_walk


@pytest.fixture(scope="module")
def classifier(tiny_bundle: Path) -> Classifier:
    return load(tiny_bundle, capacity=2)


@pytest.fixture
def streams(classifier: Classifier) -> Iterator[Streams]:
    streams = Streams(ServedModel(classifier, "tcp://127.0.0.1:1"))
    yield streams
    for stream in streams:
        streams.close_stream(stream)


def opened(streams: Streams, skeleton: Skeleton = MICE7, name: str = "s") -> Stream:
    hello = Hello(name, skeleton, 30.0)
    return streams.open_stream(b"me", hello, streams.match_hello(hello), 0)


def test_the_same_skeleton_needs_no_moving() -> None:
    assert match_points(MICE7, MICE7, {}) is None
    assert match_points(MICE7, Skeleton(("m1", "m2"), MICE7.keypoints), {}) is None  # animals by order


def test_more_points_in_another_order_with_other_names() -> None:
    offered = Skeleton(("intruder", "resident"), ("paw", *reversed(MICE7.keypoints[1:]), "Snout"))
    index = match_points(MICE7, offered, {"Snout": "nose"})
    assert index is not None
    assert index.tolist() == [[8 + i for i in (7, 6, 5, 4, 3, 2, 1)], [7, 6, 5, 4, 3, 2, 1]]
    with pytest.raises(SkeletonError, match="without a counterpart: nose"):
        match_points(MICE7, offered, {})


def test_a_frame_is_put_into_the_models_order(streams: Streams) -> None:
    walk = random_walk(1, 0, Skeleton(("intruder", "resident"), tuple(reversed(MICE7.keypoints))))
    expected = walk.select(MICE7)
    stream = opened(streams, walk.skeleton)
    frame = stream.to_frame(FrameMessage("s", 4, 5, walk.keypoints[0].tobytes(), walk.confidence[0].tobytes()))
    assert (frame.stream, frame.seq, frame.t_source_ns) == ("s", 4, 5)
    np.testing.assert_array_equal(frame.keypoints, expected.keypoints[0])
    np.testing.assert_array_equal(frame.confidence, expected.confidence[0])


def test_without_confidence_seen_points_count_fully(streams: Streams) -> None:
    walk = random_walk(1, 1)
    frame = opened(streams).to_frame(FrameMessage("s", 0, 0, walk.keypoints[0].tobytes(), None))
    np.testing.assert_array_equal(frame.confidence, ~np.isnan(walk.keypoints[0, ..., 0]))


@pytest.mark.parametrize(("kp", "conf"), [(0, None), (111, None), (112, 4), (116, 56), (112, 0)])
def test_wrong_sizes_are_refused(streams: Streams, kp: int, conf: int | None) -> None:
    stream = opened(streams)
    with pytest.raises(FrameError, match="2 animals x 7 keypoints take 112 bytes of kp and 56 of conf, got"):
        stream.to_frame(FrameMessage("s", 0, 0, bytes(kp), None if conf is None else bytes(conf)))


def test_another_frame_rate_is_refused_with_the_reason(streams: Streams) -> None:
    with pytest.raises(RateError, match="25 frames per second; the model was trained at 30"):
        streams.match_hello(Hello("s", MICE7, 25.0))
    streams.match_hello(Hello("s", MICE7, 29.97))


def test_owners_and_places(streams: Streams) -> None:
    stream = opened(streams)
    assert streams.owned_stream(b"me", "s") is stream
    with pytest.raises(StreamError, match="another connection"):
        streams.owned_stream(b"you", "s")
    with pytest.raises(StreamError, match="send a hello first"):
        streams.owned_stream(b"me", "t")
    opened(streams, name="t")
    with pytest.raises(RtsegError, match="all 2 slots are taken"):
        opened(streams, name="u")
    streams.close_stream(stream)
    opened(streams, name="u")
    assert sorted(s.name for s in streams) == ["t", "u"]


def test_times_of_receipt_wait_for_the_lookahead(streams: Streams) -> None:
    stream = opened(streams)
    stream.lookahead_frames = 2
    for seq, t_recv_ns in ((0, 10), (1, 20), (1, 25), (4, 30)):  # a duplicate, and two that never came
        stream.remember_receipt(seq, t_recv_ns)
    assert [stream.received_ns(seq, 99) for seq in range(5)] == [10, 20, 99, 99, 30]
