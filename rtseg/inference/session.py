"""One stream's state and its step: frame in, answers out. The daemon, annotate and evaluate all go through here.

A `SessionPool` holds the slots of all streams of one model and steps them in one batch; a `Session` is one stream in
it. Reads no clock, opens nothing, and never looks ahead: what a frame gets depends on it and on the frames before it.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from copy import copy
from typing import Any

import numpy as np

from rtseg.bundle.bundle import Bundle
from rtseg.config import IDENTITY
from rtseg.engine.base import Engine
from rtseg.errors import FrameError, RtsegError, SettingError, SnapshotError
from rtseg.frames.frame import Frame, missing_frame
from rtseg.frames.resampling import Resampler
from rtseg.inference.gap_rule import RESET, Counters, FlaggedFrame, GapRule
from rtseg.inference.lookahead import PendingFrames
from rtseg.inference.model_slots import ModelSlots
from rtseg.inference.predictions import Prediction, Predictions
from rtseg.inference.recording_run import RecordingRun
from rtseg.inference.snapshots import SessionSnapshot, pack_snapshot, unpack_snapshot
from rtseg.inference.stages import FROZEN, IDENTITY_JUMP, OUT_OF_RANGE, Arena
from rtseg.recordings.recording import Recording, clean

COUNTED = OUT_OF_RANGE | IDENTITY_JUMP | FROZEN
_Row = tuple[int, "Session", Frame, int]
"""A frame to step: its place among those that came, and its flags."""


class SessionPool:
    """All streams of one bundle on one engine: up to `engine.capacity` of them.

    on_identity_jump: one of `config.IDENTITY`: what is done about animals that the tracker has mixed up
    (`features.identity`). It changes answers, so live and offline must be given the same. Raises SettingError.
    """

    def __init__(self, bundle: Bundle, engine: Engine, on_identity_jump: str = "flag") -> None:
        if on_identity_jump not in IDENTITY:
            raise SettingError(f"identity must be one of {', '.join(IDENTITY)}; got {on_identity_jump!r}")
        self.bundle, self.engine, self.on_identity_jump = bundle, engine, on_identity_jump
        watch, swap = on_identity_jump != "reset", on_identity_jump == "swap"
        self.slots = ModelSlots(bundle, engine, watch=watch, swap=swap)
        self.heads, self.capacity = bundle.heads, engine.capacity
        self._free = list(range(engine.capacity))  # a heap: few streams stay in low slots, near one another

    def open(
        self, stream: str, arena: Arena | None = None, fps: float | None = None, px_per_mm: float | None = None
    ) -> Session:
        """A session in a free slot. arena: its box in px; None = the bundle's. fps: of a camera to be resampled.

        px_per_mm: of the stream; where the bundle has one too, its px are brought to training's.

        Raises RtsegError when all slots are taken, RateError for a camera that cannot be resampled (`resampling`).
        """
        # Before a slot is taken: a rate that is refused must not cost one.
        resampler = None if fps is None else Resampler(fps, self.bundle.fps, f"stream {stream!r}")
        if not self._free:
            raise RtsegError(
                f"stream {stream!r}: all {self.capacity} slots are taken; close a stream or serve with more capacity"
            )
        slot = heapq.heappop(self._free)
        self.slots.open_slot(slot, arena, px_per_mm)
        session = Session(self, slot, stream, resampler)
        session.reset()  # the stream that had this slot before has left its state there
        return session

    def release_slot(self, slot: int) -> None:
        """Another stream may have this slot."""
        heapq.heappush(self._free, slot)

    def step(self, sessions: Sequence[Session], frames: Sequence[Frame]) -> list[list[Prediction]]:
        """One frame for each row, in order, stepped as one batch; a session may come more than once.

        Returns for each row its answers: normally exactly one. None for a duplicate or late frame, or while a
        lookahead fills; after a short gap one more for each missing frame.
        """
        # Rows are gathered over all sessions and stepped at the end, in one batch wherever no stream restarts.
        answers: list[list[Prediction]] = [[] for _ in frames]
        rows: list[_Row] = []
        for place, session, frame in zip(range(len(frames)), sessions, frames, strict=True):
            # Nearly every frame: no list of frames to step, and no flags.
            if session.takes_any_next and session.gap_rule.takes_next(frame):
                rows.append((place, session, frame, 0))
                continue
            for stepped, flags in session.admit_frame(frame):
                if flags & RESET:
                    # What was admitted of this stream before the restart is stepped before its slot is reset.
                    self._step_rows(rows, answers)
                    rows = []
                    answers[place] += session.restart()
                rows.append((place, session, stepped, flags))
        self._step_rows(rows, answers)
        return answers

    def _step_rows(self, rows: list[_Row], answers: list[list[Prediction]]) -> None:
        """Step the rows and put what is due into the answers."""
        if not rows:
            return
        n = len(rows)
        keypoints, confidence, slots, features = self.slots.row_buffers(n)
        if n == 1:  # a lone frame would pay 5 µs for the general way
            _, session, frame, _ = rows[0]
            keypoints[0], confidence[0], slots[0] = frame.keypoints, frame.confidence, session.slot
        else:
            # One call for all rows: assigning row by row costs a call for each.
            a, k = confidence.shape[1:]
            np.concatenate([frame.keypoints for _, _, frame, _ in rows], out=keypoints.reshape(n * a, k, 2))
            np.concatenate([frame.confidence for _, _, frame, _ in rows], out=confidence.reshape(n * a, k))
            slots[:] = [session.slot for _, session, _, _ in rows]
        batch, seen, unsure = self.slots.compute_rows(keypoints, confidence, slots, features)
        lookahead = self.bundle.lookahead_frames
        flagged = zip(range(n), rows, seen.tolist(), unsure.tolist(), strict=True)
        for i, (place, session, frame, flags), seen_flags, unsure_flags in flagged:
            seq, t_source_ns, flags = frame.seq, frame.t_source_ns, flags | seen_flags
            # Without a lookahead the answer is about the frame that was stepped, and nothing has to be held.
            if lookahead:
                due = session.pending.exchange_frame((seq, t_source_ns, flags))
                if due is None:
                    continue
                seq, t_source_ns, flags = due
            # After the exchange: what was seen is the stepped frame's, whether a head is unsure is the answer's.
            flags |= unsure_flags
            if flags & COUNTED:
                session.count_flags(flags)
            # The gap rule counts model frames, but whoever reads the answer knows the camera's numbers.
            if session.resampler is not None:
                seq = session.resampler.camera_seq(seq)
            answers[place].append(Prediction(session.stream, seq, t_source_ns, flags, batch, i))

    def step_blanks(self, session: Session, n: int) -> list[Prediction]:
        """The answers that come with n frames without any point, as if nothing more were seen."""
        blank = missing_frame(self.bundle.skeleton.shape, seq=0, t_source_ns=0, stream=session.stream)
        answers: list[list[Prediction]] = [[]]
        for _ in range(n):
            self._step_rows([(0, session, blank, 0)], answers)
        return answers[0]


class Session:
    """One stream of a pool; made by `SessionPool.open`.

    Besides its users the pool calls it: gap_rule, pending, resampler and takes_any_next are for `SessionPool.step`, as
    are `admit_frame`, `restart` and `count_flags`. takes_any_next: whether a frame that follows the last one is stepped
    as it is; not where it is resampled first, or may restart the stream.
    """

    def __init__(self, pool: SessionPool, slot: int, stream: str, resampler: Resampler | None = None) -> None:
        bundle = pool.bundle
        self.pool, self.slot, self.stream = pool, slot, stream
        self.resampler: Resampler | None
        self.gap_rule = GapRule(stream, bundle.skeleton.shape, bundle.gaps.fill_frames, bundle.warmup_frames)
        self.pending = PendingFrames(bundle.lookahead_frames)
        self._restarts_on_jump = pool.on_identity_jump == "reset"
        self._resample_with(resampler)
        self._closed = False

    def step(self, frame: Frame) -> list[Prediction]:
        """The answers that one frame brings; see `SessionPool.step`."""
        return self.pool.step([self], [frame])[0]

    @property
    def counters(self) -> Counters:
        """What this stream has seen."""
        return self.gap_rule.counters

    @property
    def last_seq(self) -> int | None:
        """Number of the newest frame; None before the first."""
        if self.resampler is not None:
            return self.resampler.last_seq
        return None if self.gap_rule.last is None else self.gap_rule.last[0]

    @property
    def is_resampled(self) -> bool:
        """Whether the camera runs at another rate than the model."""
        return self.resampler is not None

    @property
    def delay_s(self) -> float:
        """By how much resampling delays answers at most; 0 without resampling."""
        return 0.0 if self.resampler is None else self.resampler.delay_s

    def follow(self, before: Session) -> None:
        """Continue another session's numbering and counters, whatever its model; the state stays fresh.

        Must come before the first step: the frames that follow are warming up.
        """
        # The counters are shared, not copied: the stream continues, and they count for it.
        self.gap_rule.last, self.gap_rule.counters = before.gap_rule.last, before.counters
        self._resample_with(copy(before.resampler))

    def run(self, recording: Recording, chunk_frames: int = 4096) -> Predictions:
        """All answers about a recording, from a fresh state: those that a stream of the frames that came would get.

        Absent frames are filled, or restart the stream, by the rule for live ones (`frames.gaps`); those that are not
        filled get no answer: `seq` skips them. The recording must have the bundle's skeleton (`Recording.select`).
        """
        bundle = self.pool.bundle
        # Only the shape is checked: `Recording.select` has matched the names.
        if recording.skeleton.shape != bundle.skeleton.shape:
            raise FrameError(
                f"{recording.name}: expected (animals, keypoints) {bundle.skeleton.shape}, got "
                f"{recording.skeleton.shape}; use recording.select(bundle.skeleton)"
            )
        self.reset()
        if not self.takes_any_next:
            # Resampling and restarts depend on what came before, frame by frame; there is no chunk to compute at once.
            return self._run_frames(recording)
        run = RecordingRun(self.pool.slots, self.slot, self.gap_rule, self.pending)
        answers = run.answer(recording, chunk_frames)
        self.reset()
        return answers

    def _run_frames(self, recording: Recording) -> Predictions:
        """`run` for sessions that resample or may restart: frame by frame."""
        answers: list[Prediction] = []
        times = recording.source_times()
        points, scores = clean(recording.keypoints, recording.confidence)
        for t in recording.came.tolist():
            # Frame after frame through the live path itself.
            answers += self.step(Frame(self.stream, recording.first_seq + t, int(times[t]), points[t], scores[t]))
        return Predictions.collect(self.pool.bundle.heads, [*answers, *self.finish()])

    def finish(self) -> list[Prediction]:
        """The answers that the lookahead still holds back, as if nothing more were seen; then the stream is fresh."""
        answers = self._owed_answers()
        self.reset()
        return answers

    def reset(self) -> None:
        """Start again: the next frame is a first one."""
        self.pool.slots.reset_slot(self.slot)
        # Here always: `reset_slot` keeps the animals' places where a jump restarts the stream.
        self.pool.slots.stages.forget_identities(self.slot)
        self.gap_rule.reset()
        self.pending.frames.clear()
        if self.resampler is not None:
            self.resampler.reset()

    def drift(self) -> dict[str, Any]:
        """How far this stream's features have left training's ranges since it was opened.

        Plain values: frames stepped, how many were out_of_range, and the features that were out most, each with its
        name, frames, and farthest in widths of its range (`RangeCheck.report`); and body_size (`size`). Without what
        the bundle does not know of its training.
        """
        return self.pool.slots.stages.drift(self.slot)

    def size(self) -> dict[str, Any]:
        """How large this stream's animals appear beside training's (`SizeMeter.report`); {} where that is not known."""
        return self.pool.slots.stages.size(self.slot)

    def close(self) -> None:
        """Give the slot back; closing twice is no error."""
        if not self._closed:
            self._closed = True
            self.pool.release_slot(self.slot)

    def snapshot(self) -> bytes:
        """Everything that this stream remembers, to be restored in any pool of the same bundle and engine."""
        rule, pool = self.gap_rule, self.pool
        session = SessionSnapshot(
            model=pool.bundle.hash,
            engine=pool.engine.name,
            last=rule.last,
            since_reset=rule.since_reset,
            pending=list(self.pending.frames),
            counters=rule.counters,
            resampler=None if self.resampler is None else self.resampler.state(),
        )
        return pack_snapshot(session, pool.slots.snapshot(self.slot))

    def restore(self, data: bytes) -> None:
        """Continue where a snapshot was taken, bit for bit.

        Raises RtsegError for another model's or engine's snapshot, SnapshotError for a damaged one; the session then
        stays as it was.
        """
        found, plain = unpack_snapshot(data)
        pool = self.pool
        here = (pool.bundle.hash, pool.engine.name)
        if (found.model, found.engine) != here:
            raise RtsegError(
                f"the snapshot is of model {found.model[:12]} on engine {found.engine}; "
                f"here: {here[0][:12]} on {here[1]}"
            )
        if len(found.pending) > self.pending.lookahead:
            raise SnapshotError(f"the snapshot is damaged: {len(found.pending)} of its frames wait for their answers")
        # Into a copy, so that the session stays as it was where something below is refused.
        resampler = copy(self.resampler)
        if resampler is not None:
            resampler.restore(found.resampler, self.stream, pool.bundle.skeleton.shape)
        pool.slots.restore(self.slot, pool.slots.load_snapshot(plain))
        # Nothing refuses from here on.
        self.gap_rule.last, self.gap_rule.since_reset = found.last, found.since_reset
        self.gap_rule.counters = found.counters
        self.pending.frames = deque(found.pending)
        self.resampler = resampler

    def admit_frame(self, frame: Frame) -> list[FlaggedFrame]:
        """The frames to step for one that came, with their flags; those with RESET need `restart` first.

        None if it is a duplicate or late, or where a resampler waits for the next one.
        """
        self.counters.frames += 1
        self.counters.clipped += frame.is_clipped
        if self.resampler is None:
            return self._frames_to_step(frame)
        # The gap rule sees the model's frame numbers, so camera frames that are not new are counted here.
        last_seq = self.resampler.last_seq
        if last_seq is not None and frame.seq <= last_seq:
            self.gap_rule.count_old(frame.seq, last_seq)
            return []
        return [flagged for made in self.resampler.push(frame) for flagged in self._frames_to_step(made)]

    def restart(self) -> list[Prediction]:
        """Return the answers that are still due about the frames before the restart, then forget those frames."""
        answers = self._owed_answers()
        self.pool.slots.reset_slot(self.slot)
        return answers

    def count_flags(self, flags: int) -> None:
        """Count an answered frame's COUNTED flags."""
        self.counters.out_of_range += flags & OUT_OF_RANGE != 0
        self.counters.identity_jumps += flags & IDENTITY_JUMP != 0
        self.counters.frozen += flags & FROZEN != 0

    def _frames_to_step(self, frame: Frame) -> list[FlaggedFrame]:
        """What the gap rule says of a frame of the model's rate, and of animals that are mixed up in it."""
        rule = self.gap_rule
        frames = rule.frames_to_step(frame)
        if not frames or not self._restarts_on_jump:
            return rule.flag_warm_up(frames)
        stages, afresh = self.pool.slots.stages, bool(frames[-1][1] & RESET)
        if not stages.sees_identity_jump(frame.keypoints, frame.confidence, self.slot, afresh=afresh):
            return rule.flag_warm_up(frames)
        # Filled frames before the jump still belong to the stream as it was.
        before = rule.flag_warm_up(frames[:-1])
        rule.restart()
        return [*before, *rule.flag_warm_up([(frame, RESET | IDENTITY_JUMP)])]

    def _owed_answers(self) -> list[Prediction]:
        owed = len(self.pending.frames)
        # As many blanks as the lookahead, however few answers are owed: the newest frame's comes with the last one.
        answers = self.pool.step_blanks(self, self.pending.lookahead if owed else 0)
        self.pending.frames.clear()
        return answers[:owed]

    def _resample_with(self, resampler: Resampler | None) -> None:
        self.resampler = resampler
        # Worked out once: it is looked at for every frame.
        self.takes_any_next = resampler is None and not self._restarts_on_jump
