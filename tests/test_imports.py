"""The imports of every file of the package, read with ast, held to the order of DESIGN, section 3.

A new part of the package gets its line in FLOORS, and with it a decision about what it may use.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "rtseg"

# From the ground up. A part may import from lower floors, and on its own floor from parts that stand before it.
FLOORS = (
    ("errors", "logs", "pointers", "stamps", "machine", "nvidia", "config", "skeleton"),
    ("frames", "records", "resampling"),
    ("recorder",),
    ("recordings",),
    ("features",),
    ("simulate", "network", "predictions"),
    ("bundle",),
    ("model", "engine", "decoding", "abstention", "triggers"),
    ("stages", "session"),
    ("classifier",),
    ("metrics", "statistics", "reliability", "breakdown", "provenance", "ethogram", "annotate", "evaluate"),
    ("scaling", "reliability_plot", "calibrate", "precision", "model_card"),
    ("training", "study"),
    ("serve",),
    ("comeback", "connection", "client", "replay", "recorded", "verify", "bench"),
    ("paper",),
    ("progress", "report", "daemon_report", "plan_report", "doctor"),
    ("cli",),
)
ORDER = [part for floor in FLOORS for part in floor]
APART = {("features", "recordings")}
"""Lower, and still none of its business: DESIGN puts the two side by side."""

TORCH = (
    "rtseg/model/",
    "rtseg/training/",
    "rtseg/engine/torch_engine.py",
    "rtseg/engine/cuda_engine.py",
    "rtseg/bench",
    "rtseg/paper/timing.py",
)
TENSORRT = "rtseg/engine/tensorrt_library.py"
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
TRITON = "rtseg/engine/cuda_kernel.py"

FILES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE.parent).as_posix()


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


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
            # `from rtseg import frames` imports the module rtseg.frames.
            yield from ((node.lineno, f"{module}.{a.name}" if module == "rtseg" else module) for a in node.names)
        pending += ast.iter_child_nodes(node)


def used_of_rtseg(path: Path) -> set[str]:
    """What a file takes from `import rtseg`, whose names stand for modules of any floor."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return {n.attr for n in nodes if isinstance(n, ast.Attribute) and ast.unparse(n.value) == "rtseg"}


def test_every_part_has_its_place() -> None:
    unknown = {part_of(path) for path in FILES} - set(ORDER) - {"__init__", "__main__"}
    assert not unknown, f"{unknown} stand on no floor: add them to FLOORS in tests/test_imports.py"
    assert len(set(ORDER)) == len(ORDER)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_go_one_way(path: Path) -> None:
    part = part_of(path)
    if part in ("__init__", "__main__"):
        allowed = set() if part == "__init__" else {"cli"}
    else:
        allowed = {p for p in ORDER[: ORDER.index(part) + 1] if (part, p) not in APART}
    for line, module in imports_of(path):
        top, _, rest = module.partition(".")
        if module == "rtseg":
            used = used_of_rtseg(path)
            assert used <= {"__version__", "__file__"}, f"{name_of(path)} uses {used}: import the module that is meant"
        elif top == "rtseg":
            target = rest.split(".")[0]
            assert target in allowed or target == "__version__", (
                f"{name_of(path)}, line {line}: {part} imports {module}, which is above it or beside it"
            )


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
