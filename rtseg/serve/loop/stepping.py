"""The step: frames that wait together are stepped together, and their predictions published.

A lone frame waits for nobody. What a stream gets does not depend on who else is in the batch.
"""

from __future__ import annotations

import time

from rtseg.inference.predictions import Prediction
from rtseg.serve.loop.frame_queue import FrameQueue, QueuedFrame
from rtseg.serve.loop.rejection import reject_message
from rtseg.serve.publish.outlet import Outlet
from rtseg.serve.streams.stream import Streams
from rtseg.serve.timing.latency import Histogram
from rtseg.serve.triggers.stage import TriggerStage


class Stepper:
    """Takes frames from the queue, batch by batch. stage: decides what triggers do; None where there are none.

    latency: `decode` of a frame, `step` and `publish` of a batch, `total` from a frame's receipt to its publishing.
    """

    def __init__(self, queue: FrameQueue, streams: Streams, outlet: Outlet, stage: TriggerStage | None = None) -> None:
        self._queue, self._streams, self._outlet, self._stage = queue, streams, outlet, stage
        self._decode, self._step, self._publish = Histogram(), Histogram(), Histogram()
        self.latency = {"decode": self._decode, "step": self._step, "publish": self._publish, "total": outlet.total}

    def step_all(self) -> None:
        """Step and publish until no frame waits: before whatever must come after them."""
        while self._queue:
            self.step_and_publish_batch()

    def step_and_publish_batch(self) -> int:
        """Step the frames whose turn it is, in the order in which they came, and publish their predictions; how many.

        Where a step fails, which is a bug, all of its frames are refused.
        """
        batch = self._queue.next_batch()
        if not batch:
            return 0
        started_ns = time.monotonic_ns()
        outlet, recording = self._outlet, self._outlet.recording
        if recording is not None:
            # Before the step: a frame that brings the daemon down must be in its recording.
            for _, _, t_recv_ns, _, data in batch:
                recording.record_frame(data, t_recv_ns)
        try:
            predictions = _step(batch)
        except Exception as error:
            for stream, frame, t_recv_ns, _, _ in batch:
                self._queue.frame_done(stream)
                reject_message(self._streams, outlet, stream.owner, stream.name, frame.seq, error, t_recv_ns=t_recv_ns)
            return len(batch)
        stepped_ns = time.monotonic_ns()
        stage = self._stage
        # Before anything else: a line waits for it.
        has_more = stage is not None and stage.decide(batch, predictions)
        publish, frame_done = outlet.publish_prediction, self._queue.frame_done
        for (stream, frame, t_recv_ns, _, _), of_frame in zip(batch, predictions, strict=True):
            stream.handled_ns = t_recv_ns
            if stream.lookahead_frames:
                stream.remember_receipt(frame.seq, t_recv_ns)
            keep_back = frame_done(stream) > 0 and stream.hello.policy == "newest"
            for prediction in of_frame:
                publish(stream, prediction, t_recv_ns, keep_back=keep_back)
        outlet.flush()
        if stage is not None and has_more:
            stage.finish_batch()
        # Counted only now, when nobody waits for it.
        self._publish.count_latency(time.monotonic_ns() - stepped_ns)
        self._step.count_latency(stepped_ns - started_ns)
        self._decode.count_latencies([decoded_ns - t_recv_ns for _, _, t_recv_ns, decoded_ns, _ in batch])
        outlet.counters["batches"] += 1
        outlet.counters["frames"] += len(batch)
        return len(batch)


def _step(batch: list[QueuedFrame]) -> list[list[Prediction]]:
    """The predictions that the frames of a batch bring, row by row; each model steps its own in one go."""
    streams, frames = [queued[0] for queued in batch], [queued[1] for queued in batch]
    first, *others = dict.fromkeys([stream.model for stream in streams])
    if not others:
        return first.pool.step([stream.session for stream in streams], frames)
    # Only while streams are answered by different bundles (`rtseg load --stream`).
    predictions: list[list[Prediction]] = [[] for _ in batch]
    for model in (first, *others):
        rows = [row for row, stream in enumerate(streams) if stream.model is model]
        stepped = model.pool.step([streams[row].session for row in rows], [frames[row] for row in rows])
        for row, of_frame in zip(rows, stepped, strict=True):
            predictions[row] = of_frame
    return predictions
