"""Progress bars of the long commands (rich), on stderr, so that stdout stays a command's result.

Where stderr is no terminal there is no bar, and only lines that belong in a log are written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from rtseg.terminal.layout import plain_console

WARNING = "warning: "
"""What begins so stays on the screen, and is written where stderr is no terminal."""


@contextmanager
def counting(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar; yields a function to be called with (done, total)."""
    with make_bar() as bar:
        task = bar.add_task(what)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def reading() -> Iterator[Callable[[str], None]]:
    """A line that says what is being read, on a terminal; yields a function to be called with it."""
    with plain_console(stderr=True).status("reading") as status:
        yield lambda text: status.update(Text(text))


@contextmanager
def training() -> Iterator[tuple[Callable[[dict[str, Any]], None], Callable[[str], None]]]:
    """A bar over training steps, with a line for every evaluation.

    Yields a function to be called with every event of the training, and one for what is done before and after it.
    """
    with make_bar() as bar:
        task = bar.add_task("preparing", total=None)

        def report(event: dict[str, Any]) -> None:
            # Only evaluations have scores of head groups; every other event is a batch.
            if "groups" not in event:
                text = f"epoch {event['epoch'] + 1}, loss {event['loss']:.3f}"
                bar.update(task, completed=event["step"], total=event["steps"], description=text)
                return
            groups = "  ".join(f"{g} F1 {s['f1']:.3f} mAP {s['map']:.3f}" for g, s in event["groups"].items())
            scores = f"validation {groups}" if groups else "nothing held out"
            line = f"epoch {event['epoch']}: loss {event['loss']:.3f}  {scores}"
            bar.console.print(line, soft_wrap=True)

        def say(text: str) -> None:
            if not _is_printed_warning(bar.console, text):
                bar.update(task, description=text)

        yield report, say


@contextmanager
def comparing() -> Iterator[tuple[Callable[[str, dict[str, Any]], None], Callable[[str], None]]]:
    """A line where each of many trainings begins and ends, and between them, on a terminal, its epoch.

    Yields a function to be called with (training, event), and one for the work around the trainings.
    """
    console = plain_console(stderr=True)
    with console.status("preparing") as status:

        def event(name: str, values: dict[str, Any]) -> None:
            what = _milestone(values)
            if what is not None:
                console.print(f"[{values.get('number')}/{values.get('of')}] {name}: {what}")
            elif "epoch" in values:
                status.update(Text(f"{name}, epoch {values['epoch']}"))

        def say(text: str) -> None:
            if not _is_printed_warning(console, text):
                status.update(Text(text))

        yield event, say


def _milestone(event: dict[str, Any]) -> str | None:
    """What a line of a comparison says of a training; None for what happens within one."""
    if "started" in event:
        return "training"
    if "waits" in event:
        return "still to come"
    if "kept" in event:
        return "there already"
    if "ended" in event:
        took = "" if event["seconds"] is None else f"trained in {event['seconds']:.1f} s"
        return str(event["ended"] or took)
    return None


def _is_printed_warning(console: Console, text: str) -> bool:
    """Print a text that is a warning; False for any other, which is of the moment."""
    if text.startswith(WARNING):
        console.print(text, soft_wrap=True)
        return True
    return False


def make_bar() -> Progress:
    """A bar on stderr that leaves nothing behind; where that is no terminal, none."""
    columns = TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    console = plain_console(stderr=True)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
