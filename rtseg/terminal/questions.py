"""Questions to a person at the terminal; pressing return takes what is proposed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.markup import escape
from rich.progress import Progress
from rich.prompt import Prompt

from rtseg.project.questions import Asker, ProposalTaker
from rtseg.terminal.progress import make_bar


@contextmanager
def asking(what: str, *, ask: bool) -> Iterator[tuple[Asker, Callable[[int, int], None]]]:
    """Someone who decides, and a function to be called with (done, total) for a bar that makes room for questions.

    ask: False takes every proposal, and so does a terminal at which nobody can answer.
    """
    can_answer = ask and sys.stdin.isatty() and sys.stderr.isatty()
    with make_bar() as bar:
        task = bar.add_task(what, total=None)
        asker = TerminalAsker(bar) if can_answer else ProposalTaker()
        yield asker, lambda done, total: bar.update(task, completed=done, total=total)


class TerminalAsker:
    """Asks on stderr, so that stdout stays a command's result. bar: is taken away while a question stands there."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar

    def choose(self, question: str, options: Mapping[str, str], default: str) -> str:
        """One of the options' keys, asked again until it is one. options: answer -> what it means."""
        meanings = "".join(f"\n  {answer}: {meaning}" for answer, meaning in options.items())
        return self._ask(f"{question}{meanings}\n ", list(options), default)

    def text(self, question: str, default: str) -> str:
        """Any text."""
        return self._ask(question, None, default).strip()

    def _ask(self, question: str, choices: list[str] | None, default: str) -> str:
        self._bar.stop()
        answer = Prompt.ask(escape(question), console=self._bar.console, choices=choices, default=default)
        self._bar.start()
        return answer
