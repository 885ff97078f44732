"""Who is refused for lack of time, and when."""

from __future__ import annotations

import pytest

from rtseg.serve.timing.loop_load import CapacityError, LoopLoad


def loaded(share: float, frames_per_s: int, max_load: float = 0.9) -> LoopLoad:
    load = LoopLoad(max_load)
    turn_ns = 1_000_000_000 // frames_per_s
    for i in range(1, 2 * frames_per_s):
        load.count_turn(int(turn_ns * share), 1, i * turn_ns)
    return load


def test_the_load_is_the_share_of_the_time() -> None:
    share, frames_per_s = loaded(0.6, 1000).measured()
    assert share == pytest.approx(0.6, rel=0.01)
    assert frames_per_s == pytest.approx(1000, rel=0.01)
    assert LoopLoad(0.9).measured() == (0.0, 0.0)


def test_one_stream_too_many_is_refused_with_the_reason() -> None:
    load = loaded(0.85, 1000)
    load.check_new_stream("s", 30.0, 1000.0)
    with pytest.raises(CapacityError, match=r"stream 's': the daemon is busy 85% .* 100 more would make it 9[34]%"):
        load.check_new_stream("s", 100.0, 1000.0)


def test_streams_that_have_not_begun_to_send_count_as_well() -> None:
    with pytest.raises(CapacityError):
        loaded(0.6, 1000).check_new_stream("s", 30.0, 2000.0)


def test_nobody_is_refused_while_nothing_is_known_or_there_is_time() -> None:
    LoopLoad(0.9).check_new_stream("s", 1e6, 1e6)
    loaded(0.3, 1000).check_new_stream("s", 1e6, 1e6)
    loaded(0.99, 1000, max_load=0.0).check_new_stream("s", 1e6, 1e6)
