"""What a worker does when its front says so: streams that come back or end, other bundles, the end.

Obeyed between two frames, in the order in which the front sent them: it stands among the frames for that reason.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from rtseg.errors import RtsegError, ServeError
from rtseg.serve.loop.admission import Admission
from rtseg.serve.loop.stepping import Stepper
from rtseg.serve.loop.worker_bundle_swap import WorkerBundleSwap
from rtseg.serve.recording.resume import ResumableStream, rewind_stream
from rtseg.serve.streams.stream import Stream, Streams
from rtseg.serve.workers.front_link import FrontLink, WorkerOutlet
from rtseg.serve.workers.worker_protocol import (
    AbandonBundle,
    ClientMessage,
    ClientMessages,
    CommitBundle,
    EndStream,
    FromFront,
    FromWorker,
    MessageRefused,
    PrepareBundle,
    RestoreStream,
    Stop,
    TakeoverHello,
    decode,
)
from rtseg.wire.messages import Hello, parse_frame, unpack

LOG = logging.getLogger("rtseg.serve")
TimedFrame = tuple[int, bytes]
"""When a frame was received (ns, monotonic clock), and the message as it came."""


class FrontOrders:
    """Obeys a worker's front.

    take: enqueues or answers one client's message; its routing id, the bytes, when it was received. stop: makes the
    daemon drain, for so many seconds at most, and end.
    """

    def __init__(
        self,
        link: FrontLink,
        outlet: WorkerOutlet,
        streams: Streams,
        stepper: Stepper,
        admission: Admission,
        swap: WorkerBundleSwap,
        take: Callable[[bytes, bytes, int], None],
        stop: Callable[[float], None],
    ) -> None:
        self._link, self._outlet, self._streams = link, outlet, streams
        self._stepper, self._admission, self._swap = stepper, admission, swap
        self._take, self._stop = take, stop

    def open_message(self, data: bytes, now_ns: int) -> Sequence[ClientMessage]:
        """What clients sent, as the front handed it on; an order is obeyed at once, and there is nothing then."""
        message = decode(data)
        if isinstance(message, ClientMessages):
            if message.messages:
                self._link.newest_receipt_ns = message.messages[-1][1]
            return message.messages
        self.obey(message, now_ns)
        return ()

    def obey(self, order: FromFront | FromWorker, now_ns: int) -> None:
        """Any message of the front's but clients' messages."""
        match order:
            case RestoreStream():
                self._restore_or_end(order, now_ns)
            case EndStream():
                self._end_stream(order)
            case MessageRefused():
                stream = self._streams.find(order.stream)
                if stream is not None:
                    stream.count_refused()
            case TakeoverHello():
                with self._outlet.unreachable(order.gone_owner):
                    self._take(order.client, order.data, order.t_recv_ns)
            case PrepareBundle():
                self._swap.prepare(order)
            case CommitBundle():
                self._swap.commit(order)
            case AbandonBundle():
                self._swap.abandon(order)
            case Stop():
                self._stop(order.drain_s)
            case _:
                raise ServeError(f"{type(order).__name__} is no order of a front's")

    def _end_stream(self, order: EndStream) -> None:
        self._stepper.step_all()
        stream = self._streams.find(order.stream)
        if stream is None:
            self._link.report_ended(order.stream)  # the front waits for that word, and lets go of the name
        else:
            self._admission.end_stream(stream, order.reason)

    def _restore_or_end(self, order: RestoreStream, now_ns: int) -> None:
        name = order.state.stream
        try:
            self._restore_stream(order, now_ns)
        except Exception as error:  # the other streams go on
            LOG.error("stream %r cannot be restored: %s", name, error, exc_info=not isinstance(error, RtsegError))
            left = self._streams.find(name)
            if left is not None:
                self._streams.close_stream(left)
                if self._outlet.recording is not None:
                    self._outlet.recording.end_stream(left)
            self._link.report_ended(name)
            self._outlet.announce(name.encode(), {"type": "closed", "reason": f"could not be restored: {error}"[:300]})

    def _restore_stream(self, order: RestoreStream, now_ns: int) -> None:
        """Bring a stream to where it stood in the worker before, and step what came after that.

        Without a recording it begins at the state that the front was sent last, and the frames since then are stepped
        again: the front drops those of their answers that it has had, by their numbers. With a recording it begins
        where that ends, which is never before the front's state; the front is sent the recorded answers that it lacks.
        """
        self._stepper.step_all()  # frames of other streams that wait must be recorded as usual
        stream = self._reopen_stream(order, now_ns)
        frames = [(t_recv_ns, data) for _, t_recv_ns, data in order.frames]
        recording, answered, unpublished = self._outlet.recording, 0, list[tuple[int, bytes]]()
        recorded: dict[int, bytes] = {}
        past = None if recording is None else recording.take_replaced(stream.name, stream.opened_ns)
        served = stream.model.served
        is_swapped = order.state.model != served.model
        if is_swapped:
            # Its worker ended at the very swap, at which the state begins afresh as well. The recording's is the other
            # model's, and of no use.
            LOG.warning("stream %r begins its state afresh: another model answers from here on", stream.name)
        elif past is not None:
            answered = rewind_stream(stream, past)
            stream.number_answers_from(past.number)
            frames = past.frames + self._newer_frames(frames, past, stream)
            unpublished = past.answers_after(order.published)
            recorded = dict(past.answers_after(0))
        elif order.state.snapshot is not None:
            stream.session.restore(order.state.snapshot)
        stream.continue_after_state()
        with self._outlet.muted():  # their answers stand in the recording, and are sent as they stand there
            self._step_frames(stream, frames[:answered])
        if unpublished:  # recorded, but its worker ended before they reached the front
            self._outlet.send_predictions([(stream.topic, number, answer) for number, answer in unpublished])
        if recording is not None:
            recording.continue_stream(stream, now_ns)
        if is_swapped:  # its worker may have ended before it said so
            self._outlet.announce(stream.topic, {"type": "model", **served.to_fields()})
        with self._outlet.repeating(recorded):
            self._step_frames(stream, frames[answered:])
        stream.expect_frames_from(now_ns)
        LOG.info("stream %r is restored, %d frames were stepped again", stream.name, len(frames))

    def _reopen_stream(self, order: RestoreStream, now_ns: int) -> Stream:
        """With its numbers and counters, but without its session's state."""
        state = order.state
        hello = Hello.from_message(unpack(state.hello))
        stream = self._streams.open_stream(state.owner, hello, self._streams.match_hello(hello), now_ns)
        stream.continue_as(
            state.opened_ns, state.last_answer, state.handled_ns, state.refused, state.dropped, state.superseded
        )
        return stream

    def _newer_frames(self, frames: Sequence[TimedFrame], past: ResumableStream, stream: Stream) -> list[TimedFrame]:
        """Of the frames that the front handed on, those that came after the recording's last one.

        An older one that is not in the recording was refused or left out by the worker before: it is counted again, for
        the front's last state came before it. stream: rewound to `past`.
        """
        last_ns, last_seq = max(past.received_ns, default=None), stream.session.last_seq
        newer: list[TimedFrame] = []
        for t_recv_ns, data in frames:
            if last_ns is None:
                is_newer = last_seq is None or unpack(data)["seq"] > last_seq
            else:
                is_newer = t_recv_ns > last_ns
            if is_newer:
                newer.append((t_recv_ns, data))
            elif last_ns is not None and t_recv_ns not in past.received_ns:
                try:
                    stream.to_frame(parse_frame(unpack(data)))
                except RtsegError:
                    stream.count_refused(t_recv_ns)
                else:
                    stream.count_left_out(t_recv_ns)
        stream.mark_handled(last_ns or 0)
        return newer

    def _step_frames(self, stream: Stream, frames: Sequence[TimedFrame]) -> None:
        for t_recv_ns, data in frames:
            self._take(stream.owner, data, t_recv_ns)
            self._stepper.step_all()  # one by one: none is left out because too many wait
