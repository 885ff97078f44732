"""The examples of docs/sources run: as they stand, against a daemon, with stand-ins where a page says so."""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import zmq

from rtseg.client import Subscriber, ask_arm
from rtseg.frames.skeleton import MICE7
from rtseg.inference.classifier import load
from rtseg.sources.points import DeclaredPoints
from rtseg.sources.zeromq import ZmqSource
from rtseg.wire.messages import PredictionMessage, StreamEvent
from tests.live import REPO, TIMEOUT_S, Child, daemon, random_walk, write_gapped_poses
from tests.sources.senders import osc_client, pose_of

PAGES = REPO / "docs" / "sources"
MICE7_POSE = np.ones((2, 7, 3))
TRIGGER = """
[triggers.always]
conditions = [{ head = "task1", behaviours = ["attack", "investigation", "mount", "other"] }]
on = 0.5
off = 0.5
min_duration_s = 0.0
pulse_s = 0.0
max_duty = 1.0
grace_s = 60.0
never_on = []
"""


def example(page: str, holding: str) -> str:
    """The page's Python example that holds these words."""
    blocks = re.findall(r"^```python\n(.*?)^```$", (PAGES / page).read_text(encoding="utf-8"), re.M | re.DOTALL)
    (found,) = [block for block in blocks if holding in block]
    return str(found)


def run_example(page: str, holding: str) -> dict[str, Any]:
    """The names that it defines."""
    names: dict[str, Any] = {}
    exec(compile(example(page, holding), page, "exec"), names)
    return names


def test_a_closed_loop_ends_with_the_light_off(child: Child) -> None:
    loop, lights = run_example("python.md", "def closed_loop")["closed_loop"], []
    walk = random_walk(20, 1)
    loop((pose_of(walk, t) for t in range(len(walk))), lights.append, child.frames)
    assert lights == [False] * 21  # without a trigger it never goes on

    def broken() -> Iterator[np.ndarray]:
        yield pose_of(walk, 0)
        raise RuntimeError("the camera fell")

    with pytest.raises(RuntimeError, match="the camera fell"):
        loop(broken(), lights.append, child.frames)
    assert lights[-1] is False


def test_a_closed_loop_at_a_daemon_with_triggers(tiny_bundle: Path, tmp_path: Path) -> None:
    file = tmp_path / "triggers.toml"
    file.write_text(TRIGGER, encoding="utf-8")
    names, walk = run_example("python.md", "def closed_loop"), random_walk(20, 1)
    names["ANSWER_S"] = TIMEOUT_S  # a busy machine
    lights: list[bool] = []
    with daemon(tiny_bundle, triggers=str(file)) as child:
        names["closed_loop"]((pose_of(walk, t) for t in range(20)), lights.append, child.frames)
        assert lights == [False] * 21, "it is not armed"
        ask_arm(child.frames)
        lights.clear()
        names["closed_loop"]((pose_of(walk, t) for t in range(20)), lights.append, child.frames)
    assert lights.count(True) >= 18  # an event may be heard with the next frame
    assert lights[-1] is False


def test_a_closed_loop_follows_its_triggers(child: Child) -> None:
    """Every kind of message, in the order of a daemon with triggers; None is silence."""

    def event(kind: str, number: int, **more: Any) -> StreamEvent:
        return StreamEvent(kind, "cage1", {"event": number, **more})

    def answer(seq: int) -> PredictionMessage:
        return PredictionMessage("cage1", seq, 0, 0, 0, {}, {}, {}, (), 0, "")

    fired: dict[str, Any] = {"decision": "fired", "arm": "real"}
    frames: list[tuple[list[Any], bool]] = [
        ([answer(0), None], False),
        ([event("trigger", 1, **fired), answer(1), None], True),
        ([answer(2), event("trigger", 2, **fired | {"arm": "sham"}), None], True),
        ([answer(3), event("trigger_end", 1), None], False),
        ([event("trigger", 0, decision="refractory", arm="real"), answer(4), None], False),
        ([answer(5), event("trigger", 3, **fired), None], True),
        ([None], False),  # no answer in time
        ([event("trigger", 4, **fired), answer(7), None], True),
        ([answer(8), event("closed", 0), None], False),
    ]
    messages = [message for sent, _ in frames for message in sent]
    loop, lights = run_example("python.md", "def closed_loop")["closed_loop"], []
    with mock.patch.object(Subscriber, "receive", side_effect=messages) as receive:
        loop(([MICE7_POSE] * len(frames)), lights.append, child.frames)
    assert lights == [*(light for _, light in frames), False]
    assert receive.call_count == len(messages)


def test_the_loop_around_sleap_nn(child: Child, tiny_bundle: Path) -> None:
    """With a stand-in of its Predictor: instances in any order, each with its class."""
    walk = random_walk(30, 2)

    class Outputs:
        def __init__(self, t: int) -> None:
            self.order = [1, 0] if t % 2 else [0, 1]
            self.t = t

        def numpy(self) -> dict[str, Any]:
            inds = np.repeat(np.array(self.order)[None, :, None], 7, axis=2)
            return {
                "pred_keypoints": walk.keypoints[None, self.t, self.order],
                "pred_peak_values": walk.confidence[None, self.t, self.order],
                "pred_class_inds": inds,
            }

    class Predictor:
        skeleton = types.SimpleNamespace(nodes=[types.SimpleNamespace(name=name) for name in MICE7.keypoints])

        @classmethod
        def from_model_paths(cls, models: list[str], *, device: str, batch_size: int) -> Predictor:
            assert (models, batch_size) == (["model"], 1)
            return cls()

        def predict(self, images: np.ndarray, *, make_labels: bool) -> list[Outputs]:
            assert images.shape == (1, 8, 8, 1)
            assert not make_labels
            return [Outputs(int(images[0, 0, 0, 0]))]

    stand_in = types.ModuleType("sleap_nn.inference.predictor")
    stand_in.Predictor = Predictor  # type: ignore[attr-defined]
    names = {"sleap_nn": types.ModuleType("sleap_nn"), "sleap_nn.inference": types.ModuleType("sleap_nn.inference")}
    camera = [(t, np.full((8, 8, 1), t, np.uint8)) for t in range(len(walk))]
    with (
        mock.patch.dict(sys.modules, {**names, "sleap_nn.inference.predictor": stand_in}),
        Subscriber(child.predictions, "sleap") as subscriber,
    ):
        run_example("sleap.md", "def sleap_loop")["sleap_loop"](camera, ["model"], child.frames, animals=MICE7.animals)
        probs = []
        while (message := subscriber.receive(TIMEOUT_S)) is not None and getattr(message, "type", "") != "closed":
            if isinstance(message, PredictionMessage):
                probs.append(np.concatenate([message.probs[head] for head in ("task1", "sniff_face")]))
    assert np.array(probs, np.float32).tobytes() == load(tiny_bundle).run(walk).probs.tobytes()


def test_the_sender_of_float32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    walk = random_walk(4, 3)
    write_gapped_poses(walk, tmp_path / "poses.csv")
    monkeypatch.chdir(tmp_path)
    source = ZmqSource("tcp://127.0.0.1:*", DeclaredPoints(walk.skeleton.animals, walk.skeleton.keypoints))
    with closing(source), zmq.Context() as context, mock.patch("zmq.Context", return_value=context):
        text = example("bonsai.md", "zmq.PUSH").replace("tcp://127.0.0.1:5761", source.address)
        names: dict[str, Any] = {}
        exec(text.replace("time.sleep(1 / 30)", ""), names)
        with closing(names["socket"]):
            for t in range(len(walk)):
                frame = source.receive(TIMEOUT_S)
                assert frame is not None
                assert frame.number == t
                np.testing.assert_array_equal(frame.pose, pose_of(walk, t))


def test_the_sender_of_osc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rtseg.sources.osc import OscSource

    osc_client(9).close()  # skips where python-osc is not installed
    walk = random_walk(4, 3)
    write_gapped_poses(walk, tmp_path / "poses.csv")
    monkeypatch.chdir(tmp_path)
    declared = DeclaredPoints(walk.skeleton.animals, walk.skeleton.keypoints)
    with closing(OscSource("127.0.0.1", 0, declared)) as source:
        names: dict[str, Any] = {}
        text = example("bonsai.md", "SimpleUDPClient").replace("5760", str(source.port))
        exec(text.replace("time.sleep(1 / 30)", ""), names)
        with closing(names["client"]):
            for t in range(len(walk)):
                frame = source.receive(TIMEOUT_S)
                assert frame is not None
                assert frame.number == t
                np.testing.assert_array_equal(frame.pose, pose_of(walk, t))
