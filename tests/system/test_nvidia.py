from __future__ import annotations

from rtseg.system import nvidia


def test_gpus_are_asked_once_and_a_reason_is_one_line() -> None:
    found = nvidia.gpus()
    assert found is nvidia.gpus()
    assert found
    assert "\n" not in str(found)
