"""The boundary: what is refused, what is repaired, and that nothing else comes through."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from rtseg.errors import FrameError
from rtseg.frames.frame import (
    MAX_COORDINATE_PX,
    MAX_SEQ,
    Frame,
    checked_frame,
    clean_frames,
    missing_frame,
    point_quality,
)

SHAPE = (2, 3)


def good() -> np.ndarray[Any, np.dtype[np.float32]]:
    """No point at 0, 0, which may mean that it is missing."""
    return 1 + np.arange(12, dtype=np.float32).reshape(2, 3, 2)


def assert_valid(made: Frame) -> None:
    """What everything behind the boundary relies on."""
    points, scores = made.keypoints, made.confidence
    assert points.shape == (*SHAPE, 2)
    assert scores.shape == SHAPE
    assert points.dtype == scores.dtype == np.float32
    assert points.flags.c_contiguous
    assert scores.flags.c_contiguous
    missing = np.isnan(points).any(-1)
    assert (np.isnan(points).all(-1) == missing).all()
    assert (np.abs(points[~missing]) <= MAX_COORDINATE_PX).all()
    assert (scores[missing] == 0).all()
    assert ((scores >= 0) & (scores <= 1)).all()


def test_a_good_frame_comes_through_unchanged() -> None:
    confidence = np.linspace(0, 1, 6, dtype=np.float32)[::-1].reshape(SHAPE)
    made = checked_frame(good(), confidence, shape=SHAPE, seq=MAX_SEQ, t_source_ns=5, stream="cage 1")
    assert_valid(made)
    assert not made.is_clipped
    assert made.keypoints.tobytes() == good().tobytes()
    assert made.confidence.tobytes() == confidence.tobytes()
    assert (made.stream, made.seq, made.t_source_ns) == ("cage 1", MAX_SEQ, 5)


def test_a_frame_is_a_copy() -> None:
    """The camera loop may reuse its buffers."""
    points, scores = good(), np.ones(SHAPE, np.float32)
    points[0, 0, 1] = np.nan
    made = checked_frame(points, scores, shape=SHAPE)
    assert points[0, 0, 0] == 1  # half a point is repaired in the copy only
    assert scores[0, 0] == 1
    points[:] = 9
    scores[:] = 0
    assert made.keypoints[1, 2, 1] == 12
    assert made.confidence[1, 2] == 1


def test_no_confidence_means_one_where_a_point_is() -> None:
    points = good()
    points[1, 1] = np.nan
    made = checked_frame(points, shape=SHAPE)
    expected = np.ones(SHAPE)
    expected[1, 1] = 0
    np.testing.assert_array_equal(made.confidence, expected)


def test_half_a_point_is_no_point() -> None:
    points = good()
    points[0, 1, 0] = np.nan
    points[1, 2, 1] = np.nan
    points[0, 2] = [np.nan, np.inf]
    made = checked_frame(points, np.full(SHAPE, 0.5), shape=SHAPE)
    assert_valid(made)
    assert np.isnan(made.keypoints).all(-1).tolist() == [[False, True, True], [False, False, True]]
    assert made.confidence.tolist() == [[0.5, 0, 0], [0.5, 0.5, 0]]


def test_an_unknown_confidence_is_none_and_keeps_the_point() -> None:
    confidence = np.ones(SHAPE)
    confidence[0, 2] = np.nan
    made = checked_frame(good(), confidence, shape=SHAPE)
    assert made.confidence[0, 2] == 0
    assert made.keypoints[0, 2].tolist() == [5, 6]


def test_confidence_of_a_missing_point_is_not_looked_at() -> None:
    points, confidence = good(), np.ones(SHAPE)
    points[0, 0] = np.nan
    confidence[0, 0] = 17
    assert checked_frame(points, confidence, shape=SHAPE).confidence[0, 0] == 0


@pytest.mark.parametrize(
    "points",
    [
        good().tolist(),
        good().astype(np.float64),
        good().astype(np.float16),
        good().astype(np.int64),
        good().astype(">f4"),
        np.asfortranarray(good()),
        np.repeat(good(), 2, axis=1)[:, ::2],
        [[[None, None], [1, 1], [2, 2]]] * 2,
    ],
    ids=["lists", "float64", "float16", "int64", "big-endian", "fortran", "strided", "None"],
)
def test_anything_like_an_array_of_numbers_is_taken(points: Any) -> None:
    assert_valid(checked_frame(points, shape=SHAPE))


@pytest.mark.parametrize(
    ("points", "says"),
    [
        (np.zeros((3, 2, 2)), r"shape \(2, 3, 2\), got \(3, 2, 2\)"),
        (np.zeros((2, 3)), "got"),
        (np.zeros((1, 2, 3, 2)), "got"),
        (np.zeros((2, 3, 3)), "got"),
        (5.0, "got"),
        (None, "got"),
        ([], "got"),
        ([[[1, 2], [3]]], "must be numbers"),
        ([[["a", "b"]] * 3] * 2, "must be numbers"),
        ([[["1", "2"]] * 3] * 2, "must be numbers"),
        (np.full((2, 3, 2), "2020-01-01", dtype="M8[D]"), "must be numbers"),
        (np.ones((2, 3, 2), complex), "must be numbers"),
        (np.zeros((2, 3, 2), dtype=[("x", "f4")]), "must be numbers"),
        ({"x": 1}, "must be numbers"),
        ([[[10**400, 1]] * 3] * 2, "must be numbers"),
        (np.full((2, 3, 2), 1e300), "1000000 px"),
        (np.full((2, 3, 2), np.inf), "1000000 px"),
        (np.full((2, 3, 2), -np.inf), "1000000 px"),
        (np.full((2, 3, 2), 1.1e6), "1000000 px"),
    ],
)
def test_keypoints_that_are_refused(points: Any, says: str) -> None:
    with pytest.raises(FrameError, match=says) as refusal:
        checked_frame(points, shape=SHAPE, stream="cage 1", seq=7)
    assert "stream 'cage 1', seq 7" in str(refusal.value)


@pytest.mark.parametrize(
    ("confidence", "says"),
    [
        (np.zeros((3, 2)), r"confidence must have shape \(2, 3\), got \(3, 2\)"),
        (np.zeros(6), "confidence must have shape"),
        (1.0, "confidence must have shape"),
        ("high", "must be numbers"),
        (np.full(SHAPE, 2), r"\[0, 1\]"),
        (np.full(SHAPE, np.inf), r"\[0, 1\]"),
        (np.full(SHAPE, 1e300), r"\[0, 1\]"),
        (np.full(SHAPE, 95), r"\[0, 1\]"),
    ],
)
def test_confidence_that_is_refused(confidence: Any, says: str) -> None:
    with pytest.raises(FrameError, match=says):
        checked_frame(good(), confidence, shape=SHAPE)


@pytest.mark.parametrize("score", [1.0001, 1.05, 1.999])
@pytest.mark.parametrize("form", [np.float32, np.float64, list])
def test_a_confidence_above_1_is_taken_as_1_and_told(score: float, form: Any) -> None:
    """SLEAP's scores."""
    confidence = np.full(SHAPE, 0.5)
    confidence[1, 1] = score
    made = checked_frame(good(), confidence.tolist() if form is list else confidence.astype(form), shape=SHAPE)
    assert_valid(made)
    assert made.is_clipped
    assert made.confidence.tolist() == [[0.5, 0.5, 0.5], [0.5, 1, 0.5]]


@pytest.mark.parametrize(
    ("point", "score", "is_missing"),
    [
        ((0, 0), 0, True),
        ((0, 0), np.nan, True),
        ((0, 0), 0.01, False),
        ((-1, -1), -1, True),
        ((-1, -1), 0, True),
        ((-1, -1), 0.5, False),
        ((5, 6), -0.0001, True),
        ((5, 6), -np.inf, True),
        ((5, 6), 0, False),
        ((0, 6), 0, False),
        ((-1, 6), 0, False),
        ((0, 0), None, True),
        ((-1, -1), None, True),
        ((0, 6), None, False),
    ],
)
def test_what_a_missing_point_looks_like(point: Any, score: float | None, is_missing: bool) -> None:
    """Live and in files by one rule; None: no confidence at all."""
    points, confidence = good(), np.ones(SHAPE)
    points[1, 0] = point
    confidence[1, 0] = 0 if score is None else score
    made = checked_frame(points, None if score is None else confidence, shape=SHAPE)
    assert_valid(made)
    assert np.isnan(made.keypoints[1, 0]).all() == is_missing
    assert np.isnan(made.keypoints).sum() == 2 * is_missing


@pytest.mark.parametrize("place", [(0, 0), (1, 2)])
def test_one_bad_number_anywhere_is_found(place: tuple[int, int]) -> None:
    points = good()
    points[place][1] = 2e6
    with pytest.raises(FrameError):
        checked_frame(points, shape=SHAPE)
    confidence = np.ones(SHAPE)
    confidence[place] = 2
    with pytest.raises(FrameError):
        checked_frame(good(), confidence, shape=SHAPE)


@pytest.mark.parametrize("number", [-1, 2**63, 2**64])
def test_numbers_that_do_not_fit_the_wire_are_refused(number: int) -> None:
    with pytest.raises(FrameError, match=str(number)):
        checked_frame(good(), shape=SHAPE, seq=number)
    with pytest.raises(FrameError, match=str(number)):
        checked_frame(good(), shape=SHAPE, t_source_ns=number)


numbers = arrays.arrays(
    st.sampled_from(
        [np.float32, np.float64, np.float16, np.int32, np.uint8, np.bool_, np.complex64, "<U2", "M8[s]", object]
    ),
    st.one_of(st.just((2, 3, 2)), arrays.array_shapes(max_dims=4, max_side=4)),
)


@settings(max_examples=300, deadline=None)
@given(points=numbers, confidence=st.none() | numbers.map(lambda a: a[..., 0]))
def test_any_array_is_a_valid_frame_or_a_frame_error(points: Any, confidence: Any) -> None:
    try:
        made = checked_frame(points, confidence, shape=SHAPE)
    except FrameError:
        return
    assert_valid(made)


@settings(max_examples=200, deadline=None)
@given(
    points=arrays.arrays(np.float64, (2, 3, 2), elements=st.floats(width=64)),
    confidence=arrays.arrays(np.float64, SHAPE, elements=st.floats(-0.2, 2.2) | st.just(np.nan)),
)
def test_any_numbers_are_taken_exactly_when_they_are_in_range(points: Any, confidence: Any) -> None:
    """And points of files exactly as those of frames."""
    with np.errstate(over="ignore"):
        xy, scores = points.astype(np.float32), confidence.astype(np.float32)
    seen = ~np.isnan(xy).any(-1)
    fits = (np.abs(xy[seen]) <= MAX_COORDINATE_PX).all() and not (scores[seen] >= 2).any()
    is_sentinel = (xy == 0).all(-1) | (xy == -1).all(-1)
    seen &= ~(is_sentinel & ~(scores > 0)) & ~(scores < 0)
    file_points, file_scores, (counts, first) = xy[None], scores[None], np.zeros((2, 5), np.int64)
    clean_frames(file_points, file_scores, counts, first)
    assert fits == (counts[3:] == 0).all()
    try:
        made = checked_frame(points, confidence, shape=SHAPE)
    except FrameError:
        assert not fits
    else:
        assert fits
        assert_valid(made)
        assert (np.isnan(made.keypoints[..., 0]) == ~seen).all()
        assert made.keypoints.tobytes() == file_points.tobytes()
        assert made.confidence.tobytes() == file_scores.tobytes()
        assert made.is_clipped == (counts[2] > 0)


deep: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=15,
)


@settings(max_examples=300, deadline=None)
@given(points=deep, confidence=deep)
def test_any_object_is_a_valid_frame_or_a_frame_error(points: Any, confidence: Any) -> None:
    for arguments in ((points, None), (good(), confidence)):
        try:
            made = checked_frame(*arguments, shape=SHAPE)
        except FrameError:
            continue
        assert_valid(made)


def test_a_missing_frame_is_what_a_frame_without_points_is() -> None:
    made = missing_frame(SHAPE, seq=4, t_source_ns=9, stream="s")
    sent = checked_frame(np.full((2, 3, 2), np.nan), shape=SHAPE, seq=4, t_source_ns=9, stream="s")
    assert_valid(made)
    assert made.keypoints.tobytes() == sent.keypoints.tobytes()
    assert made.confidence.tobytes() == sent.confidence.tobytes()
    assert (made.seq, made.t_source_ns, made.stream) == (sent.seq, sent.t_source_ns, sent.stream)


def test_point_quality() -> None:
    points = np.repeat(good()[None], 5, axis=0)
    scores = np.ones((5, *SHAPE), np.float32)
    points[1, 0, 0] = np.nan
    scores[1, 0, 0] = 0
    scores[2] = 0.25
    points[3], scores[3] = np.nan, 0
    points[4, 0], scores[4, 0], scores[4, 1] = np.nan, 0, 0.3  # the mean is over the seen points alone
    out, missing = np.full((2, 5), 99, np.int32)
    point_quality(points, scores, 0.3, 1, 2, out, missing)
    assert out[:4].tolist() == [0, 1, 2, 3]
    assert missing.tolist() == [0, 1, 0, SHAPE[0] * SHAPE[1], SHAPE[1]]
    point_quality(points, scores, 0.31, 1, 2, out, missing)
    assert out[4] == 3
    point_quality(points, scores, 0.29, 1, 2, out, missing)
    assert out[4] == 1
