"""One daemon for all tests of sources."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live import Child, daemon


@pytest.fixture(scope="package")
def child(tiny_bundle: Path) -> Iterator[Child]:
    with daemon(tiny_bundle, capacity=64) as child:
        yield child
