"""DeepLabCut's HDF5, read as plain arrays with h5py.

pandas and PyTables would unpickle attributes of a file that may come from anywhere; nothing here does. Both of
pandas' layouts are read: 'fixed', and 'table', as DeepLabCut itself writes it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.errors import RecordingError
from rtseg.recordings.files.hdf5 import open_hdf5, readable_array, text_of
from rtseg.recordings.files.probe import FileProbe
from rtseg.recordings.poses.dlc import HEADER
from rtseg.recordings.poses.layout import SINGLE_ANIMAL, Column
from rtseg.recordings.poses.pose_file import (
    PoseReader,
    float32_of,
    one_recording,
    recording_from_columns,
)
from rtseg.recordings.recording import Recording

_LEVELS = {3: ("scorer", "bodyparts", "coords"), 4: HEADER}
"""DeepLabCut's own order of column levels, for tables that do not name them."""
_MEND = (
    "save it as CSV (deeplabcut.analyze_videos(..., save_as_csv=True)) or, from a source you trust, "
    "with pandas' DataFrame.to_hdf(..., format='fixed')"
)


def read_dlc_h5(path: Path, *, fps: float, name: str | None = None) -> Recording:
    """A Recording from the one table of a DeepLabCut HDF5 file; frame indices as in `read_dlc_csv`.

    Raises RecordingError for files of another kind, several tables, and columns or names that are stored as objects.
    """
    with open_hdf5(path, "DeepLabCut HDF5 files") as file:
        groups = [g for g in file.values() if "pandas_type" in g.attrs]
        if len(groups) != 1:
            names = ", ".join(file) or "nothing"
            problem = (
                f"expected one pandas table, found {len(groups)} among {names}; bring the .h5 that DeepLabCut wrote"
            )
            raise RecordingError(path, problem)
        kind = text_of(groups[0].attrs["pandas_type"])
        if kind == "frame":
            columns, index, values = _fixed(path, groups[0])
        elif kind == "frame_table":
            columns, index, values = _table(path, groups[0])
        else:
            raise RecordingError(path, f"expected a pandas frame, got {kind[:40]!r}; {_MEND}")
    return recording_from_columns(path, columns, index, values, (), fps=fps, name=name)


def _fixed(path: Path, group: Any) -> tuple[list[Column], NDArray[np.int64], NDArray[np.float32]]:
    """Columns (C), frame indices (T,) and values (T, C) of pandas' 'fixed' layout: blocks of columns of one dtype."""
    columns: list[Column] = []
    blocks = []
    index = _integers(path, group, "axis1")
    for b in range(int(group.attrs["nblocks"])):
        # Blocks are sorted by dtype, not by column: names travel with them and put each where it belongs.
        columns += _columns(path, _levels(path, group, f"block{b}_items"))
        blocks.append(_numbers(path, group, f"block{b}_values", len(index)))
    return columns, index, np.concatenate(blocks, axis=1)


def _levels(path: Path, group: Any, prefix: str) -> dict[str, list[str]]:
    """Level name -> one text per column, from a MultiIndex's levels and codes."""
    levels: dict[str, list[str]] = {}
    for i in range(int(group.attrs.get(f"{prefix}_nlevels", 0))):
        node = _array(path, group, f"{prefix}_level{i}")
        names = [n.decode("utf-8") if isinstance(n, bytes) else str(n) for n in node[:].ravel().tolist()]
        codes = _integers(path, group, f"{prefix}_label{i}")
        if len(codes) and not 0 <= codes.min() <= codes.max() < len(names):
            raise RecordingError(path, f"column {prefix} points beyond its names; the file is damaged, export it again")
        levels[text_of(node.attrs.get("name", b""))] = [names[c] for c in codes]
    return levels


def _columns(path: Path, levels: dict[str, list[str]]) -> list[Column]:
    if "bodyparts" not in levels or "coords" not in levels:
        raise RecordingError(path, f"expected the column levels {', '.join(HEADER)}, got {', '.join(levels) or 'none'}")
    animals = levels.get("individuals", [SINGLE_ANIMAL] * len(levels["coords"]))
    return list(zip(animals, levels["bodyparts"], levels["coords"], strict=True))


def _table(path: Path, group: Any) -> tuple[list[Column], NDArray[np.int64], NDArray[np.float32]]:
    """The same from pandas' 'table' layout: one compound array, the column names in attributes."""
    table = _array(path, group, "table")
    if table.dtype.names is None or "index" not in table.dtype.names:
        raise RecordingError(path, f"expected a table with an index; {_MEND}")
    index = table.fields("index")[:]
    if not np.issubdtype(index.dtype, np.integer):
        raise RecordingError(path, "expected frame numbers as the index; labelled training images are no recording")
    levels = _level_names(group)
    columns: list[Column] = []
    blocks = []
    for field in table.dtype.names:
        if field == "index":
            continue
        values = table.fields(field)[:]
        names = literal_names(path, bytes(table.attrs.get(f"{field}_kind", b"")))
        if values.ndim != 2 or values.shape[1] != len(names) or not np.issubdtype(values.dtype, np.number):
            raise RecordingError(path, f"expected numbers with a name per column in {field!r}; {_MEND}")
        for row in names:
            if len(row) not in _LEVELS and not levels:
                raise RecordingError(path, f"expected the column levels {', '.join(HEADER)}, got {row}")
            names_of = dict(zip(levels or _LEVELS[len(row)], row, strict=False))
            if not {"bodyparts", "coords"} <= names_of.keys() or len(names_of) < len(row):
                raise RecordingError(path, f"expected the column levels {', '.join(HEADER)}, got {', '.join(levels)}")
            columns.append((names_of.get("individuals", SINGLE_ANIMAL), names_of["bodyparts"], names_of["coords"]))
        blocks.append(float32_of(values))
    if not blocks:
        raise RecordingError(path, f"its table has no columns of numbers; {_MEND}")
    return columns, index.astype(np.int64), np.concatenate(blocks, axis=1)


def _level_names(group: Any) -> list[str]:
    """The names of the column levels in their order, from the texts of a pickle that is not opened; [] where none."""
    # Between the words names and type stands a list of nothing but texts, or of none for a level without a name.
    info = bytes(group.attrs.get("info", b""))
    found = re.search(rb"Vnames\n(.*?)Vtype\n", info, re.DOTALL)
    return re.findall(r"V(.*)\n", found[1].decode("raw_unicode_escape")) if found else []


def literal_names(path: Path, raw: bytes) -> list[tuple[str, ...]]:
    """The list of tuples of texts that PyTables stores as a pickle of protocol 0, read without unpickling.

    That protocol is lines of text. Only its words for list, tuple, text and reference are understood; a file that
    holds anything else, such as a name to import and call, is refused with RecordingError.
    """
    # A machine of eight words in place of pickle's hundred, none of which can import or call anything.
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[bytes, Any] = {}
    at = 0

    def line() -> bytes:
        nonlocal at
        end = raw.index(b"\n", at)
        at, text = end + 1, raw[at:end]
        return text

    try:
        while (word := raw[at : at + 1]) != b".":
            at += 1
            if word == b"(":
                marks.append(len(stack))
            elif word == b"V":
                stack.append(line().decode("raw_unicode_escape"))
            elif word == b"p":
                memo[line()] = stack[-1]
            elif word == b"g":
                stack.append(memo[line()])
            elif word == b"a":
                item = stack.pop()
                stack[-1].append(item)
            elif word in (b"l", b"t"):
                mark = marks.pop()
                made: Any = list(stack[mark:]) if word == b"l" else tuple(stack[mark:])
                stack[mark:] = [made]
            else:
                raise ValueError(f"holds {word!r}")
        (names,) = stack
        if not isinstance(names, list) or not all(isinstance(n, str) for row in names for n in row):
            raise ValueError("is no list of names")
    except (ValueError, IndexError, KeyError, TypeError, AttributeError) as error:
        problem = (
            f"its column names are a pickle that is more than a list of texts ({error}), and is not opened; {_MEND}"
        )
        raise RecordingError(path, problem) from error
    return [tuple(row) for row in names]


def _array(path: Path, group: Any, name: str) -> Any:
    """A dataset of plain values; object arrays are pickles."""
    node = readable_array(path, group, name)
    if node.dtype.hasobject or text_of(node.attrs.get("PSEUDOATOM", b"")) == "object":
        raise RecordingError(path, f"its array {name!r} holds pickled objects, which are never opened; {_MEND}")
    return node


def _integers(path: Path, group: Any, name: str) -> NDArray[np.int64]:
    node = _array(path, group, name)
    if not np.issubdtype(node.dtype, np.integer) or node.ndim != 1:
        problem = f"expected whole numbers in {name!r}, got {node.dtype}; labelled training images are no recording"
        raise RecordingError(path, problem)
    return np.asarray(node[:], np.int64)


def _numbers(path: Path, group: Any, name: str, n_frames: int) -> NDArray[np.float32]:
    """(T, C) float32."""
    node = _array(path, group, name)
    if not np.issubdtype(node.dtype, np.number) or node.ndim != 2 or n_frames not in node.shape:
        raise RecordingError(path, f"expected numbers for {n_frames} frames in {name!r}, got {node.dtype} {node.shape}")
    values = float32_of(node[:])
    # PyTables stores blocks column by column and says so where it does.
    return values if node.attrs.get("transposed", 0) else values.T


def _is_dlc_h5(probe: FileProbe) -> bool:
    # Any HDF5 file of which no other reader knows a part: this reader says what a table of DeepLabCut's looks like.
    others = {"node_names", "poseest", "position", "processing"}
    return not others & set(probe.hdf5_names)


READER = PoseReader("DeepLabCut .h5", (".h5", ".hdf5", ".hdf"), _is_dlc_h5, one_recording(read_dlc_h5))
