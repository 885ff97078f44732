"""LSL streams from real outlets, on the loopback interface (tests/lsl_api.cfg)."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import numpy as np
import pytest

from rtseg.errors import FrameError, ServeError, SkeletonError
from rtseg.sources.lsl import LslSource, lsl_predicate
from tests.live import REPO, TIMEOUT_S
from tests.sources.senders import lsl_module, lsl_outlet

pylsl = lsl_module()
LABELS = ["nose_x", "nose_y", "nose_likelihood", "tail_x", "tail_y", "tail_likelihood"]


@pytest.fixture
def name(tmp_path: Path) -> str:
    """Of a stream that no other test has."""
    return f"{tmp_path.name} {time.monotonic_ns()}"


def receive_until(source: LslSource, deadline_s: float) -> None:
    while time.monotonic() < deadline_s:
        source.receive(0.1)


def test_samples_are_frames_and_their_stamps_are_times(name: str) -> None:
    outlet = lsl_outlet(name, [*LABELS, "pupil"])
    with closing(LslSource(lsl_predicate(name, "Pose", name))) as source:
        assert (source.skeleton.animals, source.skeleton.keypoints) == (("animal",), ("nose", "tail"))
        assert (source.fps, source.left_out, source.clock) == (30.0, ["pupil"], "lsl")
        outlet.push_sample([1.5, 2.5, 0.5, float("nan"), 4.0, 1.0, 9.0], 12.25)
        frame = source.receive(TIMEOUT_S)
        assert source.receive(0) is None
        outlet.push_sample([0.0] * 7, 1e300)
        beyond = source.receive(TIMEOUT_S)
    assert beyond is not None
    assert beyond.t_ns is None
    assert frame is not None
    assert (frame.number, frame.t_ns) == (None, 12_250_000_000)
    np.testing.assert_array_equal(frame.pose, [[[1.5, 2.5, 0.5], [np.nan, 4.0, 1.0]]])


def test_a_channel_may_carry_the_cameras_number(name: str) -> None:
    outlet = lsl_outlet(name, ["frame", *LABELS], form="double64")
    with closing(LslSource(lsl_predicate(name, "", ""))) as source:
        outlet.push_sample([2.0**40, *range(6)], 1.0)
        outlet.push_sample([0.5, *range(6)], 1.0)
        frame = source.receive(TIMEOUT_S)
        assert frame is not None
        assert frame.number == 2**40
        with pytest.raises(FrameError, match="expected a frame's number"):
            source.receive(TIMEOUT_S)


def test_a_stream_that_ends_is_waited_for(name: str, caplog: pytest.LogCaptureFixture) -> None:
    outlet = lsl_outlet(name, LABELS)
    with closing(LslSource(lsl_predicate(name, "", ""))) as source:
        outlet.push_sample(list(range(6)), 1.0)
        assert source.receive(TIMEOUT_S) is not None
        del outlet
        deadline_s = time.monotonic() + TIMEOUT_S
        while "has ended" not in caplog.text and time.monotonic() < deadline_s:
            assert source.receive(0.05) is None
        again = lsl_outlet(name, LABELS, source_id="another process")
        frame = None
        while frame is None and time.monotonic() < deadline_s:
            again.push_sample(list(range(6)), 50.0)
            frame = source.receive(0.1)
        assert frame is not None
        assert frame.t_ns == 50_000_000_000
    assert "is back" in caplog.text


def test_a_stream_that_comes_back_with_other_channels_is_refused(name: str, caplog: pytest.LogCaptureFixture) -> None:
    outlet = lsl_outlet(name, LABELS)
    with closing(LslSource(lsl_predicate(name, "", ""))) as source:
        del outlet
        deadline_s = time.monotonic() + TIMEOUT_S
        while "has ended" not in caplog.text and time.monotonic() < deadline_s:
            assert source.receive(0.05) is None
        again = lsl_outlet(name, LABELS[::-1])
        with pytest.raises(SkeletonError, match="came back with other channels: tail_likelihood"):
            receive_until(source, deadline_s)
        del again
        faster = lsl_outlet(name + "f", LABELS, rate=60.0)
        source._predicate = lsl_predicate(name + "f", "", "")
        with pytest.raises(ServeError, match="came back with 60 frames per second; before: 30"):
            receive_until(source, deadline_s)
        del faster


def test_one_that_is_gone_again_when_it_is_opened_is_waited_for(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    outlet = lsl_outlet(name, LABELS)
    with closing(LslSource(lsl_predicate(name, "", ""))) as source:
        source.close()
        with monkeypatch.context() as gone:
            gone.setattr(pylsl.StreamInlet, "open_stream", lambda *_: (_ for _ in ()).throw(pylsl.util.LostError()))
            assert source.receive(TIMEOUT_S) is None
        frame, deadline_s = None, time.monotonic() + TIMEOUT_S
        while frame is None and time.monotonic() < deadline_s:
            outlet.push_sample(list(range(6)), 50.0)
            frame = source.receive(0.1)
        assert frame is not None


@contextmanager
def other_outlets(name: str, *source_ids: str) -> Iterator[None]:
    """Senders of one name, each in a process of its own: liblsl answers for all outlets of a process at once."""
    code = (
        "import sys\nfrom tests.sources.test_lsl import LABELS, lsl_outlet\n"
        "outlet = lsl_outlet(sys.argv[1], LABELS, source_id=sys.argv[2])\nprint('there', flush=True)\nsys.stdin.read()"
    )
    with ExitStack() as opened:
        for source_id in source_ids:
            command = [sys.executable, "-c", code, name, source_id]
            process = opened.enter_context(
                subprocess.Popen(command, cwd=REPO, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
            opened.callback(process.kill)
            assert process.stdout is not None
            assert process.stdout.readline() == "there\n"
        yield


def test_where_several_answer_none_is_guessed(name: str, caplog: pytest.LogCaptureFixture) -> None:
    with other_outlets(name, "camera A", "camera B"):
        with pytest.raises(ServeError, match=r"2 LSL streams with name=.*source_id='camera"):
            LslSource(lsl_predicate(name, "", ""))
        with closing(LslSource(lsl_predicate(name, "", "camera B"))) as source:
            source._predicate = lsl_predicate(name, "", "")
            source.close()  # as if it had ended: the one with the same source id is the same camera
            assert source.receive(0.1) is None
            assert "is back" in caplog.text
            caplog.clear()
            source.close()
            source._source_id = "camera C"
            assert source.receive(2.0) is None
    assert "2 LSL streams with" in caplog.text
    assert "or the one with source_id='camera C'" in caplog.text
    assert "is back" not in caplog.text


def test_what_cannot_be_a_source(name: str) -> None:
    with pytest.raises(ServeError, match=r"no LSL stream with name='none' within 0.01 s"):
        LslSource("name='none'", wait_s=0.01)
    texts = lsl_outlet(name + "t", LABELS, form="string")
    with pytest.raises(ServeError, match="carries texts"):
        LslSource(lsl_predicate(name + "t", "", ""))
    unnamed = lsl_outlet(name + "u", ["", "", ""])
    with pytest.raises(SkeletonError, match="expected channels named like nose_x"):
        LslSource(lsl_predicate(name + "u", "", ""))
    irregular = lsl_outlet(name + "i", LABELS, rate=0.0)
    with pytest.raises(ServeError, match="says no rate"):
        LslSource(lsl_predicate(name + "i", "", ""))
    with closing(LslSource(lsl_predicate(name + "i", "", ""), fps=25.0)) as source:
        assert source.fps == 25.0
    regular = lsl_outlet(name + "r", LABELS)
    with pytest.raises(ServeError, match="the LSL stream says 30 frames per second"):
        LslSource(lsl_predicate(name + "r", "", ""), fps=25.0)
    del texts, unnamed, irregular, regular


def test_predicates() -> None:
    assert lsl_predicate("a", "b", "c") == "name='a' and type='b' and source_id='c'"
    with pytest.raises(ServeError, match="which LSL stream"):
        lsl_predicate("", "", "")
    with pytest.raises(ServeError, match="without quotes"):
        lsl_predicate("a' or 'b", "", "")
