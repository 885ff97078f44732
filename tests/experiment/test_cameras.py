"""Who is there, and what is wrong with them."""

from __future__ import annotations

from typing import Any

from rtseg.config import CameraSettings
from rtseg.experiment.cameras import CameraWatch
from rtseg.wire.messages import PredictionMessage, StreamEvent


def answer(stream: str) -> PredictionMessage:
    return PredictionMessage(stream, 7, 0, 0, 0, {}, {}, {}, (), 0, "m")


def event(kind: str, stream: str, **fields: Any) -> StreamEvent:
    return StreamEvent(kind, stream, {"type": kind, "stream": stream, "v": 1, **fields})


def watch() -> CameraWatch:
    return CameraWatch({"top": CameraSettings(30.0), "side": CameraSettings()})


def test_a_camera_is_there_with_its_first_answer_and_gone_when_it_closes() -> None:
    cameras = watch()
    assert cameras.missing == ["top", "side"]
    assert cameras.follow(answer("top")) == ["camera top: first answer, frame 7"]
    assert cameras.follow(answer("top")) == []
    assert cameras.missing == ["side"]
    cameras.follow(answer("side"))
    cameras.follow(event("closed", "top", reason="bye"))
    assert cameras.missing == ["top"]
    cameras.follow(event("opened", "top"))
    assert cameras.missing == []
    assert cameras.problems == []


def test_what_is_wrong_is_kept() -> None:
    cameras = watch()
    cameras.follow(answer("door"))
    cameras.follow(answer("top"))
    cameras.follow(event("closed", "top", reason="idle"))
    cameras.follow(event("rate", "side", declared=30.0, measured=60.0))
    assert cameras.follow(event("stale", "side", seq=3)) == []
    assert cameras.problems == [
        "camera door, which the experiment does not expect: first answer, frame 7",
        "camera top: closed (idle)",
        "camera side: rate declared 30.0, measured 60.0",
        "camera side: no frame for two intervals",
    ]


def test_another_model_and_animals_of_another_size_are_told() -> None:
    cameras = watch()
    cameras.follow(event("model", "top", model="abc", heads=[]))
    cameras.follow(event("scale", "top", ratio=2.0, reason="animals appear twice as large"))
    cameras.follow(event("clock", "top", jumps=1))
    assert cameras.problems == [
        "camera top: another model answers from now on (hash abc)",
        "camera top: scale ratio 2.0, reason animals appear twice as large",
        "camera top: clock jumps 1",
    ]


def test_another_rate_than_expected_is_told() -> None:
    cameras = watch()
    assert cameras.check_rates({"top": {"declared": 29.97}, "side": {"declared": 5.0}}) == []
    assert cameras.check_rates({"top": {"declared": 60.0}}) == [
        "camera top: declares 60 frames per second, where 30 are expected"
    ]
    assert len(cameras.problems) == 1


def test_a_recording_in_trouble_is_told_once_for_all_cameras() -> None:
    cameras = watch()
    full = "the recording is now 'failing': No space left on device, 3 records lost so far"
    told = [cameras.follow(event("recorder", name, state="failing", reason="No space left on device", lost=3))
            for name in ("top", "side")]  # fmt: skip
    assert told == [[full], []]
    again = "the recording is now 'recording', 5 records lost so far"
    assert cameras.follow(event("recorder", "top", state="recording", reason="", lost=5)) == [again]
    assert cameras.problems == [full]
