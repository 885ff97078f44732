"""Writers of files as other programs and spreadsheets write them, independent of rtseg's readers.

They share no code with `rtseg.recordings`: what a test means stands in plain arrays and tuples, and comes back as such.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

ABSENT = {
    "empty": ("", "", ""),
    "nan": ("NaN", "NaN", "NaN"),
    "minus one": ("-1", "-1", "-1"),
    "zero": ("0.0", "0.0", "0.0"),
    "minus one, likelihood zero": ("-1.0", "-1.0", "0.0"),
    "empty, likelihood zero": ("", "", "0"),
    "minus one with a point": ("-1.0", "-1.0", "-1.0"),
    "minus one, likelihood nan": ("-1", "-1", "nan"),
    "zero, likelihood empty": ("0", "0", ""),
    "negative likelihood": ("412.5", "88.25", "-1"),
    "not available": ("NA", "NA", "NA"),
    "spreadsheet": ("#N/A", "#N/A", "0"),
    "none": ("None", "null", ""),
}
"""How trackers write a missing point: x, y and likelihood."""


@dataclass(frozen=True)
class Style:
    """How a program writes tables. quote: all cells; rest: rows and columns without anything at the end."""

    delimiter: str = ","
    decimal_comma: bool = False
    quote: bool = False
    rest_rows: int = 0
    rest_columns: int = 0
    encoding: str = "utf-8"
    line_end: str = "\n"

    def write(self, path: Path, rows: Sequence[Sequence[str]]) -> Path:
        """The rows as a file."""
        width = max(map(len, rows)) + self.rest_columns
        empty = [[""] * width for _ in range(self.rest_rows)]
        lines = [self.delimiter.join(map(self._cell, [*row, *[""] * self.rest_columns])) for row in [*rows, *empty]]
        path.write_bytes((self.line_end.join(lines) + self.line_end).encode(self.encoding))
        return path

    def number(self, value: float, digits: int = 3) -> str:
        text = f"{value:.{digits}f}"
        return text.replace(".", ",") if self.decimal_comma else text

    def _cell(self, cell: str) -> str:
        needs = self.delimiter in cell or "\n" in cell or '"' in cell
        return '"' + cell.replace('"', '""') + '"' if self.quote or needs else cell


def point_cells(point: np.ndarray, likelihood: float, style: Style, absent: str) -> list[str]:
    """x, y and likelihood of one point; NaN is written as `absent` says."""
    if np.isnan(point).any():
        return [cell.replace(".", ",") if style.decimal_comma else cell for cell in ABSENT[absent]]
    return [style.number(point[0]), style.number(point[1]), style.number(likelihood)]


def write_dlc(
    path: Path,
    points: np.ndarray,
    likelihood: np.ndarray,
    animals: Sequence[str],
    keypoints: Sequence[str],
    *,
    style: Style = Style(),
    absent: str = "empty",
    first: int = 0,
    skip: Iterable[int] = (),
    extra: Sequence[str] = (),
) -> Path:
    """DeepLabCut's CSV of points (T, A, K, 2). first: index of the first row. skip: rows left out. extra: coords."""
    coords = ["x", "y", "likelihood", *extra]
    columns = [(a, k, c) for a in animals for k in keypoints for c in coords]
    rows = [["scorer", *["net" for _ in columns]]]
    if len(animals) > 1:
        rows.append(["individuals", *[a for a, _, _ in columns]])
    rows += [["bodyparts", *[k for _, k, _ in columns]], ["coords", *[c for _, _, c in columns]]]
    gone = set(skip)
    for t in range(len(points)):
        if t in gone:
            continue
        cells = [str(t + first)]
        for a in range(len(animals)):
            for k in range(len(keypoints)):
                cells += point_cells(points[t, a, k], likelihood[t, a, k], style, absent)
                cells += [style.number(1.0) for _ in extra]
        rows.append(cells)
    return style.write(path, rows)


def write_sleap_csv(
    path: Path,
    points: np.ndarray,
    likelihood: np.ndarray,
    tracks: Sequence[str],
    nodes: Sequence[str],
    order: Callable[[int], Sequence[int]],
    *,
    style: Style = Style(),
    absent: str = "empty",
    first: int = 0,
) -> Path:
    """SLEAP's analysis CSV, without rows for absent instances. order: frame -> the order of its tracks."""
    rows = [["track", "frame_idx", "instance.score", *[f"{n}.{c}" for n in nodes for c in ("x", "y", "score")]]]
    for t in range(len(points)):
        for a in order(t):
            if np.isnan(points[t, a]).all():
                continue
            cells = [tracks[a], str(t + first), style.number(0.9)]
            for k in range(len(nodes)):
                cells += point_cells(points[t, a, k], likelihood[t, a, k], style, absent)
            rows.append(cells)
    return style.write(path, rows)


def write_sleap_h5(
    path: Path, points: np.ndarray, scores: np.ndarray, tracks: Sequence[str], nodes: Sequence[str], *, dims: bool
) -> Path:
    """SLEAP's analysis HDF5 of points (T, A, K, 2). dims: with the names of axes, and the axes in another order."""
    with h5py.File(path, "w") as file:
        file["track_names"], file["node_names"] = (np.array(names, "S") for names in (tracks, nodes))
        turned = points.transpose(1, 3, 2, 0)  # track, xy, node, frame
        file["tracks"] = points if dims else turned
        file["point_scores"] = scores if dims else scores.transpose(1, 2, 0)
        if dims:
            file["tracks"].attrs["dims"] = json.dumps(["frame", "track", "node", "xy"])
            file["point_scores"].attrs["dims"] = json.dumps(["frame", "track", "node"])
    return path


def write_plain_poses(
    path: Path,
    points: np.ndarray,
    likelihood: np.ndarray,
    animals: Sequence[str],
    keypoints: Sequence[str],
    *,
    style: Style = Style(),
    absent: str = "empty",
    frame: Callable[[int], str] = str,
) -> Path:
    """`frame,animal.keypoint.x,...`. frame: how a frame's number is written."""
    names = [f"{a}.{k}.{c}" for a in animals for k in keypoints for c in ("x", "y", "score")]
    rows = [["frame", *names]]
    for t in range(len(points)):
        cells = [frame(t)]
        for a in range(len(animals)):
            for k in range(len(keypoints)):
                cells += point_cells(points[t, a, k], likelihood[t, a, k], style, absent)
        rows.append(cells)
    return style.write(path, rows)


@dataclass(frozen=True)
class State:
    """What an observer noted: a behaviour of a subject from one second to another."""

    subject: str
    behaviour: str
    start_s: float
    stop_s: float
    modifier: str = ""


@dataclass(frozen=True)
class Observation:
    """One observation of BORIS. offset_s: its time offset, which BORIS adds to every time.

    before, after: (name, seconds) of media files that it plays before and behind its own. Times are those of the own.
    """

    id: str
    media: str
    states: tuple[State, ...] = ()
    offset_s: float = 0.0
    before: tuple[tuple[str, float], ...] = ()
    after: tuple[tuple[str, float], ...] = ()
    fps: str = "30.000"
    duration_s: float = 20.0


def write_boris_tabular(
    path: Path,
    observations: Sequence[Observation],
    style: Style = Style(),
    *,
    comment: str = "",
    start_before_stop: bool = False,
) -> Path:
    """BORIS' tabular events of its versions from 8 on. start_before_stop: the order of rows at the same time."""
    header = "Observation id,Observation date,Description,Observation duration,Observation type,Source,Time offset (s)"
    header += ",Coding duration,Media duration (s),FPS,Subject,Behavior,Behavioral category,Modifier #1,Behavior type"
    rows = [[*header.split(","), "Time", "Media file name", "Image index", "Image file path", "Comment"]]
    number = style.number
    for one in observations:
        marks = [(s.start_s, "START", s) for s in one.states] + [(s.stop_s, "STOP", s) for s in one.states]
        for time, status, s in sorted(marks, key=lambda m: (m[0], (m[1] == "STOP") == start_before_stop)):
            played = [*one.before, (one.media, one.duration_s), *one.after]
            duration, kind = ";".join(number(seconds) for _, seconds in played), "Media file(s)"
            source = "player #1:" + ";".join(name for name, _ in played)
            first = [one.id, "2024-01-01 10:00:00", "", duration, kind, source]
            time += sum(seconds for _, seconds in one.before)
            rows.append(
                [
                    *first,
                    number(one.offset_s),
                    duration,
                    duration,
                    one.fps if not style.decimal_comma else one.fps.replace(".", ","),
                    s.subject,
                    s.behaviour,
                    "",
                    s.modifier,
                    status,
                    number(time + one.offset_s),
                    one.media,
                    "NA",
                    "NA",
                    comment,
                ]
            )
    return style.write(path, rows)


def write_boris_aggregated(
    path: Path,
    observations: Sequence[Observation],
    style: Style = Style(),
) -> Path:
    """BORIS' aggregated events: a row per state."""
    header = "Observation id,Description,Time offset (s),Media duration (s),FPS (frame/s),Subject,Behavior"
    rows = [[*header.split(","), "Modifiers", "Behavior type", "Start (s)", "Stop (s)", "Media file name"]]
    number = style.number
    for one in observations:
        for s in one.states:
            times = number(s.start_s + one.offset_s), number(s.stop_s + one.offset_s)
            about = [one.id, "", number(one.offset_s), number(one.duration_s), one.fps.split(".")[0]]
            rows.append([*about, s.subject, s.behaviour, s.modifier, "STATE", *times, one.media])
    return style.write(path, rows)


def write_boris_old(path: Path, one: Observation, style: Style = Style()) -> Path:
    """BORIS' tabular events of its versions up to 7: what newer ones have in columns stands above the table."""
    width = 9
    above = [("Observation id", one.id), ("",), ("Media file(s)",), ("Player #1", f"/videos/{one.media}")]
    above += [("Time offset (s)", style.number(one.offset_s)), ("",)]
    rows = [[*row, *[""] * (width - len(row))] for row in above]
    rows.append(
        [
            "Time",
            "Media file path",
            "Total length",
            "FPS",
            "Subject",
            "Behavior",
            "Behavioral category",
            "Comment",
            "Status",
        ]
    )
    marks = [(s.start_s, "START", s) for s in one.states] + [(s.stop_s, "STOP", s) for s in one.states]
    for time, status, s in sorted(marks, key=lambda m: m[0]):
        about = [style.number(time + one.offset_s), f"/videos/{one.media}", style.number(one.duration_s)]
        rows.append([*about, style.number(30.0), s.subject, s.behaviour, "", "", status])
    return style.write(path, rows)


def write_caltech(
    path: Path,
    classes: Sequence[str],
    tracks: dict[str, Sequence[tuple[int, int, str]]],
    encoding: str = "utf-8",
    line_end: str = "\n",
) -> Path:
    """Caltech Behavior Annotator text. tracks: name -> (start, stop, behaviour) from 0, the stop not included."""
    lines = ["Caltech Behavior Annotator - Annotation File", "", "Configuration file:"]
    lines += [f"{name}\t{chr(97 + i)}" for i, name in enumerate(classes)]
    for track, bouts in tracks.items():
        lines += ["", f"{track}:\tstart\tend\ttype", "-" * 29]
        lines += [f"{start + 1}\t{stop}\t{behaviour}" for start, stop, behaviour in bouts]
    path.write_bytes((line_end.join(lines) + line_end).encode(encoding))
    return path
