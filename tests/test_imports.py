"""The imports of every file of the package, read with ast, held to one order of rooms.

A new room gets its place in ROOMS, and with it a decision about what it may use. ARCHITECTURE.md prints this order.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "rtseg"

# From the ground up. A room may import from rooms that stand before it; two files (`errors`, `__main__`) stand outside.
ROOMS = (
    "errors",
    "system",
    "compiled",
    "config",
    "frames",
    "features",
    "recorder",
    "wire",
    "recordings",
    "client",
    "sinks",
    "sources",
    "bundle",
    "simulate",
    "model",
    "engine",
    "inference",
    "annotation",
    "triggers",
    "evaluation",
    "tuning",
    "checks",
    "serve",
    "bench",
    "training",
    "precision",
    "playback",
    "experiment",
    "study",
    "paper",
    "project",
    "inspection",
    "terminal",
    "cli",
)
INNER = {
    "engine": ("base", "rounds", "cpu", "onnx", "torch_engine", "parity", "cuda", "tensorrt", "select"),
    "recordings": (
        *("files", "recording", "bouts", "toml_table", "naming", "labels", "poses"),
        *("calms21", "calms21_counts", "heads", "open", "sources", "pairs", "dataset"),
    ),
    "serve": (
        *("timing", "access", "streams", "recording", "publish", "triggers", "monitoring", "workers", "loop"),
        *("kernels", "daemon", "worker", "front"),
    ),
}
"""The same within rooms that have rooms of their own."""
APART = {("recordings", "features")}
"""Lower, and still none of its business: features are made of frames, wherever those come from."""

TORCH = (
    "rtseg/model/",
    "rtseg/training/",
    "rtseg/engine/torch_engine.py",
    "rtseg/engine/cuda/cuda_engine.py",
    "rtseg/bench",
    "rtseg/paper/timing.py",
)
TENSORRT = "rtseg/engine/tensorrt/tensorrt_library.py"
PICKLES = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
HEAVY = {
    "pandas",
    "h5py",
    "tables",
    "torch",
    "matplotlib",
    "ijson",
    "sleap_io",
    "sklearn",
    "onnx",
    "onnxruntime",
    "xgboost",
}
TRITON = "rtseg/engine/cuda/cuda_kernel.py"

FILES = sorted(PACKAGE.rglob("*.py"))
PROGRAMS = sorted(path for folder in ("benchmarks", "scripts") for path in (PACKAGE.parent / folder).rglob("*.py"))
"""What stands beside the package and uses it as anybody would."""


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE.parent).as_posix()


def place_of(module: str) -> tuple[str, str]:
    """A module's room, and its place within that where the room has inner ones, as serve and loop.

    "" stands for a room's table of contents.
    """
    parts = [*module.split(".")[1:], ""]
    return parts[0], parts[1] if parts[0] in INNER else ""


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def _holds(package: str, name: str) -> bool:
    """Whether `name` is a module of a package of rtseg's, or anything at all of rtseg itself."""
    folder = PACKAGE.parent.joinpath(*package.split("."))
    return package == "rtseg" or (package.startswith("rtseg.") and (folder / f"{name}.py").is_file())


def imports_of(path: Path, *, everywhere: bool = True) -> Iterator[tuple[int, str]]:
    """(line, dotted module) of every import, those inside functions too; `if TYPE_CHECKING` imports nothing."""
    pending: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending += node.orelse
            continue
        if not everywhere and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}, line {node.lineno}: imports are absolute here"
            module = node.module or ""
            # `from rtseg.engine import parity` imports the module rtseg.engine.parity.
            yield from ((node.lineno, f"{module}.{a.name}" if _holds(module, a.name) else module) for a in node.names)
        pending += ast.iter_child_nodes(node)


def used_of_rtseg(path: Path) -> set[str]:
    """What a file takes from `import rtseg`, whose names stand for modules of any floor."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return {n.attr for n in nodes if isinstance(n, ast.Attribute) and ast.unparse(n.value) == "rtseg"}


def test_every_room_has_its_place() -> None:
    found = {place_of(module_of(path)) for path in FILES}
    unknown = {room for room, _ in found} - set(ROOMS) - {"", "__main__"}
    assert not unknown, f"{unknown} stand nowhere: add them to ROOMS in tests/test_imports.py"
    assert {room for room, _ in found} >= set(ROOMS)
    for room, order in INNER.items():
        assert {inner for where, inner in found if where == room} - {""} == set(order), (
            f"INNER[{room!r}] is not its files"
        )
        assert len(set(order)) == len(order)
    assert len(set(ROOMS)) == len(ROOMS)


def may_import(importer: str, imported: str) -> bool:
    """Whether the tables let one module of rtseg import another."""
    (room, inner), (other, other_inner) = place_of(importer), place_of(imported)
    if room in ("", "__main__"):
        return room == "__main__" and other == "cli"
    if room != other:
        return ROOMS.index(other) < ROOMS.index(room) and (room, other) not in APART
    if room not in INNER or inner in ("", other_inner):
        return True
    return other_inner in INNER[room] and INNER[room].index(other_inner) < INNER[room].index(inner)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_go_one_way(path: Path) -> None:
    importer = module_of(path)
    for line, module in imports_of(path):
        if module == "rtseg":
            used = used_of_rtseg(path)
            assert used <= {"__version__", "__file__"}, f"{name_of(path)} uses {used}: import the module that is meant"
        elif module.startswith("rtseg.") and module != "rtseg.__version__":
            assert may_import(importer, module), f"{name_of(path)}, line {line}: imports {module}, which is above it"


@pytest.mark.parametrize(
    ("importer", "imported", "allowed"),
    [
        ("rtseg.serve.loop.dispatch", "rtseg.serve.publish.outlet", True),
        ("rtseg.serve.publish.outlet", "rtseg.serve.loop.dispatch", False),
        ("rtseg.serve.loop.dispatch", "rtseg.serve.daemon", False),
        ("rtseg.serve.loop.dispatch", "rtseg.serve.loop.receiver", True),
        ("rtseg.engine.cpu.numba_kernels", "rtseg.engine.onnx.step_file", False),
        ("rtseg.engine.cpu.numba_kernels", "rtseg.bundle", True),
        ("rtseg.bundle.bundle", "rtseg.engine.base", False),
        ("rtseg.recordings.open", "rtseg.features.spec", False),
        ("rtseg", "rtseg.errors", False),
        ("rtseg.__main__", "rtseg.cli", True),
    ],
)
def test_the_tables_are_read_as_they_are_meant(importer: str, imported: str, allowed: bool) -> None:
    assert may_import(importer, imported) == allowed


MOST_FILES, MOST_LINES = 12, 400
LONGER: dict[str, str] = {}
"""Files over MOST_LINES, each with its reason."""


@pytest.mark.parametrize("folder", sorted({path.parent for path in FILES}), ids=name_of)
def test_no_folder_is_a_heap(folder: Path) -> None:
    here = [path.name for path in FILES if path.parent == folder and path.name != "__init__.py"]
    assert len(here) <= MOST_FILES, f"{name_of(folder)} has {len(here)} files: give those that belong together a room"


def test_no_file_is_too_long() -> None:
    long = {name_of(path) for path in FILES if len(path.read_text(encoding="utf-8").splitlines()) > MOST_LINES}
    assert long == set(LONGER), "split what is new here, or write down why it is one thing; strike what is shorter now"


@pytest.mark.parametrize("folder", sorted({path.parent for path in FILES} - {PACKAGE}), ids=name_of)
def test_a_room_says_what_it_is_for_and_what_is_in_it(folder: Path) -> None:
    contents = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))) or ""
    here = {path.stem for path in FILES if path.parent == folder} | {path.name for path in folder.iterdir()}
    missing = {n for n in here if (folder / n).is_dir() or (folder / f"{n}.py").is_file()} - {"__init__", "__pycache__"}
    missing -= {name for name in missing if re.search(rf"^{name}\b", contents, re.MULTILINE)}
    assert not missing, f"{name_of(folder)}/__init__.py has no line that begins with {', '.join(sorted(missing))}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_what_is_imported_from_outside(path: Path) -> None:
    name = name_of(path)
    for line, module in imports_of(path):
        top, where = module.split(".")[0], f"{name}, line {line}"
        assert top not in PICKLES, f"{where}: no pickle, on the wire or on disk"
        assert top not in ("torch", "torchvision") or name.startswith(TORCH), f"{where}: torch has no place here"
        assert top not in ("tensorrt", "tensorrt_rtx") or name == TENSORRT, f"{where}: tensorrt stays in its own file"
        assert top != "triton" or name == TRITON, f"{where}: triton stays in its own file"
    if not name.startswith(("rtseg/model/", "rtseg/training/")):
        for line, module in imports_of(path, everywhere=False):
            assert module.split(".")[0] not in HEAVY, f"{name}, line {line}: {module} belongs inside the function"


@pytest.mark.parametrize("path", PROGRAMS, ids=name_of)
def test_benchmarks_and_scripts_import_public_names_alone(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [part for alias in node.names for part in alias.name.split(".")]
            names += (getattr(node, "module", None) or "").split(".")
            private = [name for name in names if name.startswith("_") and not name.startswith("__")]
            assert not private, f"{name_of(path)}, line {node.lineno}: {', '.join(private)}: make public what it needs"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_nothing_is_unpickled_by_another_name(path: Path) -> None:
    """numpy, torch and pandas can read pickles as well."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in ("torch.load", "torch.save"), f"{name_of(path)}, line {node.lineno}: {called}"
            assert not called.endswith((".read_pickle", ".to_pickle")), f"{name_of(path)}, line {node.lineno}: {called}"
            for keyword in node.keywords:
                allows = keyword.arg == "allow_pickle" and ast.unparse(keyword.value) != "False"
                assert not allows, f"{name_of(path)}, line {node.lineno}: allow_pickle"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("def f():\n    import torch", {"torch"}),
        ("from rtseg import frames, bundle", {"rtseg.frames", "rtseg.bundle"}),
        ("from rtseg.serve.daemon import Daemon", {"rtseg.serve.daemon"}),
        ("if TYPE_CHECKING:\n    import torch\nelse:\n    import json", {"json"}),
        (
            "class A:\n    def f(self):\n        try:\n            import pickle\n        except ImportError: ...",
            {"pickle"},
        ),
    ],
)
def test_the_reader_of_imports_sees_them_all(tmp_path: Path, source: str, found: set[str]) -> None:
    path = tmp_path / "some.py"
    path.write_text(source)
    assert {module for _, module in imports_of(path)} == found
