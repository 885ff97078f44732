"""The peak of a piece of work's memory: what it held and gave back counts."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from rtseg.system.peak_memory import MARK

WORK = """
import json
import numpy as np
from rtseg.system.peak_memory import peak_memory

with peak_memory() as found:
    held = np.ones(60 << 17)  # 60 MiB
    del held
with peak_memory() as little:
    pass
print(json.dumps([found[0], little[0]]))
"""


@pytest.mark.skipif(not MARK.exists(), reason="the system keeps no mark of memory that can be reset")
def test_memory_that_was_given_back_counts() -> None:
    # A process of its own, as `peak_memory` asks for: the suite's has memory to give back at any moment.
    said = subprocess.run([sys.executable, "-c", WORK], capture_output=True, text=True, check=True, timeout=60).stdout
    found, little = json.loads(said)
    assert 50 < found < 200
    assert little < 20
