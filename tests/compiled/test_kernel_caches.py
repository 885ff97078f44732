"""Cached kernels are compiled anew when a file changes whose functions are compiled into them."""

from __future__ import annotations

import ast
import importlib
import inspect
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numba
import pytest
from numba.core.dispatcher import Dispatcher

import rtseg
from rtseg.compiled import array_tables

PACKAGE = Path(rtseg.__file__).parent
Intrinsic = type(array_tables._int64s)


def modules_with_kernels() -> list[str]:
    """Those of the package that compile something, but for those that need a GPU's or an extra's library."""
    files = [path for path in sorted(PACKAGE.rglob("*.py")) if "njit" in path.read_text(encoding="utf-8")]
    return [".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in files]


def cached_kernels(module: types.ModuleType) -> Iterator[Dispatcher]:
    """What of a module's functions numba keeps on disk."""
    for value in vars(module).values():
        is_own = isinstance(value, Dispatcher) and value.py_func.__module__ == module.__name__
        if is_own and value._cache.__class__.__name__ != "NullCache":
            yield value


def functions_used(function: Any) -> Iterator[Any]:
    """The compiled functions that a function refers to by its globals, its closure, or a module among them."""
    names = set(function.__code__.co_names)
    scope = function.__globals__ | dict(inspect.getclosurevars(function).nonlocals)
    for name in names | set(function.__code__.co_freevars):
        value = scope.get(name)
        if isinstance(value, types.ModuleType) and value.__name__.startswith("rtseg."):
            yield from (vars(value)[attribute] for attribute in names & set(vars(value)))
        else:
            yield value


def files_compiled_in(kernel: Dispatcher) -> set[str]:
    """The modules of the package of which some function is compiled into a kernel."""
    pending, seen = [kernel], set()
    while pending:
        function = pending.pop()
        plain = function.py_func if isinstance(function, Dispatcher) else function._defn
        if plain in seen or not plain.__module__.startswith("rtseg."):
            continue
        seen.add(plain)
        if isinstance(function, Dispatcher):
            pending += [used for used in functions_used(plain) if isinstance(used, Dispatcher | Intrinsic)]
    return {plain.__module__ for plain in seen} - {kernel.py_func.__module__}


def files_stamped(module: types.ModuleType) -> set[str]:
    """The modules that a module names in its stamp."""
    tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
    stamped: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("source_stamp"):
            arguments = eval(f"({''.join(ast.unparse(arg) + ',' for arg in node.args)})", vars(module))
            stamped |= {argument.__name__ for argument in arguments}
    return stamped


@pytest.mark.parametrize("name", modules_with_kernels())
def test_a_kernel_s_stamp_names_every_file_that_is_compiled_into_it(name: str) -> None:
    module = importlib.import_module(name)
    for kernel in cached_kernels(module):
        needed = files_compiled_in(kernel)
        missing = needed - files_stamped(module)
        assert not missing, f"{name}.{kernel.py_func.__name__} needs {missing} in its stamp (`cache_stamps`)"
        assert not needed or "stamp" in kernel.py_func.__code__.co_freevars


def test_what_is_compiled_into_a_kernel_is_found() -> None:
    from rtseg.inference import stages

    files = files_compiled_in(stages._preprocess)
    assert {
        f"rtseg.features.{file}" for file in ("groups", "kernels", "tables", "relink", "identity", "drift")
    } <= files
    assert "rtseg.compiled.array_tables" in files
    assert isinstance(stages._preprocess, numba.core.registry.CPUDispatcher)
