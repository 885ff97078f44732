"""Questions to a person at the terminal; pressing return takes what is proposed."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.markup import escape
from rich.prompt import Prompt


class TerminalAsker:
    """Asks on stderr, so that stdout stays a command's result."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)

    def choose(self, question: str, options: Mapping[str, str], default: str) -> str:
        """One of the options' keys, asked again until it is one. options: answer -> what it means."""
        self._console.print(escape(question))
        for answer, meaning in options.items():
            self._console.print(f"  {escape(answer)}: {escape(meaning)}")
        return Prompt.ask("  answer", console=self._console, choices=list(options), default=default)

    def text(self, question: str, default: str) -> str:
        """Any text."""
        return Prompt.ask(escape(question), console=self._console, default=default).strip()
