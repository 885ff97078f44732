"""Play a recording to a running daemon as if it were a camera, and collect the answers.

At speed 1 frames go out at the recording's rate; at speed None as fast as the daemon answers, with a bounded number of
frames in flight so that nothing is lost. Sends the recording as it is: what is selected from it is the daemon's affair.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.client import Key, Publisher, Subscriber
from rtseg.errors import ServeError
from rtseg.inference.predictions import Predictions, Quality
from rtseg.recordings.heads import Head
from rtseg.recordings.recording import Recording
from rtseg.wire.messages import PredictionMessage, StreamEvent

WINDOW_FRAMES = 64
"""Frames in flight at most, at full speed."""


@dataclass(frozen=True, eq=False)
class Replayed:
    """A daemon's answers to a recording, and how long they took.

    predictions: as `Classifier.run` gives them. begins: (T, H) bool, a bout of the label began here. latency_ns: (T,)
    int64, from sending frame seq to holding its answer, lookahead included. daemon_ns: (T,) int64, from receipt to
    publishing inside the daemon. model: the bundle's hash. counters: the daemon's, of this stream.
    """

    predictions: Predictions
    begins: NDArray[np.bool_]
    latency_ns: NDArray[np.int64]
    daemon_ns: NDArray[np.int64]
    model: str
    counters: dict[str, int]


def predictions_from_messages(
    heads: Mapping[str, tuple[str, ...]], answers: Iterable[PredictionMessage]
) -> tuple[Predictions, NDArray[np.bool_]]:
    """Answers off the wire as one table in order of their sequence numbers, and where bouts began (T, H)."""
    kept = sorted(answers, key=lambda answer: answer.seq)
    index = {head: {name: i for i, name in enumerate(classes)} for head, classes in heads.items()}
    n, n_heads = len(kept), len(heads)

    def table(rows: list[list[Any]], dtype: type[np.generic]) -> NDArray[Any]:
        return np.array(rows, dtype).reshape(n, n_heads)

    probs = [np.concatenate([answer.probs[head] for head in heads]) for answer in kept]
    predictions = Predictions(
        # What is scored is the bundle's affair: the wire says classes only.
        tuple(Head(name, classes, classes, name) for name, classes in heads.items()),
        seq=np.array([answer.seq for answer in kept], np.int64),
        probs=np.array(probs, np.float32).reshape(n, sum(map(len, heads.values()))),
        labels=table([[index[head][answer.label[head]] for head in heads] for answer in kept], np.int16),
        quality=np.array([answer.quality for answer in kept], np.int32),
        unsure=table([[head in answer.unsure for head in heads] for answer in kept], np.bool_),
    )
    return predictions, table([[head in answer.event for head in heads] for answer in kept], np.bool_)


def replay(
    recording: Recording,
    address: str,
    *,
    speed: float | None = 1.0,
    stream: str | None = None,
    arena: tuple[float, float, float, float] | None = None,
    names: Mapping[str, str] | None = None,
    on_prediction: Callable[[PredictionMessage], None] | None = None,
    window_frames: int = WINDOW_FRAMES,
    timeout_s: float = 10.0,
    key: Key = None,
) -> Replayed:
    """Send every frame of `recording` to the daemon at `address` and return its answers.

    speed: times the recording's rate; None = as fast as answers come. stream: name, the recording's where None. arena,
    names, key: see `Publisher`; the key needs the roles publish and subscribe. on_prediction: called with
    each answer as it comes. Raises ServeError where the daemon refuses the stream, complains about a frame, or stays
    silent for timeout_s.
    """
    if speed is not None and not speed > 0:
        raise ServeError(f"speed must be above 0, got {speed}")
    name = stream or recording.name
    publisher = Publisher(
        address,
        name,
        recording.skeleton,
        recording.fps,
        clock="recording",
        arena=arena,
        names=names,
        timeout_s=timeout_s,
        key=key,
    )
    predictions_address = publisher.served.predictions
    with publisher, Subscriber(predictions_address, name, connect_timeout_s=timeout_s, key=key) as subscriber:
        answers: list[PredictionMessage] = []
        sent_ns, latency_ns = np.zeros((2, len(recording)), np.int64)
        window_frames += publisher.served.lookahead_frames

        def hear(wait_s: float) -> PredictionMessage | StreamEvent | None:
            message = subscriber.receive(wait_s)
            if isinstance(message, PredictionMessage):
                latency_ns[message.seq] = time.monotonic_ns() - sent_ns[message.seq]
                answers.append(message)
                if on_prediction is not None:
                    on_prediction(message)
            elif message is not None and message.type == "stopping":
                raise ServeError(f"the daemon at {address} stopped after {len(answers)} answers")
            return message

        start_s = time.monotonic()
        for t in range(len(recording)):
            while speed is None and t - len(answers) >= window_frames:
                if hear(timeout_s) is None:
                    raise ServeError(f"stream {name!r}: silence for {timeout_s} s after {len(answers)} answers")
            while speed is not None and (wait_s := start_s + t / (recording.fps * speed) - time.monotonic()) > 0:
                hear(wait_s)
            sent_ns[t] = time.monotonic_ns()
            t_source_ns = round(t * 1e9 / recording.fps)
            publisher.send(recording.keypoints[t], recording.confidence[t], seq=t, t_source_ns=t_source_ns)
        counters = publisher.close()
        # Every answer was published before the daemon said so, but may still be on its way on the other socket.
        while (message := hear(timeout_s)) is not None and not _is_end(message):
            pass
    if len(answers) < len(recording):
        raise ServeError(f"stream {name!r}: {len(answers)} answers to {len(recording)} frames, counters {counters}")
    predictions, begins = predictions_from_messages(publisher.served.heads, answers)
    if speed is None:
        # Frames that come faster than a camera's are answered later than its interval; nothing was slow.
        predictions.quality[:] &= ~Quality.LATE
    daemon_ns = np.array([answer.t_pub_ns - answer.t_recv_ns for answer in answers], np.int64)
    return Replayed(predictions, begins, latency_ns, daemon_ns, publisher.served.model, counters)


def _is_end(message: PredictionMessage | StreamEvent) -> bool:
    return isinstance(message, StreamEvent) and message.type == "closed"
