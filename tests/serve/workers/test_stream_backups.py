"""What a front keeps of streams, topics and questions, so that a worker can be replaced."""

from __future__ import annotations

import msgpack
import pytest

from rtseg.config import ServeSettings
from rtseg.errors import ServeError
from rtseg.serve.workers import worker_protocol
from rtseg.serve.workers.pending_status import MAX_OPEN, PendingStatus
from rtseg.serve.workers.stream_backups import MAX_ASKED, StreamBackups
from rtseg.serve.workers.subscriptions import SubscribedTopics

OPENED_NS = 1_000_000


def told(stream: str = "cage1", **changes: object) -> dict[str, object]:
    """What a worker says of a stream."""
    plain = {
        "type": "stream",
        "stream": stream,
        "owner": b"one",
        "hello": {"fps": 30.0},
        "opened_ns": OPENED_NS,
        "state": None,
        "seq": None,
        "answers": OPENED_NS,
        "outside": [0, 0, 0],
    }
    return plain | changes


def frames_of(kept: StreamBackups) -> list[bytes]:
    """The frames that a new worker would get."""
    (_, data), *none = kept.restored()
    assert not none
    return [frame for _, frame in worker_protocol.unpack(data)["frames"]]


def test_frames_are_kept_from_one_state_to_the_next() -> None:
    streams = StreamBackups(ServeSettings())
    streams.note(told())
    kept = streams.find("cage1", b"one")
    assert kept is not None
    assert streams.find("cage1", b"another") is None
    for seq in range(10):
        assert not kept.keep(seq, seq, b"%d" % seq)
    assert frames_of(streams) == [b"%d" % seq for seq in range(10)]
    streams.note(told(state=b"after 6", seq=6, answers=OPENED_NS + 7, owner=b"two"))
    assert frames_of(streams) == [b"7", b"8", b"9"]
    assert streams.find("cage1", b"two") is kept  # the same stream, over another connection
    streams.note(told(opened_ns=OPENED_NS + 99))
    assert frames_of(streams) == []  # opened anew: what came before is nothing to it
    streams.note({"type": "ended", "stream": "cage1"})
    assert list(streams.restored()) == []


def test_what_is_kept_is_bounded() -> None:
    settings = ServeSettings(backlog_frames=10, worker_snapshot_s=0.5, worker_silence_s=1.0)
    streams = StreamBackups(settings)
    streams.note(told())
    kept = streams.find("cage1")
    assert kept is not None
    assert kept.most == 10 + 30 + 30
    assert [kept.keep(seq, seq, b"%d" % seq) for seq in range(80)] == [False] * 70 + [True] * 10
    assert frames_of(streams)[0] == b"10"
    for i in range(MAX_ASKED + 5):
        streams.ask(b"one", "hello", f"cage{i}", b"")
    assert len(list(streams.unanswered())) == MAX_ASKED


def test_nothing_is_published_twice_and_nothing_new_is_held_back() -> None:
    streams = StreamBackups(ServeSettings())
    streams.note(told())
    topic = b"cage1"
    assert [streams.is_news(topic, OPENED_NS + n) for n in (1, 2, 3)] == [True] * 3
    assert [streams.is_news(topic, OPENED_NS + n) for n in (2, 3, 4)] == [False, False, True]  # another worker's
    streams.note(told(opened_ns=2 * OPENED_NS, answers=2 * OPENED_NS))
    assert streams.is_news(topic, OPENED_NS + 5)  # the old opening's last answers, still on their way
    assert [streams.is_news(topic, 2 * OPENED_NS + n) for n in (1, 2)] == [True, True]


@pytest.mark.parametrize(
    ("asked", "answer", "open_after"),
    [
        ("hello", {"type": "accepted", "stream": "cage1"}, 0),
        ("hello", {"type": "refused", "stream": "cage1"}, 0),
        ("bye", {"type": "goodbye", "stream": "cage1"}, 0),
        ("bye", {"type": "error", "stream": "cage1", "seq": None}, 0),
        ("bye", {"type": "error", "stream": "cage1", "seq": 3}, 1),  # about a frame
        ("bye", {"type": "goodbye", "stream": "cage2"}, 1),
        ("hello", {"type": "beat", "stream": "cage1"}, 1),
    ],
)
def test_a_question_is_asked_again_until_it_is_answered(asked: str, answer: dict[str, object], open_after: int) -> None:
    streams = StreamBackups(ServeSettings())
    streams.ask(b"one", asked, "cage1", b"message")
    assert list(streams.unanswered()) == [(b"one", asked, "cage1", b"message")]
    streams.answered(b"two", answer)
    assert len(list(streams.unanswered())) == 1
    streams.answered(b"one", answer)
    assert len(list(streams.unanswered())) == open_after


def test_a_topic_is_confirmed_once_every_worker_knows_it() -> None:
    topics = SubscribedTopics(2)
    assert topics.subscribed(b"cage1") is None
    assert not topics.confirmed(b"cage1", 0, b"yes")
    assert not topics.confirmed(b"cage1", 0, b"yes")
    assert topics.confirmed(b"cage1", 1, b"yes")
    assert topics.subscribed(b"cage1") == b"yes"  # the next subscriber need not wait
    topics.forget_worker(1)
    assert topics.subscribed(b"cage1") is None
    assert topics.confirmed(b"cage1", 1, b"yes")


def test_a_topic_is_forgotten_when_no_confirmation_can_be_on_its_way() -> None:
    topics = SubscribedTopics(1)
    topics.subscribed(b"cage1")
    topics.unsubscribed(b"cage1")
    assert topics.unwanted() == []
    assert not topics.confirmed(b"cage1", 0, b"yes")  # nobody waits for it any more
    assert topics.unwanted() == [b"cage1"]
    assert list(topics) == []
    topics.unsubscribed(b"never heard of")


def test_a_status_is_whole_when_all_have_answered() -> None:
    asked, summary = PendingStatus(), {"count": 1, "p50_us": 5.0}
    answer = {"type": "status", "capacity": 4, "load": 0.25, "stale": ["a"], "latency": {"step": summary}}
    answer |= {key: {"a": 1} for key in ("streams", "drift", "models", "clocks")} | {"counters": {"frames": 2}}
    other = answer | {key: {"b": 2} for key in ("streams", "drift", "models", "clocks")} | {"load": 0.5}
    name = asked.begin(b"client", 2)
    assert asked.knows(name)
    assert not asked.knows(b"\x00\x01\x02\x03\x04")
    assert asked.add(name, answer) is None
    client, whole = asked.add(name, other) or (b"", {})
    assert client == b"client"
    assert (whole["capacity"], whole["load"], whole["counters"]) == (8, 0.5, {"frames": 4})
    assert whole["streams"] == {"a": 1, "b": 2}
    assert whole["latency"] == {"step": {"count": 2, "p50_us": 5.0}}
    for _ in range(MAX_OPEN + 5):
        asked.begin(b"client", 2)
    assert len(asked.give_up()) == MAX_OPEN
    assert asked.give_up() == []


def test_messages_of_another_version_are_told() -> None:
    with pytest.raises(ServeError, match="not of the same version"):
        worker_protocol.unpack(msgpack.packb({"type": "snapshot"}))
    heard = worker_protocol.unpack(worker_protocol.answers([(b"cage1", 2**63, b"an answer")]))
    assert heard["of"] == [[b"cage1", 2**63, b"an answer"]]


def test_who_takes_a_place_hears_what_went_out() -> None:
    streams = StreamBackups(ServeSettings())
    streams.note(told())
    assert streams.is_news(b"cage1", OPENED_NS + 3)
    assert not streams.is_news(b"cage1", OPENED_NS + 2)
    (_, data), *none = streams.restored()
    assert not none
    assert worker_protocol.unpack(data)["published"] == OPENED_NS + 3
