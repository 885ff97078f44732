"""A package with a sink of its own, installed for this process and its children."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

from tests.sinks.peers import OWN_SINK, install_package


@pytest.fixture(scope="session", autouse=True)
def own_sinks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("site")
    install_package(folder, "told_sink", OWN_SINK, "[rtseg.sinks]\ntold = told_sink:Told\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH", "")])))
        yield
    sys.modules.pop("told_sink", None)
