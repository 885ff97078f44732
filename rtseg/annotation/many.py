"""Many files annotated, in this process or in several: the very calls of `inference.annotate`, so the very same bits.

Each process loads the bundle once. What became of a file comes back when it is done, in any order.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context

from rtseg.compiled.ahead import compile_missing
from rtseg.errors import RtsegError, SkeletonError
from rtseg.inference.annotate import Annotated, Reading, Skipped, Source, annotate_source
from rtseg.inference.classifier import Classifier
from rtseg.inference.model_slots import kernels_of


@dataclass(frozen=True)
class Outcome:
    """What became of one file. done: its recordings, in order, up to the error if there was one."""

    source: Source
    done: tuple[Annotated | Skipped, ...]
    error: RtsegError | None = None


def annotate_files(
    open_classifier: Callable[[], Classifier],
    sources: Sequence[Source],
    reading: Reading,
    existing: str = "refuse",
    *,
    workers: int = 1,
    keep_going: bool = False,
) -> Iterator[Outcome]:
    """Annotate every file, `workers` at a time, each in a process of its own if there are several.

    open_classifier: makes a process' own; a function of a module, or `functools.partial` of one, where there are
    several processes. existing: see `annotate_source`. keep_going: a file with an error is an Outcome like others;
    without, it is the last one, and its error is raised behind it. Raises what open_classifier raises.
    """
    classifier = open_classifier()
    compile_missing(kernels_of(classifier.pool.engine))
    workers = min(workers, len(sources))
    if workers <= 1:
        outcomes = (_annotate(classifier, source, reading, existing) for source in sources)
        yield from _until_error(outcomes, keep_going)
        return
    # Compiled code is in numba's cache by now, where all processes find it.
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _start_worker, (open_classifier,))
    try:
        tasks = [pool.submit(_annotate_in_worker, source, reading, existing) for source in sources]
        yield from _until_error((task.result() for task in as_completed(tasks)), keep_going)
    except BrokenProcessPool as error:
        problem = "a worker process ended without a word (out of memory?); take fewer --workers"
        raise RtsegError(f"{problem}, and --skip-existing to go on with what is not done") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _until_error(outcomes: Iterator[Outcome], keep_going: bool) -> Iterator[Outcome]:
    for outcome in outcomes:
        yield outcome
        if outcome.error is not None and not keep_going:
            raise outcome.error


def _annotate(classifier: Classifier, source: Source, reading: Reading, existing: str) -> Outcome:
    done: list[Annotated | Skipped] = []
    try:
        done.extend(annotate_source(classifier, source, reading, existing))
    except (RtsegError, OSError) as error:
        # As one of two kinds that consist of their text alone: others can't pass from process to process.
        kind = SkeletonError if isinstance(error, SkeletonError) else RtsegError
        text = str(error)
        return Outcome(source, tuple(done), kind(text if source.path.name in text else f"{source.path}: {text}"))
    return Outcome(source, tuple(done))


_worker_classifier: Classifier | None = None


def _start_worker(open_classifier: Callable[[], Classifier]) -> None:
    global _worker_classifier
    # ^C goes to all processes of a terminal; the first one ends the others when their files are whole.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _worker_classifier = open_classifier()


def _annotate_in_worker(source: Source, reading: Reading, existing: str) -> Outcome:
    assert _worker_classifier is not None, "the pool starts its processes with _start_worker"
    return _annotate(_worker_classifier, source, reading, existing)
