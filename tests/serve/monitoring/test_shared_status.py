"""A status in shared memory: what a reader sees of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from rtseg.errors import ServeError
from rtseg.serve.monitoring.shared_status import SharedStatus, SharedStatusReader


def test_a_shared_status_is_read_whole_or_not_at_all() -> None:
    shared = SharedStatus()
    try:
        reader = SharedStatusReader(shared.path)
        assert reader.read() == (0, {})

        def pieces() -> Iterator[dict[str, Any]]:
            yield {"n": 1, "streams": {}}
            yield {"streams": {"a": 1}}
            yield {"streams": {"b": 2}}

        shared.follow(pieces)
        for turn in range(1, 4):
            shared.write_piece(turn)
            assert reader.read() == (turn, {})  # alive, and nothing half said
        shared.write_piece(4)
        assert reader.read() == (4, {"n": 1, "streams": {"a": 1, "b": 2}})
        many = {"streams": {str(i): "x" * 2000 for i in range(1000)}}
        shared.write_all(lambda: iter([{"n": 2, "streams": {}}, many]), 5)
        assert reader.read() == (5, {"n": 2, "streams": {}, "cut": True})
    finally:
        shared.close()
    assert not shared.path.exists()
    with pytest.raises(ServeError, match="no status of a daemon"):
        SharedStatusReader(shared.path)
