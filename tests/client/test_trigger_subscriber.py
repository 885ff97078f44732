"""Lines at another program's end: they come, are acknowledged, and go off when the other end falls silent."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import zmq

from rtseg.client import TriggerSubscriber
from rtseg.errors import ServeError
from rtseg.system.machine import boot_id
from rtseg.wire.line_messages import BEAT_TOPIC, LineMessage, line_topic, pack_line, parse_line_ack

TIMEOUT_S = 20.0


class Publisher:
    """The socket of a sink, and its acknowledgements."""

    def __init__(self) -> None:
        self._context = zmq.Context()
        self._lines, self.acks = self._context.socket(zmq.XPUB), self._context.socket(zmq.PULL)
        ports = [socket.bind_to_random_port("tcp://127.0.0.1") for socket in (self._lines, self.acks)]
        self.address, self._ack_address = (f"tcp://127.0.0.1:{port}" for port in ports)
        self._n = 0

    def beat(self) -> None:
        beat = LineMessage("beat", "r", 0, time.monotonic_ns(), boot=boot_id(), acknowledgements=self._ack_address)
        self.send(BEAT_TOPIC, pack_line(beat._replace(heartbeat_s=60.0), "msgpack"))

    def line(self, kind: str, event: int, hold_s: float = 0.0, trigger: str = "attack") -> None:
        self._n += 1
        message = LineMessage(
            kind, "r", self._n, time.monotonic_ns(), round(hold_s * 1e9), trigger, 8, "cage1", event, 17
        )
        self.send(line_topic(trigger), pack_line(message, "json"))

    def send(self, topic: bytes, data: bytes) -> None:
        self._lines.send_multipart([topic, data])

    def subscriber(self, *triggers: str, busy_poll: bool = False) -> TriggerSubscriber:
        """One that is connected: it waits for a first beat, which must be sent once it has subscribed."""
        found: list[TriggerSubscriber] = []
        about = {"connect_timeout_s": TIMEOUT_S, "busy_poll": busy_poll}
        thread = threading.Thread(target=lambda: found.append(TriggerSubscriber(self.address, triggers, **about)))
        thread.start()
        for _ in range(1 + max(1, len(triggers))):
            assert self._lines.poll(TIMEOUT_S * 1000)
            self._lines.recv()
        self.beat()
        thread.join(TIMEOUT_S)
        return found[0]

    def close(self) -> None:
        self._context.destroy(linger=0)


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    sink = Publisher()
    yield sink
    sink.close()


@pytest.mark.parametrize("busy_poll", [False, True])
def test_changes_and_acknowledgements(publisher: Publisher, busy_poll: bool) -> None:
    with publisher.subscriber(busy_poll=busy_poll) as lines:
        publisher.line("on", 1, 600.0)
        on = lines.receive(TIMEOUT_S)
        assert on is not None
        assert (on.is_on, on.trigger, on.line, on.stream, on.event, on.seq) == (True, "attack", 8, "cage1", 1, 17)
        assert lines.on == (on,)
        lines.acknowledge(on)
        ack = parse_line_ack(publisher.acks.recv())
        assert (ack.run, ack.event, ack.is_on) == ("r", 1, True)
        publisher.line("off", 1)
        changes = iter(lines)
        off = next(changes)
        assert (off.is_on, off.event, off.reason) == (False, 1, "")
        assert not lines.on
        assert lines.is_alive


@pytest.mark.parametrize("busy_poll", [False, True])
def test_silence_turns_off(publisher: Publisher, busy_poll: bool) -> None:
    with publisher.subscriber(busy_poll=busy_poll) as lines:
        publisher.line("on", 1, 1.5)
        on = lines.receive(TIMEOUT_S)
        assert on is not None
        off = lines.receive(TIMEOUT_S)
        assert off is not None
        assert (off.is_on, off.reason) == (False, "expired")
        publisher.line("renew", 1, 600.0)
        assert lines.receive(0.05) is None


def test_a_renewal_that_waits_keeps_a_line_on_and_one_that_is_late_does_not(publisher: Publisher) -> None:
    """A program that asks seldom: what it finds is what would have been so."""
    with publisher.subscriber() as lines:
        publisher.line("on", 1, 1.5)
        assert lines.receive(TIMEOUT_S) is not None
        publisher.line("renew", 1, 600.0)
        assert lines.receive(2.0) is None
        assert [change.event for change in lines.on] == [1]


def test_other_triggers_and_nonsense_are_left_out(publisher: Publisher, caplog: pytest.LogCaptureFixture) -> None:
    with publisher.subscriber("attack", "mount") as lines:
        publisher.line("on", 1, 600.0, trigger="attack2")
        publisher.send(line_topic("attack"), b"{nonsense")
        publisher.send(line_topic("attack"), b"\x81\xa1v\x02")
        publisher.line("on", 2, 600.0, trigger="mount")
        change = lines.receive(TIMEOUT_S)
        assert change is not None
        assert change.trigger == "mount"
        assert [record.getMessage()[:26] for record in caplog.records] == ["a message from the sink at"] * 2


def test_a_message_that_was_held_up_turns_nothing_on(publisher: Publisher) -> None:
    with publisher.subscriber() as lines:
        late = LineMessage("on", "r", 1, time.monotonic_ns() - 10**9, 10**8, "attack", 8, "cage1", 1, 17)
        publisher.send(line_topic("attack"), pack_line(late, "msgpack"))
        publisher.line("on", 2, 600.0)
        change = lines.receive(TIMEOUT_S)
        assert change is not None
        assert (change.event, lines.late) == (2, 1)


def test_nobody_there() -> None:
    with pytest.raises(ServeError, match=r"no daemon at tcp://127.0.0.1:9 within 0.1 s"):
        TriggerSubscriber("tcp://127.0.0.1:9", connect_timeout_s=0.1)
