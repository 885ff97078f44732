"""The peak of a piece of work's memory: what it held and gave back counts."""

from __future__ import annotations

import numpy as np
import pytest

from rtseg.training.memory import MARK, peak_memory


@pytest.mark.skipif(not MARK.exists(), reason="the system keeps no mark of memory that can be reset")
def test_memory_that_was_given_back_counts() -> None:
    with peak_memory() as found:
        held = np.ones(60 << 17)  # 60 MiB
        del held
    assert 50 < found[0] < 200
    with peak_memory() as little:
        pass
    assert little[0] < 20
