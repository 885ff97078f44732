"""Progress bars of the long commands (rich), on stderr, so that stdout stays a command's result.

A bar is for somebody who watches: where stderr is no terminal there is none, and only lines worth keeping are written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def counting(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar that is told (done, in all)."""
    with _bar() as bar:
        task = bar.add_task(what)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def training() -> Iterator[tuple[Callable[[dict[str, Any]], None], Callable[[str], None]]]:
    """A bar over training steps, with a line for every evaluation; and a function for what is done around it."""
    with _bar() as bar:
        task = bar.add_task("preparing", total=None)

        def report(event: dict[str, Any]) -> None:
            if "groups" not in event:
                text = f"epoch {event['epoch'] + 1}, loss {event['loss']:.3f}"
                bar.update(task, completed=event["step"], total=event["steps"], description=text)
                return
            groups = "  ".join(f"{g} F1 {s['f1']:.3f} mAP {s['map']:.3f}" for g, s in event["groups"].items())
            line = f"epoch {event['epoch']}: loss {event['loss']:.3f}  validation {groups}"
            bar.console.print(line, soft_wrap=True)

        yield report, lambda text: bar.update(task, description=text)


@contextmanager
def comparing() -> Iterator[tuple[Callable[[str, dict[str, Any]], None], Callable[[str], None]]]:
    """A line where each of many trainings begins and ends, and between them, on a terminal, how far it is.

    Yields what is told (which training, what happened) and what is told of the work around them.
    """
    console = Console(stderr=True)
    with console.status("preparing") as status:

        def event(name: str, happened: dict[str, Any]) -> None:
            place = f"[{happened.get('number')}/{happened.get('of')}] {name}"
            if "started" in happened:
                console.print(f"{place}: training", markup=False, highlight=False)
            elif "kept" in happened:
                console.print(f"{place}: there already", markup=False, highlight=False)
            elif "ended" in happened:
                took = "" if happened["seconds"] is None else f"trained in {happened['seconds']:.1f} s"
                console.print(f"{place}: {happened['ended'] or took}", markup=False, highlight=False)
            elif "epoch" in happened:
                status.update(f"{name}, epoch {happened['epoch']}")

        yield event, lambda text: status.update(text)


def _bar() -> Progress:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
