"""A DeepLabCut-Live processor: every pose that DLCLive finds goes to a daemon, and its newest answer is at hand.

    DLCLive(model, processor=RtsegProcessor("cage1", ["nose", "tail_base"], fps=30))

Follows dlclive's contract (`process(pose, **kwargs)` returns the pose, `save(file)`) without importing it: DeepLabCut-
Live needs no base class; its GUI does (docs/sources/dlclive.md). Nothing is raised into the camera's loop.
"""

from __future__ import annotations

import csv
import logging
import operator
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rtseg.client import Key, Publisher, Subscriber
from rtseg.errors import RefusedError, RtsegError, clip_reason
from rtseg.frames.skeleton import Skeleton
from rtseg.sources.numbering import FrameNumbers
from rtseg.sources.points import ONE_ANIMAL
from rtseg.wire.messages import PredictionMessage, StreamEvent

LOG = logging.getLogger("rtseg.sources")
KEPT_ANSWERS = 200_000
"""For `save`: an hour and 50 minutes at 30 frames per second."""
KEPT_EVENTS = 1000
TOLD_EVERY_S = 10.0
MESSAGES_AT_ONCE = 64
"""So many are read at most per pose, so that the camera's loop never waits for a backlog."""


class RtsegProcessor:
    """Sends poses to a daemon as one stream, and receives what it says about them.

    stream: its name. keypoints: in the model's order (`bodyparts` of its config), as many as a pose has rows. animals:
    names, for poses (A, K, 3). fps: of the camera. address, names, key, arena, px_per_mm, timeout_s: as of a Publisher.
    wait_s: how long `process` waits for the answer about the very pose, 0 = not at all; a daemon that is away is not
    waited for.

    The newest answer is `prediction` (None before the first), events of the stream are in `events`, the newest last.
    problems: how many poses or answers went wrong, the newest reason in `problem`. Making one raises ServeError where
    no daemon answers or it refuses the stream; after that nothing is raised: a daemon that stops is waited for, and
    gets the last poses when it is back.
    """

    def __init__(
        self,
        stream: str,
        keypoints: Sequence[str],
        *,
        fps: float,
        animals: Sequence[str] = (ONE_ANIMAL,),
        address: str = "tcp://127.0.0.1:5757",
        names: Mapping[str, str] | None = None,
        key: Key = None,
        arena: tuple[float, float, float, float] | None = None,
        px_per_mm: float | None = None,
        wait_s: float = 0.0,
        timeout_s: float = 5.0,
    ) -> None:
        skeleton = Skeleton(tuple(animals), tuple(keypoints))
        self.wait_s = wait_s
        self.prediction: PredictionMessage | None = None
        self.events: deque[StreamEvent] = deque(maxlen=KEPT_EVENTS)
        self.problem, self.problems = "", 0
        self._told_s = -TOLD_EVERY_S
        self._numbers = FrameNumbers(fps)
        self._answers: deque[PredictionMessage] = deque(maxlen=KEPT_ANSWERS)
        # The clock of `frame_time` is the camera program's own, and only passed on.
        self.publisher = Publisher(
            address, stream, skeleton, fps, clock="dlclive", names=names, key=key, arena=arena, px_per_mm=px_per_mm,
            timeout_s=timeout_s,
        )  # fmt: skip
        try:
            predictions = self.publisher.served.predictions
            self._subscriber = Subscriber(predictions, stream, key=key, connect_timeout_s=timeout_s)
        except BaseException:
            self.publisher.close()
            raise

    def process(self, pose: Any, **kwargs: Any) -> Any:
        """Send one pose and return it as it came.

        pose: (K, 3) or (A, K, 3), x, y in px of the camera's image and likelihood, after DLCLive has undone its own
        cropping and resizing. kwargs: `frame_time`, seconds of the camera's clock, as DLCLive's GUI passes it; `seq`,
        the camera's own number. Without `seq` frames are counted, and times that skip count as lost frames.
        """
        # As broad as it gets: whatever goes wrong here, the camera's loop must go on.
        try:
            self._receive(self._send(pose, kwargs.get("frame_time"), kwargs.get("seq")))
        except Exception as error:
            self._tell(error)
            if isinstance(error, RefusedError) and error.kind == "SequenceError":
                self._begin_again()
        return pose

    def save(self, file: str = "") -> int:
        """Write the answers so far as a table, a row each.

        Returns 1 where that was done, 0 without an answer or a file's name, -1 where it failed: a GUI logs no more.
        """
        if not file or not self._answers:
            return 0
        try:
            self._write(Path(file))
        except OSError as error:
            self._tell(error)
            return -1
        return 1

    def close(self) -> dict[str, int]:
        """End the stream; the daemon's counters of it, {} where it is away."""
        self._subscriber.close()
        return self.publisher.close()

    def _send(self, pose: Any, frame_time: float | None, number: int | None) -> int:
        t_ns = None if frame_time is None else round(float(frame_time) * 1e9)
        # Numbered before anything can fail: a pose that cannot be sent leaves a gap behind.
        seq, begins = self._numbers.number_frame(None if number is None else operator.index(number), t_ns)
        if begins:
            self.prediction = None
            self.publisher.restart()
        self.publisher.send(pose, seq=seq, t_source_ns=time.monotonic_ns() if t_ns is None else t_ns)
        return seq

    def _begin_again(self) -> None:
        """The camera counts from an earlier number: nothing is answered until the stream starts afresh."""
        self._numbers.begin()
        self.prediction = None  # its number says nothing about the frames to come
        try:
            self.publisher.restart()
        except RtsegError as error:
            self._tell(error)

    def _receive(self, seq: int) -> None:
        """Read what has come; with wait_s wait for the answer about this frame."""
        deadline_s = time.monotonic() + (0.0 if self.publisher.is_away else self.wait_s)
        for _ in range(MESSAGES_AT_ONCE):
            is_answered = self.prediction is not None and self.prediction.seq >= seq
            left_s = 0.0 if is_answered else max(0.0, deadline_s - time.monotonic())
            message = self._subscriber.receive(left_s)
            if message is None:
                return
            if isinstance(message, PredictionMessage):
                self.prediction = message
                self._answers.append(message)
            else:
                self.events.append(message)

    def _write(self, path: Path) -> None:
        """seq, t_source_ns, quality, a label for each head, and a probability for each of its classes.

        By name: a daemon that was given another bundle meanwhile may have other classes, or the same in another order.
        """
        heads: dict[str, dict[str, None]] = {}  # and the classes of each, in the order in which they came
        for answer in self._answers:
            for head, values in answer.probs.items():
                heads.setdefault(head, {}).update(dict.fromkeys(values.classes))
        with path.open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            classes = [f"{head}.{name}" for head, names in heads.items() for name in names]
            table.writerow(["seq", "t_source_ns", "quality", *heads, *classes])
            for answer in self._answers:
                labels = [answer.label.get(head, "") for head in heads]
                probs = {head: dict(zip(p.classes, p.tolist(), strict=False)) for head, p in answer.probs.items()}
                columns = [probs.get(head, {}).get(name, "") for head, names in heads.items() for name in names]
                table.writerow([answer.seq, answer.t_source_ns, answer.quality, *labels, *columns])

    def _tell(self, error: Exception) -> None:
        self.problems += 1
        self.problem = clip_reason(error)
        now_s = time.monotonic()
        if now_s - self._told_s >= TOLD_EVERY_S:
            self._told_s = now_s
            kind = "" if isinstance(error, RtsegError) else f"{type(error).__name__}: "
            LOG.warning("stream %r, problem %d: %s%s", self.publisher.stream, self.problems, kind, self.problem)
