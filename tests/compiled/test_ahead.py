"""Kernels compiled ahead, by other processes, are found by a call; whatever goes wrong there, a call compiles."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from rtseg.compiled import ahead
from rtseg.compiled.ahead import Kernel, compile_elsewhere, compile_missing

NAME = "kernels_to_compile_ahead"
TEXT = """
from numba import njit

@njit(cache=True)
def double(values):
    for i in range(len(values)):
        values[i] *= 2

@njit(cache=True)
def total(values, more):
    return values.sum() + more

@njit(cache=True)
def refused(values):
    return values.no_such_thing

def plain(values):
    return values
"""
DOUBLE, TOTAL = Kernel(NAME, "double", "float64[::1]"), Kernel(NAME, "total", "float64[::1], int64")


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    (tmp_path / f"{NAME}.py").write_text(TEXT, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))  # for the children
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(ahead, "_cores", lambda: 2)
    yield importlib.import_module(NAME)
    sys.modules.pop(NAME)


def leave_all_to_children(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "_compile_next", lambda kernels, queue: None)


def test_a_call_finds_what_another_process_has_compiled(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_all_to_children(monkeypatch)
    assert not DOUBLE.is_kept()
    assert compile_missing([DOUBLE, TOTAL]) == 2
    assert DOUBLE.is_kept()
    assert not module.double.signatures  # and yet it has only been asked for
    values = np.array([1.0, 2.5])
    module.double(values)
    assert module.total(values, 1) == 8
    for function in (module.double, module.total):
        assert (sum(function.stats.cache_hits.values()), sum(function.stats.cache_misses.values())) == (1, 0)
    assert compile_missing([DOUBLE, TOTAL]) == 0


def test_one_that_answers_frames_leaves_all_of_it_to_others(module: ModuleType) -> None:
    assert compile_elsewhere([DOUBLE]) == 1
    assert DOUBLE.is_kept()
    assert not module.double.signatures
    assert compile_elsewhere([DOUBLE]) == 0


def test_this_process_takes_its_share(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead.subprocess, "Popen", lambda *_, **__: SimpleNamespace(wait=int, kill=int))
    assert compile_missing([DOUBLE, TOTAL]) == 2
    assert module.double.signatures == [DOUBLE.types]
    assert TOTAL.is_kept()


def test_what_cannot_be_compiled_is_left_to_its_call(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_all_to_children(monkeypatch)
    compile_missing([Kernel(NAME, "refused", "float64[::1]"), TOTAL])
    with pytest.raises(Exception, match="no_such_thing"):
        module.refused(np.zeros(1))
    assert module.total(np.ones(3), 1) == 4


def test_one_alone_and_one_core_are_left_to_the_call(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "_share", None)
    assert compile_missing([DOUBLE]) == 0
    monkeypatch.setattr(ahead, "_cores", lambda: 1)
    assert compile_missing([DOUBLE, TOTAL]) == 0
    assert not DOUBLE.is_kept()


def test_who_comes_second_waits_and_finds_it_done(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl")
    folder = Path(module.double.stats.cache_path)
    folder.mkdir(exist_ok=True)
    monkeypatch.setattr(ahead, "_share", None)
    with (folder / "rtseg-compiling.lock").open("w") as first:
        fcntl.flock(first, fcntl.LOCK_EX)

        def finish(_: float) -> None:
            for kernel in (DOUBLE, TOTAL):
                kernel.function.compile(kernel.types)
            fcntl.flock(first, fcntl.LOCK_UN)

        monkeypatch.setattr(ahead.time, "sleep", finish)
        assert compile_missing([DOUBLE, TOTAL]) == 0
    assert TOTAL.is_kept()


def test_who_waits_long_enough_goes_on(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl")
    folder = Path(module.double.stats.cache_path)
    folder.mkdir(exist_ok=True)
    shared: list[int] = []
    monkeypatch.setattr(ahead, "_share", lambda kernels, workers: shared.append(workers))
    monkeypatch.setattr(ahead.time, "sleep", lambda _: None)
    with (folder / "rtseg-compiling.lock").open("w") as first:
        fcntl.flock(first, fcntl.LOCK_EX)
        compile_missing([DOUBLE, TOTAL])
    assert shared == [2]


def test_nothing_is_missing_where_numba_has_no_say(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Kernel(NAME, "plain", "float64[::1]").is_kept()  # as with NUMBA_DISABLE_JIT
    monkeypatch.setattr(module.double, "_cache", object())  # as in a numba with other inner names
    assert DOUBLE.is_kept()
