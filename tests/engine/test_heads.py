"""A bundle with some heads only: nothing is computed for the others, and those that are left answer bit for bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import rtseg
from rtseg.bundle.bundle import Bundle, load_bundle
from rtseg.engine.cpu.numba_engine import NumbaEngine
from rtseg.errors import RtsegError, SettingError
from rtseg.playback.replay import replay
from rtseg.playback.verify import verify_recording
from tests.engine.networks import F32, SPECS, bundle_of, features_of
from tests.live import Child, daemon, random_walk


def columns_of(bundle: Bundle, names: list[str]) -> list[int]:
    offsets = bundle.network.offsets
    return [
        column
        for h, head in enumerate(bundle.heads)
        if head.name in names
        for column in range(offsets[h], offsets[h + 1])
    ]


def run(bundle: Bundle, features: F32) -> F32:
    return NumbaEngine(bundle.network, bundle.weights, 1).run(features)


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("small", ["face"]),
        ("thirteen heads", ["h3", "h7", "h12"]),
        ("wide heads", ["a"]),
        ("no head layers", ["task1"]),
        ("cells beside convolutions", ["face"]),
        ("nothing refined", ["task1"]),
    ],
)
def test_the_heads_that_are_left_give_the_same_bits(kind: str, names: list[str]) -> None:
    whole, features = bundle_of(SPECS[kind]), features_of(SPECS[kind], 300)
    few = whole.select_heads(names)
    assert [head.name for head in few.heads] == names
    assert few.network.multiply_adds < whole.network.multiply_adds
    expected = np.ascontiguousarray(run(whole, features)[:, columns_of(whole, names)])
    assert run(few, features).tobytes() == expected.tobytes()


def test_heads_that_are_not_there_are_refused() -> None:
    bundle = bundle_of(SPECS["small"])
    with pytest.raises(SettingError, match="unknown head 'taks1'; there are: task1, face"):
        bundle.select_heads(["face", "taks1"])
    with pytest.raises(SettingError, match="no head named"):
        bundle.select_heads([])
    assert bundle.select_heads(["face", "task1"]) is bundle


def test_a_session_answers_for_them_alone_and_takes_no_other_state(tiny_bundle: Path) -> None:
    walk, names = random_walk(300, 5), [load_bundle(tiny_bundle).heads[-1].name]
    whole, few = rtseg.load(tiny_bundle, capacity=1), rtseg.load(tiny_bundle, capacity=1, heads=names)
    one, other = whole.run(walk), few.run(walk)
    assert [head.name for head in other.heads] == names
    assert other.probs.tobytes() == np.ascontiguousarray(one.of(names[0])).tobytes()
    np.testing.assert_array_equal(other.labels[:, 0], one.labels[:, -1])
    np.testing.assert_array_equal(other.quality, one.quality)
    with pytest.raises(RtsegError, match="the snapshot is of model"):
        few.open("a").restore(whole.open("b").snapshot())


def test_a_daemon_answers_for_them_alone_and_its_recording_verifies(tiny_bundle: Path, tmp_path: Path) -> None:
    walk, names = random_walk(60, 6), [load_bundle(tiny_bundle).heads[0].name]
    with daemon(tiny_bundle, heads=names, record=str(tmp_path)) as child:
        live = replay(walk, child.frames, speed=None, stream="cage 1").predictions
    offline = rtseg.load(tiny_bundle, capacity=1, heads=names).run(walk)
    assert [head.name for head in live.heads] == names
    assert live.probs.tobytes() == offline.probs.tobytes()
    (path,) = tmp_path.glob("*.mcap")
    found = verify_recording(path, tiny_bundle)
    assert (found.predictions, found.differences) == (60, 0)


def test_a_daemon_refuses_heads_that_are_not_there(tiny_bundle: Path) -> None:
    child = Child(tiny_bundle, heads=["sleep"])
    _, err, code = child.rest()
    assert code != 0
    assert "unknown head 'sleep'; there are:" in err
