"""A stream whose animals have another size than training's: told once, and again when it is back."""

from __future__ import annotations

from pathlib import Path

from rtseg.frames.skeleton import MICE7
from rtseg.inference.classifier import Classifier
from rtseg.inference.predictions import Predictions
from rtseg.serve.streams.served_model import ServedModel
from rtseg.serve.streams.size_watch import size_events
from rtseg.serve.streams.stream import Streams
from rtseg.wire.messages import Hello
from tests.inference.test_session import frames_of, stepped, wandering
from tests.inference.test_stages import bundle_of, scaled


def test_a_change_of_size_is_told_once(tiny_bundle: Path) -> None:
    streams = Streams(ServedModel(Classifier(bundle_of(tiny_bundle), capacity=2), "tcp://127.0.0.1:1"))
    hello = Hello("cage", MICE7, 30.0)
    stream = streams.open_stream(b"me", hello, streams.match_hello(hello), 0)
    walk, seq = wandering(400), 0

    def events(factor: float, n_frames: int) -> list[dict[str, object]]:
        nonlocal seq
        frames = [f._replace(seq=seq + i) for i, f in enumerate(frames_of(scaled(walk, factor))[:n_frames])]
        seq += n_frames
        stepped(stream.session, frames)
        return [event for _, event in size_events(streams)]

    assert events(1.0, 40) == []
    (told,) = events(0.25, 200)
    assert (told["type"], told["ratio"], told["low"]) == (
        "scale",
        stream.session.size()["ratio"],
        stream.session.size()["low"],
    )
    assert str(told["reason"]).startswith("animals appear 0.")
    assert events(0.25, 20) == []
    stream.session.reset()
    seq = 0
    (back,) = events(1.0, 60)
    assert back["reason"] is None
    assert events(1.0, 20) == []


def test_a_hello_may_say_how_many_px_are_a_mm(tiny_bundle: Path) -> None:
    streams = Streams(ServedModel(Classifier(bundle_of(tiny_bundle), capacity=2), "tcp://127.0.0.1:1"))
    hello = Hello("cage", MICE7, 30.0, px_per_mm=5.0)
    stream = streams.open_stream(b"me", hello, streams.match_hello(hello), 0)
    walk = wandering(60)
    answers = stepped(stream.session, frames_of(scaled(walk, 2.0)))
    own = streams.model.pool.open("other").run(walk)
    assert Predictions.collect(own.heads, answers).probs.tobytes() == own.probs.tobytes()
