"""Modules of this package as processes of their own, which find it, and nothing else, wherever they are started."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import rtseg


def module_command(module: str, *arguments: str) -> list[str]:
    """What runs a module with this very Python.

    The folder that somebody stands in is no place to import from (-P): a `serial.py` or `zmq.py` of their own there
    would be taken for the library.
    """
    return [sys.executable, "-P", "-m", module, *arguments]


def module_environment() -> dict[str, str]:
    """This process's environment, in which such a module finds this very package and the same extras."""
    paths = [str(Path(rtseg.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
