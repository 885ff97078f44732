"""Kernels compiled before their first call, side by side in several processes: for a first start on a machine.

numba compiles one function after the other, each at its first call, for a minute in all, and keeps what comes of it in
its cache. Here several processes fill that cache, and the one that serves finds it filled. They hand one another
nothing else, so only time depends on this: what is not there is compiled at its first call, as ever.

`python -m rtseg.compiled.ahead KERNELS` is such a process; numbers of KERNELS come by its standard input.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rtseg.system.child_process import module_command, module_environment

log = logging.getLogger(__name__)
MOST = 4
"""Processes. The longest kernel takes a third of the time of all together, so more would bring nothing."""
PATIENCE_S, TRY_S = 300.0, 0.1
"""Waited for others at most: a process may be halted. How often it is looked whether they are done."""


class Kernel(NamedTuple):
    """A function that numba keeps. module, name: where it is found. arguments: their types, in numba's notation."""

    module: str
    name: str
    arguments: str

    @property
    def function(self) -> Any:
        """The function itself; its module is imported."""
        return getattr(importlib.import_module(self.module), self.name)

    @property
    def types(self) -> Any:
        """Of its arguments, as numba finds them at a call."""
        from numba.core import sigutils

        # As a tuple: the cache's key holds them as they were handed over, and a call hands over a tuple.
        return tuple(sigutils.normalize_signature(f"({self.arguments},)")[0])  # type: ignore[no-untyped-call]

    def is_kept(self) -> bool:
        """Whether a call finds it in numba's cache, or need not look there."""
        function = self.function
        if not hasattr(function, "signatures") or self.types in function.signatures:
            return True  # compiled here already; or numba is switched off (NUMBA_DISABLE_JIT)
        try:
            # numba has no question for it. Should its inner names change, kernels are compiled at their first calls.
            cache = function._cache
            return cache._index_key(self.types, function.targetctx.codegen()) in cache._cache_file._load_index()
        except AttributeError:
            return True


def compile_missing(kernels: Sequence[Kernel]) -> int:
    """Compile those that numba has not kept yet, on several cores; how many were missing.

    kernels: those that take longest first. One alone is left to its first call. Where several processes come here at
    once, one does it for all.
    """
    if len(_missing(kernels)) < 2 or _cores() < 2:
        return 0
    with _one_at_a_time(Path(kernels[0].function.stats.cache_path)):
        missing = _missing(kernels)  # whoever was first may have done it meanwhile
        workers = min(len(missing), _cores(), MOST)
        if workers < 2:
            return 0
        log.info("compiling in %d processes: only the first start on a machine takes so long", workers)
        _share(missing, workers)
    return len(missing)


def compile_elsewhere(kernels: Sequence[Kernel]) -> int:
    """The same in other processes alone, for one that answers frames meanwhile: compiling would hold them up.

    Also for a single kernel and on a single core; how many were missing.
    """
    if not _missing(kernels):
        return 0
    with _one_at_a_time(Path(kernels[0].function.stats.cache_path)):
        missing = _missing(kernels)
        if missing:
            _share(missing, min(len(missing), _cores(), MOST) + 1, here=False)
    return len(missing)


def _missing(kernels: Sequence[Kernel]) -> list[Kernel]:
    return [kernel for kernel in kernels if not kernel.is_kept()]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Others wait, as long as it makes sense; where files have no locks, they do the same work at the same time."""
    with contextlib.ExitStack() as held:
        with contextlib.suppress(ImportError, OSError):
            import fcntl

            folder.mkdir(parents=True, exist_ok=True)
            file = held.enter_context((folder / "rtseg-compiling.lock").open("w"))
            for _ in range(round(PATIENCE_S / TRY_S)):
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                time.sleep(TRY_S)
        yield


def _share(kernels: Sequence[Kernel], workers: int, *, here: bool = True) -> None:
    """Compile them in this process, if `here`, and in others; each takes the next one as soon as it is free."""
    reading, writing = os.pipe()
    # The pipe is the queue: a byte is a kernel, and whoever reads it compiles it.
    os.write(writing, bytes(range(len(kernels))))
    os.close(writing)
    command, environment = module_command("rtseg.compiled.ahead", json.dumps(kernels)), module_environment()
    children: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(workers - 1):
            # What fails there fails here again, at the first call, where it is said why.
            children.append(
                subprocess.Popen(
                    command, stdin=reading, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
                )
            )
        if here:
            _compile_next(kernels, reading)
        for child in children:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(PATIENCE_S)
    finally:
        for child in children:
            child.kill()
            child.wait()
        os.close(reading)


def _compile_next(kernels: Sequence[Kernel], queue: int) -> None:
    """Take kernels from the queue, a descriptor, and compile them, until it is empty."""
    parent = os.getppid()
    was_collecting = gc.isenabled()
    gc.disable()  # compiling makes much and leaves little: collecting takes a twentieth of the time
    try:
        # A process whose starter has been killed has nobody to compile for.
        while (number := os.read(queue, 1)) and os.getppid() == parent:
            kernel = kernels[number[0]]
            kernel.function.compile(kernel.types)
    finally:
        if was_collecting:
            gc.enable()


if __name__ == "__main__":
    _compile_next([Kernel(*fields) for fields in json.loads(sys.argv[1])], sys.stdin.fileno())
