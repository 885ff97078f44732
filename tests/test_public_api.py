"""What `import rtseg` offers: names that are there, documented and typed, and nothing heavy before it is used."""

from __future__ import annotations

import inspect
import subprocess
import sys
import typing
from collections.abc import Callable, Iterator
from enum import EnumType
from typing import Any

import pytest

import rtseg
from tests.live import REPO

HEAVY = {"numba", "numpy", "torch", "zmq", "pandas", "h5py", "matplotlib", "sklearn"}


def functions_of(name: str) -> Iterator[tuple[str, Callable[..., Any]]]:
    """A public function, or a public class's own public methods and its constructor (an enum's are not ours)."""
    thing = getattr(rtseg, name)
    if inspect.isfunction(thing):
        yield name, thing
    if not inspect.isclass(thing) or isinstance(thing, EnumType):
        return
    for key, value in vars(thing).items():
        inner = value.__func__ if isinstance(value, classmethod | staticmethod) else value
        inner = inner.fget if isinstance(inner, property) else inner
        if inspect.isfunction(inner) and inner.__module__ == thing.__module__ and (key == "__init__" or key[0] != "_"):
            yield f"{name}.{key}", inner


@pytest.mark.parametrize("name", rtseg.__all__)
def test_a_public_name_is_documented_and_typed(name: str) -> None:
    thing = getattr(rtseg, name)
    assert thing.__module__.startswith("rtseg.")
    # A dataclass without a docstring gets its signature as one.
    assert thing.__doc__, f"{name} has no docstring"
    assert not thing.__doc__.startswith(f"{name}("), f"{name} has no docstring"
    for where, function in functions_of(name):
        parameters = [p for p in inspect.signature(function).parameters if p not in ("self", "cls")]
        assert {*parameters, "return"} <= set(typing.get_type_hints(function)), f"{where} is not typed"
        assert function.__doc__ or where.endswith("__init__"), f"{where} has no docstring"


def test_the_module_says_what_it_is() -> None:
    assert rtseg.__doc__ is not None
    assert "rtseg.load(" in rtseg.__doc__
    assert (REPO / "rtseg" / "py.typed").is_file()


@pytest.mark.parametrize(
    "code",
    [
        "import rtseg",
        "import rtseg.cli",
        "from rtseg.cli import main\nsys.argv = ['rtseg', '--help']\nmain()",
        "from rtseg.cli import main\nsys.argv = ['rtseg', 'serve', '--help']\nmain()",
    ],
    ids=["import rtseg", "import rtseg.cli", "rtseg --help", "rtseg serve --help"],
)
def test_nothing_heavy_before_it_is_used(code: str) -> None:
    said = "import sys, atexit\natexit.register(lambda: print('MODULES', *sys.modules))\n"
    child = subprocess.run(
        [sys.executable, "-c", said + code], cwd=REPO, capture_output=True, text=True, timeout=60, check=False
    )
    assert child.returncode == 0, child.stderr
    loaded = child.stdout.splitlines()[-1].split()
    assert "rtseg" in loaded
    assert not HEAVY & {name.partition(".")[0] for name in loaded}
