"""What a front keeps of every stream so that its worker can be replaced: states, frames, numbers of answers."""

from __future__ import annotations

from dataclasses import replace

import msgpack

from rtseg.config import ServeSettings
from rtseg.serve.workers.stream_backups import StreamBackups
from rtseg.serve.workers.worker_protocol import StreamState
from tests.live import HELLO, frame_of, random_walk

OPENED_NS = 1_000_000
HELLO_BYTES = msgpack.packb(HELLO)
OPENED = StreamState("cage1", b"one", HELLO_BYTES, 30.0, "model", OPENED_NS, None, 0, OPENED_NS, 0, 0, 0)


def frames_of(backups: StreamBackups) -> list[bytes]:
    """The frames that a new worker would get."""
    restore, *none = backups.restore_messages()
    assert not none
    return [data for _, _, data in restore.frames]


def test_frames_are_kept_from_one_state_to_the_next() -> None:
    backups = StreamBackups(ServeSettings())
    backups.record_state(OPENED)
    backup = backups.find("cage1", b"one")
    assert backup is not None
    assert backups.find("cage1", b"another") is None
    for seq in range(10):
        assert not backup.keep_frame(seq, seq, b"%d" % seq)
    assert frames_of(backups) == [b"%d" % seq for seq in range(10)]
    later = replace(OPENED, snapshot=b"after 6", handled_ns=6, last_answer=OPENED_NS + 7, owner=b"two")
    backups.record_state(later)
    assert frames_of(backups) == [b"7", b"8", b"9"]
    assert backups.find("cage1", b"two") is backup  # the same stream, over another connection
    backups.record_state(replace(OPENED, opened_ns=OPENED_NS + 99))
    assert frames_of(backups) == []  # opened anew: what came before is nothing to it
    backups.forget_stream("cage1")
    assert list(backups.restore_messages()) == []


def test_frames_that_a_worker_has_from_a_recording_are_kept_like_others() -> None:
    backups = StreamBackups(ServeSettings())
    backups.record_state(replace(OPENED, waiting=((3, 30, b"3"), (4, 40, b"4"))))
    assert frames_of(backups) == [b"3", b"4"]
    assert [restore.state for restore in backups.restore_messages()] == [OPENED]  # they are not sent twice
    backups.record_state(replace(OPENED, handled_ns=30))
    assert frames_of(backups) == [b"4"]


def test_what_is_kept_is_bounded() -> None:
    settings = ServeSettings(backlog_frames=10, worker_snapshot_s=0.5, worker_silence_s=1.0)
    backups = StreamBackups(settings)
    backups.record_state(OPENED)
    backup = backups.find("cage1")
    assert backup is not None
    assert backup.max_frames == 10 + 30 + 30
    assert [backup.keep_frame(seq, seq, b"%d" % seq) for seq in range(80)] == [False] * 70 + [True] * 10
    assert frames_of(backups)[0] == b"10"


def test_no_answer_goes_out_twice_and_no_new_one_is_held_back() -> None:
    backups = StreamBackups(ServeSettings())
    backups.record_state(OPENED)
    topic = b"cage1"
    assert [backups.admit_answer(topic, OPENED_NS + n) for n in (1, 2, 3)] == [True] * 3
    assert [backups.admit_answer(topic, OPENED_NS + n) for n in (2, 3, 4)] == [False, False, True]  # another worker's
    backups.record_state(replace(OPENED, opened_ns=2 * OPENED_NS, last_answer=2 * OPENED_NS))
    assert backups.admit_answer(topic, OPENED_NS + 5)  # the old opening's last answers, still on their way
    assert [backups.admit_answer(topic, 2 * OPENED_NS + n) for n in (1, 2)] == [True, True]


def test_a_replacement_is_told_which_answers_went_out() -> None:
    backups = StreamBackups(ServeSettings())
    backups.record_state(OPENED)
    assert backups.admit_answer(b"cage1", OPENED_NS + 3)
    assert not backups.admit_answer(b"cage1", OPENED_NS + 2)
    assert [restore.published for restore in backups.restore_messages()] == [OPENED_NS + 3]


def test_a_frame_of_the_stream_is_not_too_large_to_be_kept() -> None:
    backups = StreamBackups(ServeSettings())
    backups.record_state(OPENED)
    backup = backups.find("cage1")
    assert backup is not None
    frame = msgpack.packb(frame_of(random_walk(1, 0), 0))
    assert len(frame) <= backup.max_frame_bytes < 2000
