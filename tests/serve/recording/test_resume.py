"""What is read of the recording of a worker that was killed: its streams' states, and answers that nobody has heard."""

from __future__ import annotations

from pathlib import Path

import msgpack

from rtseg.config import ServeSettings
from rtseg.frames.skeleton import MICE7
from rtseg.recorder.reading import RecordingFile
from rtseg.recorder.recorder import Recorder
from rtseg.serve.recording.resume import finish_all, read_pasts
from rtseg.wire.messages import Hello

HELLO = Hello("cage1", MICE7, 30.0).to_message()
OPENED_NS = 1000


def put(recorder: Recorder, seqs: range) -> None:
    """Frames and their answers."""
    for seq in seqs:
        recorder.record_frame(msgpack.packb({"stream": "cage1", "seq": seq}), OPENED_NS + seq)
        recorder.record_prediction(answer(seq), OPENED_NS + seq)


def answer(seq: int) -> bytes:
    """As it was published."""
    packed: bytes = msgpack.packb({"stream": "cage1", "seq": seq, "probs": {}})
    return packed


def snapshot(recorder: Recorder, seq: int) -> None:
    """The state after a frame."""
    recorder.record_snapshot(HELLO, b"after %d" % seq, OPENED_NS + seq, OPENED_NS, OPENED_NS + seq + 1)


def test_answers_before_the_last_state_are_at_hand(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, {}, ServeSettings())
    recorder.record_opening(HELLO, OPENED_NS)
    put(recorder, range(10))
    snapshot(recorder, 9)
    recorder.stream_due_for_snapshot(2_000_000_000)  # a mark: reading for another daemon's sake begins at the state
    put(recorder, range(10, 14))
    snapshot(recorder, 13)
    put(recorder, range(14, 16))
    recorder.close()
    with RecordingFile(recorder.file) as file:
        assert next(file.recent()).topic == "snapshots"
    past = read_pasts(tmp_path, 0)["cage1"]
    assert (past.state, past.number, len(past.frames)) == (b"after 13", OPENED_NS + 14, 2)
    unheard = past.answers_after(OPENED_NS + 3)
    assert unheard == [(OPENED_NS + seq + 1, answer(seq)) for seq in range(3, 16)]
    assert past.answers_after(OPENED_NS + 16) == []


def test_a_second_kill_leaves_them_at_hand(tmp_path: Path) -> None:
    first = Recorder(tmp_path, {}, ServeSettings(), "-w0")
    first.record_opening(HELLO, OPENED_NS)
    put(first, range(5))
    first.close()
    second = Recorder(tmp_path, {}, ServeSettings(), "-w0")
    second.record_opening(HELLO, OPENED_NS + 5, resumed=True)
    second.close()  # killed before it had noted the state
    assert len(read_pasts(tmp_path, 0)["cage1"].frames) == 5
    third = Recorder(tmp_path, {}, ServeSettings(), "-w0")
    third.record_opening(HELLO, OPENED_NS + 5, resumed=True)
    snapshot(third, 4)
    third.close()
    past = read_pasts(tmp_path, 0)["cage1"]
    assert (past.state, past.frames) == (b"after 4", [])
    assert [data for _, data in past.answers_after(OPENED_NS + 3)] == [answer(3), answer(4)]


def test_a_file_that_was_only_begun_is_closed(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, {}, ServeSettings())
    recorder.close()
    begun = tmp_path / "rtseg-begun.mcap"
    begun.write_bytes(recorder.file.read_bytes()[: recorder._beginning])
    finish_all(tmp_path, 0)
    assert begun.read_bytes() == recorder.file.read_bytes()
    finish_all(tmp_path, 0)
    assert begun.read_bytes() == recorder.file.read_bytes()
