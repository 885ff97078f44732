"""A stamp of source files: the same as long as they are, another one as soon as one of them changes."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from types import ModuleType

from rtseg.compiled import cache_stamps


def module_at(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    return importlib.util.module_from_spec(spec)


def test_a_stamp_changes_with_any_of_its_files(tmp_path: Path) -> None:
    paths = [tmp_path / "one.py", tmp_path / "two.py"]
    for path in paths:
        path.write_text("rule = 1\n")
        os.utime(path, ns=(10**18, 10**18))
    modules = [module_at(path) for path in paths]
    first = cache_stamps.source_stamp(*modules)
    assert cache_stamps.source_stamp(*modules) == first
    os.utime(paths[0], ns=(10**18 + 1, 10**18 + 1))
    later = cache_stamps.source_stamp(*modules)
    paths[1].write_text("rule = 10\n")
    os.utime(paths[1], ns=(10**18, 10**18))
    assert len({first, later, cache_stamps.source_stamp(*modules)}) == 3


def test_a_module_without_a_file_adds_nothing() -> None:
    assert cache_stamps.source_stamp(ModuleType("nowhere")) == 0
