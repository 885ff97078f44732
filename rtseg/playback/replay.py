"""Play a recording to a running daemon as if it were a camera, and collect the answers.

At speed 1 frames go out at the recording's rate; at speed None as fast as the daemon answers, with a bounded number of
frames in flight so that nothing is lost. Sends the recording as it is: the daemon selects the model's keypoints. Frames
that are absent from it are not sent, as a camera sends none that it dropped.
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
RECONNECT_S = 30.0
"""A recording is not played to a daemon that stays away."""


@dataclass(frozen=True, eq=False)
class Replayed:
    """A daemon's answers to a recording, and how long they took.

    predictions: N rows as `Classifier.run` gives them. begins: (N, H) bool, a bout of the label began here. latency_ns:
    (T,) int64, from sending a frame to holding its answer, lookahead included; 0 for one that was not sent. daemon_ns:
    (N,) int64, from receipt to publishing inside the daemon. model: the bundle's hash. counters: the daemon's, of this
    stream.
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
    """Prediction messages as one table in the order of their sequence numbers, and where bouts began, (T, H) bool.

    heads: name -> classes, in the order of the columns, as `Served` tells them.
    """
    ordered = sorted(answers, key=lambda answer: answer.seq)
    index = {head: {name: i for i, name in enumerate(classes)} for head, classes in heads.items()}
    n, n_heads = len(ordered), len(heads)

    def table(rows: list[list[Any]], dtype: type[np.generic]) -> NDArray[Any]:
        return np.array(rows, dtype).reshape(n, n_heads)

    probs = [np.concatenate([answer.probs[head] for head in heads]) for answer in ordered]
    predictions = Predictions(
        # The wire names classes only, not which of them the bundle scores: here all are.
        tuple(Head(name, classes, classes, name) for name, classes in heads.items()),
        seq=np.array([answer.seq for answer in ordered], np.int64),
        probs=np.array(probs, np.float32).reshape(n, sum(map(len, heads.values()))),
        labels=table([[index[head][answer.label[head]] for head in heads] for answer in ordered], np.int16),
        quality=np.array([answer.quality for answer in ordered], np.int32),
        unsure=table([[head in answer.unsure for head in heads] for answer in ordered], np.bool_),
        t_source_ns=np.array([answer.t_source_ns for answer in ordered], np.int64),
    )
    return predictions, table([[head in answer.event for head in heads] for answer in ordered], np.bool_)


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
    px_per_mm: float | None = None,
) -> Replayed:
    """Send every frame that `recording` has to the daemon at `address` and return its answers.

    speed: times the recording's rate; None = as fast as answers come. stream: name, the recording's where None. arena,
    names, key: see `Publisher`; the key needs the roles publish and subscribe. px_per_mm: of the recording; None = what
    its file says. on_prediction: called with each answer as it comes. Raises ServeError where the daemon refuses the
    stream, complains about a frame, is given another bundle meanwhile, or stays silent for timeout_s.
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
        reconnect_s=RECONNECT_S,
        px_per_mm=px_per_mm or recording.px_per_mm,
    )
    predictions_address = publisher.served.predictions
    with publisher, Subscriber(predictions_address, name, connect_timeout_s=timeout_s, key=key) as subscriber:
        exchange = _Exchange(recording, publisher, subscriber, on_prediction, timeout_s)
        if speed is None:
            # A lookahead holds that many answers back: a window without them would never be filled.
            exchange.send_at_full_speed(window_frames + publisher.served.lookahead_frames)
        else:
            exchange.send_in_time(speed)
        counters = publisher.close()
        exchange.receive_rest()
    answers, n_sent = exchange.answers, len(recording.came)
    # Frames that the gap rule filled are answered like those that were sent.
    if len(answers) < n_sent + counters.get("filled", 0):
        raise ServeError(f"stream {name!r}: {len(answers)} answers to {n_sent} frames, counters {counters}")
    model = publisher.served.model
    if others := [answer.seq for answer in answers if answer.model != model]:
        # Its classes may be others, or the same ones in another order.
        raise ServeError(
            f"stream {name!r}: a model other than {model[:12]} gave {len(others)} answers, the first to frame "
            f"{others[0]}: the daemon was given another bundle meanwhile (rtseg load); play the recording again"
        )
    predictions, begins = predictions_from_messages(publisher.served.heads, answers)
    if speed is None:
        # Frames that come faster than a camera's are answered later than its interval; nothing was slow.
        predictions.quality[:] &= ~Quality.LATE
    daemon_ns = np.array([answer.t_pub_ns - answer.t_recv_ns for answer in answers], np.int64)
    return Replayed(predictions, begins, exchange.latency_ns, daemon_ns, model, counters)


class _Exchange:
    """A recording's frames on their way to a daemon, and the answers that came back.

    answers: in the order in which they came. latency_ns: (T,) int64, of each frame, 0 until its answer came.
    n_sent: frames so far; n_answered: how many of those have an answer.
    """

    def __init__(
        self,
        recording: Recording,
        publisher: Publisher,
        subscriber: Subscriber,
        on_prediction: Callable[[PredictionMessage], None] | None,
        timeout_s: float,
    ) -> None:
        self._recording, self._publisher, self._subscriber = recording, publisher, subscriber
        self._on_prediction, self._timeout_s = on_prediction, timeout_s
        self.answers: list[PredictionMessage] = []
        self._sent_ns, self.latency_ns = np.zeros((2, len(recording)), np.int64)
        self.n_sent = self.n_answered = 0
        self._times = recording.source_times()

    def send_in_time(self, speed: float) -> None:
        """Send every frame when a camera would, `speed` times as fast, and receive answers in between."""
        fps, start_s = self._recording.fps * speed, time.monotonic()
        for t in self._recording.came.tolist():
            # From the start, not from the frame before: delays do not add up.
            while (wait_s := start_s + t / fps - time.monotonic()) > 0:
                self._receive(wait_s)
            self._send_frame(t)

    def send_at_full_speed(self, window_frames: int) -> None:
        """Send every frame as soon as fewer than window_frames are unanswered. Raises ServeError after a silence."""
        for t in self._recording.came.tolist():
            while self.n_sent - self.n_answered >= window_frames:
                if self._receive(self._timeout_s) is None:
                    stream, n = self._publisher.stream, len(self.answers)
                    raise ServeError(f"stream {stream!r}: silence for {self._timeout_s} s after {n} answers")
            self._send_frame(t)

    def receive_rest(self) -> None:
        """Receive until the stream's end is announced, or nothing comes for the timeout.

        Every answer was published before the daemon said goodbye, but may still be on its way on the other socket.
        """
        while (message := self._receive(self._timeout_s)) is not None:
            if isinstance(message, StreamEvent) and message.type == "closed":
                return

    def _send_frame(self, t: int) -> None:
        recording = self._recording
        self._sent_ns[t] = time.monotonic_ns()
        seq, t_source_ns = recording.first_seq + t, int(self._times[t])
        self._publisher.send(recording.keypoints[t], recording.confidence[t], seq=seq, t_source_ns=t_source_ns)
        self.n_sent += 1

    def _receive(self, wait_s: float) -> PredictionMessage | StreamEvent | None:
        message = self._subscriber.receive(wait_s)
        if isinstance(message, PredictionMessage):
            t = message.seq - self._recording.first_seq
            if not message.quality & Quality.GAP_FILLED:
                self.latency_ns[t] = time.monotonic_ns() - self._sent_ns[t]
                self.n_answered += 1
            self.answers.append(message)
            if self._on_prediction is not None:
                self._on_prediction(message)
        elif message is not None and message.type == "stopping":
            raise ServeError(f"the daemon at {self._publisher.address} stopped after {len(self.answers)} answers")
        return message
