"""One stream's state and its step: frame in, answers out. The daemon, annotate and evaluate all go through here.

A `SessionPool` holds the slots of all streams of one model and steps them in one batch; a `Session` is one stream in
it. Reads no clock, opens nothing, and never looks ahead: what a frame gets depends on it and on the frames before it.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from copy import copy
from dataclasses import asdict, dataclass
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray

from rtseg.bundle.bundle import Bundle
from rtseg.config import IDENTITY
from rtseg.engine.base import Engine
from rtseg.errors import FrameError, RtsegError, SettingError
from rtseg.frames.frame import Frame, missing_frame
from rtseg.frames.resampling import Resampler
from rtseg.inference.predictions import Prediction, PredictionBatch, Predictions, Quality
from rtseg.inference.stages import IDENTITY_JUMP, OUT_OF_RANGE, Stages
from rtseg.recordings.recording import Recording

Arena = tuple[float, float, float, float]
_Buffers = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int32], NDArray[np.float32]]
"""Keypoints (N, A, K, 2), confidence (N, A, K), slots (N,) and features (N, F) on their way through a pool."""
_Row = tuple[int, "Session", Frame, int]
"""A frame to step: its place among those that came, and its flags."""
_Answered = tuple[PredictionBatch, NDArray[np.int32], NDArray[np.int32]]
"""PredictionBatch, flags of the frames stepped, and flags of the answers given (N,): with a lookahead an answer is about an
earlier frame than the one stepped."""
KEPT_ROWS = 256
"""Buffers of larger batches are not kept."""
# As plain numbers: an IntFlag takes a microsecond where a frame has forty.
WARMING_UP, GAP_FILLED, RESET = map(int, (Quality.WARMING_UP, Quality.GAP_FILLED, Quality.RESET))
COUNTED = OUT_OF_RANGE | IDENTITY_JUMP


@dataclass(slots=True)
class Counters:
    """What a stream has seen. filled: frames that never came; restarts: gaps too long to fill.

    out_of_range: answered frames whose features were not like training's (`Session.drift` says which). identity_jumps:
    answered frames at which two animals seem to have been mixed up.
    """

    frames: int = 0
    duplicates: int = 0
    late: int = 0
    gaps: int = 0
    filled: int = 0
    restarts: int = 0
    out_of_range: int = 0
    identity_jumps: int = 0


class SessionPool:
    """All streams of one bundle on one engine: up to `engine.capacity` of them.

    on_identity_jump: one of `config.IDENTITY`: what is done about animals that the tracker has mixed up
    (`features.identity`). It changes answers, so live and offline must be given the same. Raises SettingError.
    """

    def __init__(self, bundle: Bundle, engine: Engine, on_identity_jump: str = "flag") -> None:
        if on_identity_jump not in IDENTITY:
            raise SettingError(f"identity must be one of {', '.join(IDENTITY)}; got {on_identity_jump!r}")
        self.bundle, self.engine, self.on_identity_jump = bundle, engine, on_identity_jump
        watch, trade = on_identity_jump != "reset", on_identity_jump == "swap"
        self.stages = Stages(bundle, engine.capacity, watch=watch, trade=trade)
        self.heads, self.capacity = bundle.heads, engine.capacity
        self._free = list(range(engine.capacity))  # a heap: few streams stay in low slots, near one another
        self._one_slot = np.zeros(1, np.int32)
        self._kept: dict[int, _Buffers] = {}
        self._n_outputs = bundle.network.n_outputs

    def open(self, stream: str, arena: Arena | None = None, fps: float | None = None) -> Session:
        """A session in a free slot. arena: its box in px; None = the bundle's. fps: of a camera to be resampled.

        Raises RtsegError when all slots are taken, RateError for a camera that cannot be resampled (`resampling`).
        """
        resampler = None if fps is None else Resampler(fps, self.bundle.fps, f"stream {stream!r}")
        if not self._free:
            raise RtsegError(
                f"stream {stream!r}: all {self.capacity} slots are taken; close a stream or serve with more capacity"
            )
        slot = heapq.heappop(self._free)
        self.stages.open(slot, self.bundle.arena if arena is None else arena)
        session = Session(self, slot, stream, resampler)
        session.reset()
        return session

    def step(self, sessions: Sequence[Session], frames: Sequence[Frame]) -> list[list[Prediction]]:
        """One frame for each row, in order, stepped as one batch; a session may come more than once.

        Returns for each row its answers: normally exactly one. None for a duplicate or late frame, or while a
        lookahead fills; after a short gap one more for each missing frame.
        """
        answers: list[list[Prediction]] = [[] for _ in frames]
        rows: list[_Row] = []
        for place, session, frame in zip(range(len(frames)), sessions, frames, strict=True):
            if session._just_goes_on(frame):
                rows.append((place, session, frame, 0))
                continue
            for stepped, flags in session._admit(frame):
                if flags & RESET:
                    self._advance(rows, answers)
                    rows = []
                    answers[place] += session._restart()
                rows.append((place, session, stepped, flags))
        self._advance(rows, answers)
        return answers

    def _advance(self, rows: list[_Row], answers: list[list[Prediction]]) -> None:
        """Step the rows (place in answers, session, frame, flags) and put what is due into the answers."""
        if not rows:
            return
        n = len(rows)
        keypoints, confidence, slots, features = self._buffers(n)
        if n == 1:  # the rule of the many costs a lone frame 5 µs
            _, session, frame, _ = rows[0]
            keypoints[0], confidence[0], slots[0] = frame.keypoints, frame.confidence, session.slot
        else:
            a, k = confidence.shape[1:]
            np.concatenate([frame.keypoints for _, _, frame, _ in rows], out=keypoints.reshape(n * a, k, 2))
            np.concatenate([frame.confidence for _, _, frame, _ in rows], out=confidence.reshape(n * a, k))
            slots[:] = [session.slot for _, session, _, _ in rows]
        of, quality, doubt = self._compute(keypoints, confidence, slots, features)
        lookahead = self.bundle.lookahead_frames
        flagged = zip(range(n), rows, quality.tolist(), doubt.tolist(), strict=True)
        for i, (place, session, frame, flags), seen, unsure in flagged:
            seq, t_source_ns, flags = frame.seq, frame.t_source_ns, flags | seen
            if lookahead:
                pending = session._pending
                pending.append((seq, t_source_ns, flags))
                if len(pending) <= lookahead:
                    continue
                seq, t_source_ns, flags = pending.popleft()
            flags |= unsure
            if flags & COUNTED:
                session._count(flags)
            if session._resampler is not None:
                seq = session._resampler.camera_seq(seq)
            answers[place].append(Prediction(session.stream, seq, t_source_ns, flags, of, i))

    def _compute(
        self,
        keypoints: NDArray[np.float32],
        confidence: NDArray[np.float32],
        slots: NDArray[np.int32],
        features: NDArray[np.float32],
    ) -> _Answered:
        """The way of the data: features, engine, decoding, for N rows in order. features: (N, F) scratch.

        Returns fresh arrays, which the predictions keep. Keypoints and confidence change where animals are traded back.
        """
        n, n_heads = len(slots), len(self.heads)
        probs = np.empty((n, self._n_outputs), np.float32)
        labels = np.empty((n, n_heads), np.int16)
        events, unsure = np.empty((2, n, n_heads), np.bool_)
        quality, doubt = np.empty((2, n), np.int32)
        self.stages.before(keypoints, confidence, slots, features, quality)
        self.engine.step(features, slots, probs)
        self.stages.after(probs, slots, labels, events, unsure, doubt)
        return PredictionBatch(probs, labels, events, unsure), quality, doubt

    def _buffers(self, n: int) -> _Buffers:
        """Room for N rows, kept from batch to batch."""
        buffers = self._kept.get(n)
        if buffers is None:
            a, k = self.bundle.skeleton.shape
            buffers = (
                np.empty((n, a, k, 2), np.float32),
                np.empty((n, a, k), np.float32),
                np.empty(n, np.int32),
                np.empty((n, self.stages.n_features), np.float32),
            )
            if n <= KEPT_ROWS:
                self._kept[n] = buffers
        return buffers

    def _reset(self, slot: int) -> None:
        self._one_slot[0] = slot
        self.stages.reset(slot)
        self.engine.reset(self._one_slot)


class Session:
    """One stream of a pool; made by `SessionPool.open`."""

    def __init__(self, pool: SessionPool, slot: int, stream: str, resampler: Resampler | None = None) -> None:
        self.pool, self.slot, self.stream = pool, slot, stream
        self._resampler = resampler
        self.counters = Counters()
        self._last: tuple[int, int] | None = None  # seq, t_source_ns of the newest frame
        self._since_reset, self._warmup = 0, pool.bundle.warmup_frames
        self._is_plain = resampler is None and pool.on_identity_jump != "reset"
        self._pending: deque[tuple[int, int, int]] = deque()  # frames whose answer the lookahead still owes
        self._closed = False

    def step(self, frame: Frame) -> list[Prediction]:
        """The answers that one frame brings; see `SessionPool.step`."""
        return self.pool.step([self], [frame])[0]

    @property
    def last_seq(self) -> int | None:
        """Number of the newest frame; None before the first."""
        if self._resampler is not None:
            return self._resampler.last_seq
        return None if self._last is None else self._last[0]

    @property
    def is_resampled(self) -> bool:
        """Whether the camera runs at another rate than the model."""
        return self._resampler is not None

    @property
    def delay_s(self) -> float:
        """How much later answers come for a camera that is resampled, at most; 0 for one that is not."""
        return 0.0 if self._resampler is None else self._resampler.delay_s

    def follow(self, before: Session) -> None:
        """Go on with another session's numbering and counters, whatever its model; the state stays fresh.

        Must come before the first step: the frames that follow are warming up.
        """
        self._last, self.counters = before._last, before.counters
        self._resampler = copy(before._resampler)

    def run(self, recording: Recording, chunk_frames: int = 4096) -> Predictions:
        """All answers about a recording, frame 0 being seq 0, from a fresh state: the same step, frame after frame.

        The recording must have the bundle's skeleton (`Recording.select`). Leaves the session finished.
        """
        bundle, pool, total = self.pool.bundle, self.pool, len(recording)
        if recording.skeleton.shape != bundle.skeleton.shape:
            raise FrameError(
                f"{recording.name}: expected (animals, keypoints) {bundle.skeleton.shape}, got "
                f"{recording.skeleton.shape}; use recording.select(bundle.skeleton)"
            )
        self.reset()
        if self._resampler is not None or pool.on_identity_jump == "reset":
            return self._run_frames(recording)
        owed = bundle.lookahead_frames
        probs = np.empty((total + owed, bundle.network.n_outputs), np.float32)
        labels = np.empty((total + owed, len(bundle.heads)), np.int16)
        unsure = np.empty(labels.shape, np.bool_)
        quality, doubt = np.empty((2, total + owed), np.int32)
        features = np.empty((max(1, min(chunk_frames, total)), bundle.network.n_features), np.float32)
        slots = np.full(len(features), self.slot, np.int32)
        for start in range(0, total, len(features)):
            n = min(len(features), total - start)
            here = slice(start, start + n)
            parts = recording.keypoints[here], recording.confidence[here]
            if pool.on_identity_jump == "swap":
                parts = parts[0].copy(), parts[1].copy()
            answers, quality[here], doubt[here] = pool._compute(*parts, slots[:n], features[:n])
            probs[here], labels[here], unsure[here] = answers.probs, answers.labels, answers.unsure
        for at in range(total, total + owed):
            blank = missing_frame(bundle.skeleton.shape, seq=0, t_source_ns=0, stream=self.stream)
            parts = blank.keypoints[None], blank.confidence[None]
            here = slice(at, at + 1)
            answers, quality[here], doubt[here] = pool._compute(*parts, slots[:1], features[:1])
            probs[here], labels[here], unsure[here] = answers.probs, answers.labels, answers.unsure
        quality[: bundle.warmup_frames] |= WARMING_UP
        flags = quality[:total] | doubt[owed:]
        self.counters.out_of_range += int(np.count_nonzero(flags & OUT_OF_RANGE))
        self.counters.identity_jumps += int(np.count_nonzero(flags & IDENTITY_JUMP))
        self.reset()
        seq = np.arange(total, dtype=np.int64)
        return Predictions(bundle.heads, seq, probs[owed:], labels[owed:], flags, unsure[owed:])

    def _run_frames(self, recording: Recording) -> Predictions:
        """The same where frames are not simply stepped one after the other."""
        answers: list[Prediction] = []
        for seq in range(len(recording)):
            t_ns = round(seq * 1e9 / recording.fps)
            frame = Frame(self.stream, seq, t_ns, recording.keypoints[seq], recording.confidence[seq])
            answers += self.step(frame)
        return Predictions.collect(self.pool.bundle.heads, [*answers, *self.finish()])

    def finish(self) -> list[Prediction]:
        """The answers that the lookahead still owes, as if nothing more were seen; the stream is fresh afterwards."""
        answers = self._owed()
        self.reset()
        return answers

    def reset(self) -> None:
        """Start again: the next frame is a first one."""
        self.pool._reset(self.slot)
        self.pool.stages.look_afresh(self.slot)
        self._last, self._since_reset = None, 0
        self._pending.clear()
        if self._resampler is not None:
            self._resampler.reset()

    def drift(self) -> dict[str, Any]:
        """How far this stream's features have left training's ranges since it was opened.

        Plain values: frames stepped, how many were out_of_range, and the features that were out most, each with its
        name, frames, and farthest in widths of its range (`RangeCheck.report`). {} for a bundle without ranges.
        """
        return self.pool.stages.drift(self.slot)

    def close(self) -> None:
        """Give the slot back; closing twice is no error."""
        if not self._closed:
            self._closed = True
            heapq.heappush(self.pool._free, self.slot)

    def snapshot(self) -> bytes:
        """Everything that this stream remembers, to be restored in any pool of the same bundle and engine."""
        pool = self.pool
        plain = {
            "model": pool.bundle.hash,
            "engine": pool.engine.name,
            **pool.stages.snapshot(self.slot),
            "network": pool.engine.snapshot(self.slot),
            "last": self._last,
            "since_reset": self._since_reset,
            "pending": list(self._pending),
            "counters": asdict(self.counters),
            "resampler": None if self._resampler is None else self._resampler.state(),
        }
        packed: bytes = msgpack.packb(plain)
        return packed

    def restore(self, data: bytes) -> None:
        """Go on where a snapshot was taken, bit for bit. Raises RtsegError for another model's or engine's snapshot."""
        plain = msgpack.unpackb(data, strict_map_key=True)
        pool = self.pool
        here = (pool.bundle.hash, pool.engine.name)
        if (plain["model"], plain["engine"]) != here:
            raise RtsegError(
                f"the snapshot is of model {plain['model'][:12]} on engine {plain['engine']}; "
                f"here: {here[0][:12]} on {here[1]}"
            )
        pool.stages.restore(self.slot, plain)
        pool.engine.restore(self.slot, plain["network"])
        self._last = tuple(plain["last"]) if plain["last"] else None
        self._since_reset = plain["since_reset"]
        self._pending = deque((seq, t, flags) for seq, t, flags in plain["pending"])
        self.counters = Counters(**plain["counters"])
        if self._resampler is not None:
            self._resampler.restore(plain["resampler"], self.stream, pool.bundle.skeleton.shape)

    def _just_goes_on(self, frame: Frame) -> bool:
        """Whether a frame follows the last one of a warm stream, as nearly all do: it is then counted, with no flag."""
        last = self._last
        if last is None or frame.seq != last[0] + 1 or self._since_reset < self._warmup or not self._is_plain:
            return False
        self.counters.frames += 1
        self._since_reset += 1
        self._last = (frame.seq, frame.t_source_ns)
        return True

    def _admit(self, frame: Frame) -> list[tuple[Frame, int]]:
        """The frames to step for one that came, with their flags.

        None if it is a duplicate or late, or where a resampler waits for the next one.
        """
        self.counters.frames += 1
        if self._resampler is None:
            return self._follow(frame)
        last_seq = self._resampler.last_seq
        if last_seq is not None and frame.seq <= last_seq:
            self._count_old(frame.seq, last_seq)
            return []
        return [stepped for made in self._resampler.push(frame) for stepped in self._follow(made)]

    def _follow(self, frame: Frame) -> list[tuple[Frame, int]]:
        """The gap rule.

        Up to `fill_frames` missing frames are stepped as frames without any point; beyond that the stream restarts.
        """
        stepped = [(frame, 0)]
        if self._last is not None and frame.seq != self._last[0] + 1:
            stepped = self._bridge(frame, *self._last)
            if not stepped:
                return stepped
        self._last = (frame.seq, frame.t_source_ns)
        if self.pool.on_identity_jump == "reset" and self._jumped(frame, afresh=bool(stepped[-1][1] & RESET)):
            self.counters.restarts += 1
            before, self._since_reset = self._warming(stepped[:-1]), 0
            return [*before, *self._warming([(frame, RESET | IDENTITY_JUMP)])]
        return self._warming(stepped)

    def _warming(self, stepped: list[tuple[Frame, int]]) -> list[tuple[Frame, int]]:
        """Flag those that come too soon after a start, and count all."""
        cold = self._warmup - self._since_reset
        self._since_reset += len(stepped)
        if cold > 0:
            return [(f, flags | WARMING_UP if i < cold else flags) for i, (f, flags) in enumerate(stepped)]
        return stepped

    def _bridge(self, frame: Frame, last_seq: int, last_t: int) -> list[tuple[Frame, int]]:
        """The frames to step for one that does not follow the last one."""
        missing = frame.seq - last_seq - 1
        if missing < 0:
            self._count_old(frame.seq, last_seq)
            return []
        self.counters.gaps += 1
        if missing > self.pool.bundle.gaps.fill_frames:
            self.counters.restarts += 1
            self._since_reset = 0
            return [(frame, RESET)]
        self.counters.filled += missing
        stepped = []
        for i in range(1, missing + 1):
            t = last_t + (frame.t_source_ns - last_t) * i // (missing + 1)
            shape = self.pool.bundle.skeleton.shape
            stepped.append((missing_frame(shape, seq=last_seq + i, t_source_ns=t, stream=self.stream), GAP_FILLED))
        return [*stepped, (frame, 0)]

    def _count_old(self, seq: int, last_seq: int) -> None:
        self.counters.duplicates += seq == last_seq
        self.counters.late += seq < last_seq

    def _count(self, flags: int) -> None:
        """Count an answered frame's COUNTED flags."""
        self.counters.out_of_range += flags & OUT_OF_RANGE != 0
        self.counters.identity_jumps += flags & IDENTITY_JUMP != 0

    def _jumped(self, frame: Frame, *, afresh: bool) -> bool:
        """Whether animals seem to have been mixed up at this frame. afresh: nothing before it counts."""
        return self.pool.stages.jumped(frame.keypoints, frame.confidence, self.slot, afresh=afresh)

    def _owed(self) -> list[Prediction]:
        answers: list[list[Prediction]] = [[]]
        owed = len(self._pending)
        for _ in range(self.pool.bundle.lookahead_frames if owed else 0):
            blank = missing_frame(self.pool.bundle.skeleton.shape, seq=0, t_source_ns=0, stream=self.stream)
            self.pool._advance([(0, self, blank, 0)], answers)
        self._pending.clear()
        return answers[0][:owed]

    def _restart(self) -> list[Prediction]:
        """Give what is owed about the frames before a long gap, then forget them."""
        answers = self._owed()
        self.pool._reset(self.slot)
        return answers
