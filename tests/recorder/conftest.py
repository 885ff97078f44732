from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rtseg.recorder.recorder import Recorder
from tests.recorder.scenes import SMALL


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    recorder = Recorder(tmp_path, {"model": "m"}, SMALL)
    yield recorder
    recorder.close()
    assert not list(Path("/dev/shm").glob(f"rtseg-{recorder.session}*"))
