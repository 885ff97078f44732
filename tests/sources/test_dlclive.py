"""DeepLabCut-Live's processor, by its contract; against the real DLCLive where that is installed."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rtseg.client import ask_load
from rtseg.errors import ServeError
from rtseg.frames.skeleton import MICE7
from rtseg.sources.dlclive import RtsegProcessor
from tests.bundles import reordered_bundle
from tests.live import FREE_PORT, TIMEOUT_S, Child

POSE = np.ones((2, 7, 3))
Making = Callable[..., RtsegProcessor]


@pytest.fixture
def making(child: Child) -> Iterator[Making]:
    with ExitStack() as stack:

        def make(stream: str, **more: Any) -> RtsegProcessor:
            plain: dict[str, Any] = {"fps": 30.0, "address": child.frames, "animals": MICE7.animals}
            return stack.enter_context(closing(RtsegProcessor(stream, MICE7.keypoints, **(plain | more))))

        yield make


def test_a_pose_comes_back_as_it_was_and_its_answer_is_at_hand(making: Making) -> None:
    processor = making("answers", wait_s=TIMEOUT_S)
    assert processor.prediction is None
    for t in range(3):
        before = POSE.copy()
        assert processor.process(before, frame_time=100 + t / 30, record=True) is before
        np.testing.assert_array_equal(before, POSE)
        assert processor.prediction is not None
        assert (processor.prediction.seq, processor.prediction.t_source_ns) == (t, round((100 + t / 30) * 1e9))
        assert set(processor.prediction.label) == {"task1", "sniff_face"}
    assert processor.problems == 0


def test_without_waiting_the_newest_answer_comes_with_a_later_pose(making: Making) -> None:
    processor = making("later")
    deadline_s = time.monotonic() + TIMEOUT_S
    while processor.prediction is None and time.monotonic() < deadline_s:
        processor.process(POSE)
    assert processor.prediction is not None


def test_the_cameras_own_numbers_are_taken(making: Making) -> None:
    processor = making("numbers", wait_s=TIMEOUT_S)
    processor.process(POSE, seq=40)
    assert processor.prediction is not None
    assert processor.prediction.seq == 40


@pytest.mark.parametrize(
    ("pose", "kwargs"),
    [
        (np.ones((3, 7, 3)), {}),
        (np.ones((7, 3)), {}),
        (np.ones((2, 7, 4)), {}),
        (None, {}),
        ("pose", {}),
        ([[1, 2], [3]], {}),
        (POSE, {"frame_time": "now"}),
        (POSE, {"frame_time": float("nan")}),
        (POSE, {"frame_time": -5.0}),
        (POSE, {"seq": -1}),
        (POSE, {"seq": 2**70}),
        (POSE, {"seq": "x"}),
        (np.array([["a"] * 3] * 7), {}),
    ],
)
def test_nothing_is_raised_into_the_cameras_loop(making: Making, pose: Any, kwargs: dict[str, Any]) -> None:
    processor = making("broken", wait_s=TIMEOUT_S)
    processor.process(POSE)
    processor.wait_s = 0.1
    assert processor.process(pose, **kwargs) is pose
    deadline_s = time.monotonic() + TIMEOUT_S
    while not processor.problems and time.monotonic() < deadline_s:
        processor.process(POSE)  # the daemon's complaint comes with a later one
    assert processor.problems
    assert processor.problem
    processor.wait_s = TIMEOUT_S
    # The pose that could not be sent is a lost frame to the daemon.
    processor.process(POSE)
    assert processor.prediction is not None


def test_a_pose_of_one_animal_has_two_axes(making: Making, child: Child) -> None:
    with pytest.raises(ServeError, match="without a counterpart"):
        making("one", animals=("resident",))
    processor = making("two")
    processor.process(POSE[0])
    assert "must have shape (2, 7, 2)" in processor.problem


def test_a_clock_that_runs_back_begins_the_stream_afresh(making: Making) -> None:
    processor = making("back", wait_s=TIMEOUT_S)
    for t in (50.0, 50.033, 3.0):
        processor.process(POSE, frame_time=t)
    assert processor.prediction is not None
    assert processor.problems == 0
    assert [event.fields["reason"] for event in processor.events if event.type == "closed"] == ["reopened"]


def test_a_camera_that_counts_anew_begins_the_stream_afresh(making: Making) -> None:
    processor = making("anew", wait_s=0.02)
    for n in range(100, 160):
        processor.process(POSE, seq=n)
    deadline_s, n = time.monotonic() + TIMEOUT_S, 0
    while not processor.problems and time.monotonic() < deadline_s:
        processor.process(POSE, seq=n)
        n += 1
    assert "say hello again where a camera counts anew" in processor.problem
    assert processor.prediction is None
    processor.wait_s = TIMEOUT_S
    processor.process(POSE, seq=n)
    assert processor.prediction is not None
    assert (processor.prediction.seq, processor.problems) == (n, 1)


def test_save_writes_the_answers(making: Making, tmp_path: Path) -> None:
    processor, path = making("saved", wait_s=TIMEOUT_S), tmp_path / "answers.csv"
    assert processor.save(str(path)) == 0  # none yet
    for t in range(4):
        processor.process(POSE, frame_time=float(t) / 30)
    assert processor.save() == 0
    assert processor.save(str(path)) == 1
    assert processor.save(str(tmp_path / "none" / "a.csv")) == -1
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["seq"] for row in rows] == ["0", "1", "2", "3"]
    assert processor.prediction is not None
    newest = processor.prediction
    assert rows[-1]["task1"] == newest.label["task1"]
    assert np.float32(rows[-1]["task1.attack"]) == np.float32(newest.probs["task1"]["attack"])


def test_save_names_probabilities_by_the_bundle_that_gave_them(
    making: Making, child: Child, tiny_bundle: Path, tmp_path: Path
) -> None:
    processor, path, answers = making("reordered", wait_s=TIMEOUT_S), tmp_path / "answers.csv", []
    for t in range(2):
        if t == 1:
            ask_load(child.frames, reordered_bundle(tiny_bundle, tmp_path / "reordered"), stream="reordered")
        processor.process(POSE, frame_time=t / 30)
        answers.append(processor.prediction)
    assert processor.save(str(path)) == 1
    with path.open() as file:
        for row, answer in zip(csv.DictReader(file), answers, strict=True):
            assert answer is not None
            for head, probs in answer.probs.items():
                assert {name: np.float32(row[f"{head}.{name}"]) for name in probs.classes} == dict(probs.items())
    first, second = (answer.probs["task1"].classes for answer in answers if answer is not None)
    assert first == second[::-1]


def test_making_one_without_a_daemon_says_so() -> None:
    with pytest.raises(ServeError, match="no daemon at"):
        RtsegProcessor("x", ["nose"], fps=30, address=FREE_PORT.replace("*", "1"), timeout_s=0.05)


def test_the_real_dlclive_calls_it(making: Making, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its network is replaced, which is no part of the contract: cropping, resizing and the call are its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *_, **__: None)  # it warns of its optional parts
        dlclive = pytest.importorskip("dlclive", reason="DeepLabCut-Live is not installed (docs/sources/dlclive.md)")

    class Runner:
        def get_pose(self, frame: Any) -> np.ndarray:
            return POSE * np.array([10.0, 20.0, 0.5])

        init_inference = get_pose

        def close(self) -> None: ...

    monkeypatch.setattr("dlclive.factory.build_runner", lambda *_, **__: Runner())

    class Processor(RtsegProcessor, dlclive.Processor):  # type: ignore[misc, name-defined]
        """As the GUI wants it: of the real base class."""

    plain = making("contract")
    processor = Processor(
        "real", MICE7.keypoints, fps=30, animals=MICE7.animals, address=plain.publisher.address, wait_s=TIMEOUT_S
    )
    with closing(processor):
        live = dlclive.DLCLive("model", processor=processor, resize=0.5, cropping=[100, 400, 50, 300])
        frame = np.zeros((400, 500, 3), np.uint8)
        live.init_inference(frame, frame_time=1.0)
        pose = live.get_pose(frame, frame_time=1.0 + 1 / 30)
        np.testing.assert_array_equal(pose[0, 0], [10 / 0.5 + 100, 20 / 0.5 + 50, 0.5])
        assert processor.problems == 0, processor.problem
        assert processor.prediction is not None
        assert (processor.prediction.seq, processor.prediction.t_source_ns) == (1, round((1 + 1 / 30) * 1e9))
