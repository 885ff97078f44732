"""Topics that subscribers of a front want, and workers' confirmations of them."""

from __future__ import annotations

from rtseg.serve.workers.subscriptions import SubscribedTopics


def test_a_topic_is_confirmed_once_every_worker_knows_it() -> None:
    topics = SubscribedTopics(2)
    assert topics.subscribe(b"cage1") is None
    assert not topics.confirm(b"cage1", 0, b"yes")
    assert not topics.confirm(b"cage1", 0, b"yes")
    assert topics.confirm(b"cage1", 1, b"yes")
    assert topics.subscribe(b"cage1") == b"yes"  # the next subscriber need not wait
    topics.forget_worker(1)
    assert topics.subscribe(b"cage1") is None
    assert topics.confirm(b"cage1", 1, b"yes")


def test_a_topic_is_forgotten_when_no_confirmation_can_be_on_its_way() -> None:
    topics = SubscribedTopics(1)
    topics.subscribe(b"cage1")
    topics.unsubscribe(b"cage1")
    assert topics.take_unwanted() == []
    assert not topics.confirm(b"cage1", 0, b"yes")  # nobody waits for it any more
    assert topics.take_unwanted() == [b"cage1"]
    assert list(topics) == []
    topics.unsubscribe(b"never heard of")
