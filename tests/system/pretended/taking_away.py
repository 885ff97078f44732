"""What the pretended systems share: names taken away from Python's modules, and folders that are not there."""

from __future__ import annotations

import builtins
import io
import os
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any


def take_away(module: ModuleType, names: Iterable[str] = (), *, beginnings: tuple[str, ...] = ()) -> None:
    """Remove names, and all that begin so, where they are there."""
    begin_so = [name for name in dir(module) if beginnings and name.startswith(beginnings)]
    for name in {*names, *begin_so}:
        if hasattr(module, name):
            delattr(module, name)


def hide_folders(*folders: str) -> None:
    """Nothing is found there any more by whatever opens, lists or looks at a path."""

    def hiding(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any = ".", *arguments: Any, **named: Any) -> Any:
            if not isinstance(path, int) and str(path).startswith(folders):
                raise FileNotFoundError(2, "No such file or directory", str(path))
            return function(path, *arguments, **named)

        return call

    access = os.access
    os.access = lambda path, *rest, **named: not str(path).startswith(folders) and access(path, *rest, **named)
    for name in ("open", "stat", "lstat", "scandir", "listdir"):
        setattr(os, name, hiding(getattr(os, name)))
    builtins.open = io.open = hiding(io.open)
