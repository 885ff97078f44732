"""How a project's open questions are decided: by a person at a terminal, by options in a script, or as proposed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


class Asker(Protocol):
    """Whoever decides what files leave open."""

    def choose(self, question: str, options: Mapping[str, str], default: str) -> str:
        """One of the options' keys. options: answer -> what it means."""

    def text(self, question: str, default: str) -> str:
        """Any text."""


class ProposalTaker:
    """Decides as proposed, without asking anybody."""

    def choose(self, question: str, options: Mapping[str, str], default: str) -> str:
        """The default."""
        return default

    def text(self, question: str, default: str) -> str:
        """The default."""
        return default


@dataclass(frozen=True)
class Wishes:
    """What a user has said beforehand; None or () = proposed, and asked where that is possible.

    unlabelled: whether frames without a label are negatives. axis: (rear, front). share: of the frames, held out.
    """

    name: str | None = None
    fps: float | None = None
    tracks: tuple[str, ...] = ()
    unlabelled: bool | None = None
    first_frame: int | None = None
    last_included: bool | None = None
    axis: tuple[str, str] | None = None
    share: float | None = None
