"""When the loop is awake before a frame is due; that its answers do not depend on it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rtseg.inference.classifier import load
from rtseg.playback.replay import replay
from rtseg.serve.timing.due_frames import MAX_STREAMS, Ahead
from tests.live import daemon, random_walk

MS = 1_000_000


@dataclass
class Camera:
    """What `Ahead` looks at."""

    last_ns: int = 100 * MS
    interval_ns: int = 33 * MS
    stale: bool = False
    newest_seq: int = 5


def test_awake_around_the_next_frame() -> None:
    ahead = Ahead(500)
    assert ahead.window([Camera()], 110 * MS) == (132 * MS + MS // 2, 133 * MS + MS // 2)
    assert ahead.window([Camera(), Camera(last_ns=95 * MS)], 110 * MS) == (127 * MS + MS // 2, 128 * MS + MS // 2)
    assert ahead.window([Camera()], 133 * MS) is not None  # it may still come
    assert ahead.window([Camera()], 134 * MS) is None  # too late: asleep until it comes
    assert ahead.window([Camera(), Camera(last_ns=95 * MS)], 129 * MS) == (132 * MS + MS // 2, 133 * MS + MS // 2)


def test_nobody_is_expected() -> None:
    ahead = Ahead(500)
    assert ahead.window([], 0) is None
    assert ahead.window([Camera(stale=True), Camera(newest_seq=-1)], 110 * MS) is None


def test_no_more_than_a_share_of_the_time() -> None:
    assert Ahead(500).window([Camera(interval_ns=5 * MS)], 101 * MS) is not None
    assert Ahead(1000).window([Camera(interval_ns=5 * MS)], 101 * MS) is None
    assert Ahead(500).window([Camera(interval_ns=33 * MS)] * MAX_STREAMS, 110 * MS) is not None
    assert Ahead(500).window([Camera(interval_ns=33 * MS)] * (MAX_STREAMS + 1), 110 * MS) is None


def test_the_same_bits_awake_or_asleep(tiny_bundle: Path) -> None:
    walk = random_walk(40, 31)
    with daemon(tiny_bundle, ahead_us=2000) as child:
        assert child.about["loop"]["polling"] == "asleep until 2000 us before a frame is due, or until a message comes"
        live = replay(walk, child.frames, speed=4.0).predictions
    assert live.probs.tobytes() == load(tiny_bundle).run(walk).probs.tobytes()
