"""A source's frames on their way to a real daemon, whatever either end does."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rtseg.client import Publisher, Subscriber
from rtseg.errors import FrameError, SkeletonError
from rtseg.frames.skeleton import MICE7, Skeleton
from rtseg.sources.bridge import Bridge, BridgeCounts, SourceFrame
from rtseg.sources.dlclive import RtsegProcessor
from rtseg.sources.senders import OtherSenderError
from rtseg.wire.messages import PredictionMessage
from tests.live import TIMEOUT_S, Child, daemon

POSE = np.ones((2, 7, 3), np.float32)
FPS = 30.0


class Queued:
    """A source whose frames lie in a queue; an error there is raised."""

    clock = "test"
    skeleton = MICE7

    def __init__(self, *frames: SourceFrame | Exception) -> None:
        self.waiting = deque(frames)

    def receive(self, timeout_s: float) -> SourceFrame | None:
        if not self.waiting:
            return None
        frame = self.waiting.popleft()
        if isinstance(frame, Exception):
            raise frame
        return frame

    def close(self) -> None:
        pass


def drain(bridge: Bridge, source: Queued) -> None:
    while source.waiting:
        bridge.step(0)


def receive_until(subscriber: Subscriber, found: Callable[[PredictionMessage], bool]) -> list[int]:
    """The numbers of the answers until one that is `found`."""
    numbers: list[int] = []
    while (message := subscriber.receive(TIMEOUT_S)) is not None:
        if isinstance(message, PredictionMessage):
            numbers.append(message.seq)
            if found(message):
                return numbers
    raise AssertionError(f"answers {numbers} came, and not the one that is waited for")


def test_messages_that_cannot_be_used_are_counted_and_leave_a_gap(
    child: Child, caplog: pytest.LogCaptureFixture
) -> None:
    source = Queued(SourceFrame(POSE), FrameError("first"), FrameError("second"), SourceFrame(POSE), SourceFrame(POSE))
    with Publisher(child.frames, "unusable", MICE7, FPS) as publisher, Subscriber(child.predictions, "unusable") as sub:
        bridge = Bridge(source, publisher, FPS)
        drain(bridge, source)
        assert receive_until(sub, lambda answer: answer.seq == 4) == [0, 1, 2, 3, 4]
        counters = publisher.close()
    assert bridge.counts == BridgeCounts(frames=3, unusable=2)
    assert (counters["frames"], counters["filled"]) == (3, 2)
    # The second one is told later, with a count.
    assert [r.getMessage() for r in caplog.records if "cannot be used" in r.getMessage()] == [
        "stream 'unusable': a message cannot be used and is left out: first"
    ]


def test_messages_of_a_second_program_leave_no_gap(child: Child) -> None:
    source = Queued(SourceFrame(POSE), OtherSenderError("another"), OtherSenderError("another"), SourceFrame(POSE))
    with Publisher(child.frames, "second", MICE7, FPS) as publisher, Subscriber(child.predictions, "second") as sub:
        bridge = Bridge(source, publisher, FPS)
        drain(bridge, source)
        assert receive_until(sub, lambda answer: answer.seq == 1) == [0, 1]
    assert bridge.counts == BridgeCounts(frames=2, others=2)
    assert bridge.counts.summary() == "2 frames sent, 2 messages of a second program left out"


def test_frames_that_the_daemon_refuses_are_counted(child: Child) -> None:
    percent = POSE * np.float32(50)
    source = Queued(SourceFrame(percent))
    with Publisher(child.frames, "refused", MICE7, FPS) as publisher, Subscriber(child.predictions, "refused") as sub:
        bridge = Bridge(source, publisher, FPS)
        deadline_s = time.monotonic() + TIMEOUT_S
        # The complaint comes back while later frames are sent.
        while not bridge.counts.refused and time.monotonic() < deadline_s:
            source.waiting.append(SourceFrame(POSE))
            bridge.step(0)
            sub.receive(0.01)
        assert bridge.counts.refused == 1
        source.waiting.append(SourceFrame(POSE))
        drain(bridge, source)
        last = bridge.counts.frames - 1
        assert receive_until(sub, lambda answer: answer.seq == last)[-1] == last


def test_a_source_that_begins_again_gets_a_fresh_stream(child: Child) -> None:
    """By its own word, by its time, and by numbers that begin again, about which the daemon complains."""
    second = 1_000_000_000
    source = Queued(*(SourceFrame(POSE, None, t * second // 30 + 9 * second) for t in range(3)))
    with Publisher(child.frames, "again", MICE7, FPS) as publisher, Subscriber(child.predictions, "again") as sub:
        bridge = Bridge(source, publisher, FPS)
        drain(bridge, source)
        assert receive_until(sub, lambda answer: answer.seq == 2) == [0, 1, 2]
        source.waiting += [SourceFrame(POSE, None, 0), SourceFrame(POSE, None, second // 30)]
        drain(bridge, source)
        assert receive_until(sub, lambda answer: answer.seq == 1) == [0, 1]
        source.waiting.append(SourceFrame(POSE, 7, None, begins=True))
        source.waiting += [SourceFrame(POSE, n) for n in range(8, 100)]
        drain(bridge, source)
        assert receive_until(sub, lambda answer: answer.seq == 99)[-93:] == list(range(7, 100))
        assert bridge.counts.restarts == 2
        deadline_s, n = time.monotonic() + TIMEOUT_S, 0
        while bridge.counts.restarts < 3 and time.monotonic() < deadline_s:
            source.waiting.append(SourceFrame(POSE, n))
            bridge.step(0)
            sub.receive(0.01)
            n += 1
        assert bridge.counts.restarts == 3
        source.waiting.append(SourceFrame(POSE, n))
        drain(bridge, source)
        assert receive_until(sub, lambda answer: answer.seq == n)[-1] == n


def test_a_daemon_that_goes_away_and_comes_back(tiny_bundle: Path, tmp_path: Path) -> None:
    """For a bridge and for a processor in a camera's loop: nothing is raised, the frames meanwhile are kept."""
    addresses = {"frames": f"ipc://{tmp_path}/f", "predictions": f"ipc://{tmp_path}/p"}
    source = Queued()
    with daemon(tiny_bundle, **addresses) as first:
        publisher = Publisher(first.frames, "bridge", MICE7, FPS)
        processor = RtsegProcessor("loop", MICE7.keypoints, animals=MICE7.animals, fps=FPS, address=first.frames)

        def send() -> None:
            source.waiting.append(SourceFrame(POSE))
            bridge.step(0)
            processor.process(POSE)

        bridge = Bridge(source, publisher, FPS)
        send()
        assert publisher.flush(TIMEOUT_S)
    deadline_s = time.monotonic() + 3 * TIMEOUT_S
    while not (publisher.is_away and processor.publisher.is_away) and time.monotonic() < deadline_s:
        send()
    for _ in range(50):
        send()
    with publisher, daemon(tiny_bundle, **addresses) as second, Subscriber(second.predictions) as sub:
        while (publisher.is_away or processor.publisher.is_away) and time.monotonic() < deadline_s:
            send()
            sub.receive(0.02)
        send()
        last = bridge.counts.frames - 1
        wanted = {("bridge", last), ("loop", last)}
        while wanted and (message := sub.receive(TIMEOUT_S)) is not None:
            wanted -= {(message.stream, getattr(message, "seq", None))}
        assert not wanted
        while processor.prediction is None or processor.prediction.seq < last:
            processor.process(POSE)
            assert time.monotonic() < deadline_s
        publisher.close()
        processor.close()
    counts = bridge.counts
    assert (counts.reconnects, counts.unusable, counts.restarts) == (1, 0, 0)
    assert (processor.publisher.reconnects, processor.problems) == (1, 0)


def test_it_runs_until_the_source_is_silent_or_it_is_stopped(child: Child) -> None:
    source = Queued(*(SourceFrame(POSE) for _ in range(3)))
    with Publisher(child.frames, "silence", MICE7, FPS) as publisher:
        bridge = Bridge(source, publisher, FPS)
        assert bridge.run(0.01).frames == 3
        source.waiting.append(SourceFrame(POSE))
        bridge.stop()
        assert bridge.run().frames == 3


def test_what_ends_a_source_is_raised(child: Child) -> None:
    source = Queued(SourceFrame(POSE), SkeletonError("other channels"))
    with (
        Publisher(child.frames, "ends", MICE7, FPS) as publisher,
        pytest.raises(SkeletonError, match="other channels"),
    ):
        Bridge(source, publisher, FPS).run()


def test_names_that_the_model_does_not_know_are_refused_at_once(child: Child) -> None:
    with pytest.raises(Exception, match="without a counterpart: nose"):
        Publisher(child.frames, "names", Skeleton(("resident", "intruder"), ("snout", *MICE7.keypoints[1:])), FPS)


def test_a_problem_is_told_again_with_a_count(
    child: Child, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter((0.0, 5.0, 9.0, 10.5))
    source = Queued(*[FrameError("bad")] * 4)
    with Publisher(child.frames, "told", MICE7, FPS) as publisher, caplog.at_level(logging.WARNING, "rtseg.sources"):
        bridge = Bridge(source, publisher, FPS)
        with monkeypatch.context() as patch:
            patch.setattr("rtseg.sources.bridge.time.monotonic", lambda: next(times))
            drain(bridge, source)
    assert [record.getMessage().partition("left out: ")[2] for record in caplog.records] == [
        "bad",
        "bad (2 more since it was last told)",
    ]


def test_a_summary_says_what_is_not_nothing() -> None:
    assert BridgeCounts(frames=3).summary() == "3 frames sent"
    assert (
        BridgeCounts(3, unusable=1, refused=2).summary()
        == "3 frames sent, 1 message that could not be used, 2 refused by the daemon"
    )
