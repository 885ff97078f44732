"""Opens files of poses and of labels: the list of formats, and the choice of the reader that recognizes a file.

How a format is recognized and read is its reader's business. What no reader recognizes is refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from rtseg.errors import RecordingError, SkeletonError
from rtseg.recordings import calms21
from rtseg.recordings.files.probe import FileProbe
from rtseg.recordings.files.reading_warnings import with_file
from rtseg.recordings.files.unread_formats import PLAIN_POSES, why_unread_kind, why_unread_text
from rtseg.recordings.files.workbook import SUFFIXES as WORKBOOKS
from rtseg.recordings.labels import bento, boris, boris_project, caltech, elan, jaaba, noldus, workbook
from rtseg.recordings.labels import csv as labels_csv
from rtseg.recordings.labels.label_file import LabelReader, Tracks, Video
from rtseg.recordings.poses import dlc, dlc_h5, jabs, mcap, movement, nwb, sleap, slp
from rtseg.recordings.poses.pose_file import PoseReader, assumed_rate
from rtseg.recordings.poses.tables import ethovision, plain
from rtseg.recordings.poses.tables import workbook as poses_workbook
from rtseg.recordings.recording import Recording

POSE_READERS = (
    dlc.READER,
    dlc_h5.READER,
    sleap.READER,
    slp.READER,
    jabs.READER,
    nwb.READER,
    movement.READER,
    calms21.READER,
    mcap.READER,
    plain.READER,
    ethovision.READER,
    poses_workbook.READER,
)
# Workbooks and MATLAB's files first: the others look at lines of text.
LABEL_READERS = (
    workbook.READER,
    jaaba.READER,
    caltech.READER,
    bento.READER,
    boris.READER,
    boris_project.READER,
    noldus.READER,
    elan.READER,
    labels_csv.READER,
)

_TEXT_SUFFIXES = (".csv", ".tsv", ".txt", ".json")


def read_recordings(path: Path | str, *, fps: float | None = None, name: str | None = None) -> Iterator[Recording]:
    """The recordings of a file, one in memory at a time: many from CalMS21's JSON or from rtseg's .mcap, else one.

    fps: frames per second, for formats that carry none; None = 30, with a warning. name: the recording's name; None =
    the file's (and the sequence's). Raises RecordingError where the format is unknown or the file is not what it seems.
    """
    path = Path(path)
    if fps is not None and not 0 < fps < math.inf:
        raise RecordingError(path, f"its frames per second: expected a number above 0, got {fps:g}")
    reader = find_pose_reader(path)
    for recording in _read(reader, path, fps, name):
        warnings = list(recording.warnings)
        if fps is None and not reader.carries_rate:
            warnings.append(assumed_rate())
        yield replace(recording, warnings=with_file(warnings, path))


def _read(reader: PoseReader, path: Path, fps: float | None, name: str | None) -> Iterator[Recording]:
    """What the reader reads; names that cannot be a skeleton's are a fault of the file."""
    try:
        yield from reader.read(path, fps=fps, name=name)
    except SkeletonError as error:
        raise RecordingError(path, f"{error}; rename them in the program that wrote the file") from error


def read_recording(path: Path | str, *, fps: float | None = None, name: str | None = None) -> Recording:
    """The one recording of a file; of CalMS21's JSON the sequence called `name`. Otherwise as `read_recordings`."""
    found = list(islice(read_recordings(path, fps=fps, name=name), 2))  # the second tells that there are several
    if len(found) != 1:
        many = "several recordings" if found else f"no recording {name!r}" if name else "no recording"
        raise RecordingError(path, f"holds {many}; name a sequence, or read them all with read_recordings")
    return found[0]


def holds_several(path: Path) -> bool:
    """Whether files with such a name hold several recordings with names of their own. Opens nothing."""
    return any(reader.holds_several and path.suffix.lower() in reader.suffixes for reader in POSE_READERS)


def read_labels(
    path: Path | str, n_frames: int, fps: float, *, names: Sequence[str] = (), observation: str = ""
) -> Tracks:
    """Every label track of a file, for a video of `n_frames` frames.

    names: what the video may be called, to find it in a file of several: its poses' file name, its id. observation:
    the one of a BORIS file to read. Raises RecordingError for unknown formats, and for labels of another video.
    """
    return read_video_labels(path, Video(n_frames, fps, tuple(names), observation))


def read_video_labels(path: Path | str, video: Video) -> Tracks:
    """Every label track of a file over the frames of a video; as `read_labels`."""
    path = Path(path)
    try:
        tracks = find_label_reader(path).read(path, video)
    except RecordingError as error:
        if not (poses := _pose_format(path)):
            raise
        # Some tables hold both, so that the first thing said is what is wrong with the labels.
        problem = f"{error.problem}; it holds poses ({poses}), and labels are expected"
        raise RecordingError(path, problem, line=error.line) from error
    for name, track in tracks.items():
        tracks[name] = replace(track, warnings=with_file(track.warnings, path))
    return tracks


def _pose_format(path: Path) -> str:
    """What the reader of poses that recognizes a file calls its format; '' where none does."""
    try:
        return find_pose_reader(path).format
    except RecordingError:
        return ""


def find_label_reader(path: Path) -> LabelReader:
    """The reader that recognizes a file of labels; RecordingError where none does."""
    probe = FileProbe(path)
    # MATLAB's are not read as poses, and JAABA's are as labels.
    if unread := path.exists() and probe.suffix != jaaba.SUFFIX and why_unread_kind(probe.suffix):
        raise RecordingError(path, unread)
    for reader in LABEL_READERS:
        if reader.recognizes(probe):
            return reader
    if unread := why_unread_text(probe.lines[0]):
        raise RecordingError(path, unread, line=1)
    accepted = ", ".join(reader.format for reader in LABEL_READERS)
    problem = f"its first line {probe.lines[0][:60]!r} is none that is read; accepted: {accepted}"
    raise RecordingError(path, problem, line=1)


def find_pose_reader(path: Path) -> PoseReader:
    """The reader that recognizes a file of poses; RecordingError where none does."""
    probe = FileProbe(path)
    accepted = ", ".join(reader.format for reader in POSE_READERS)
    # By the name first, which needs no look into files of gigabytes.
    candidates = [reader for reader in POSE_READERS if probe.suffix in reader.suffixes]
    if not candidates:
        if not probe.path.exists():
            raise RecordingError(probe.path, "cannot be read: no such file")
        unread = why_unread_kind(probe.suffix) or (probe.suffix in _TEXT_SUFFIXES and why_unread_text(probe.lines[0]))
        kind = probe.suffix or "no suffix"
        problem = f"is of a kind that is not read ({kind}); accepted: {accepted}; or {PLAIN_POSES}"
        raise RecordingError(probe.path, unread or problem)
    for reader in candidates:
        if reader.recognizes(probe):
            return reader
    if probe.suffix in _TEXT_SUFFIXES:
        unread = why_unread_text(probe.lines[0])
        if probe.lines[0].startswith("sep="):
            unread = (
                "expected the header, got Excel's own first line, which only plain tables may have; remove this line"
            )
        if unread:
            raise RecordingError(probe.path, unread, line=1)
    if probe.suffix in WORKBOOKS:
        problem = "is a workbook, and no sheet begins with a header of poses (frame,nose.x,nose.y or bodyparts, coords)"
    elif any({".csv", ".txt"} & set(reader.suffixes) for reader in candidates):
        problem = f"its header {probe.lines[0][:60]!r} is none that is read"
        # A plain table of labels is any that no other reader knows.
        if labels := next((r.format for r in LABEL_READERS if r is not labels_csv.READER and r.recognizes(probe)), ""):
            problem = f"holds labels ({labels}), and poses are expected"
        raise RecordingError(probe.path, f"{problem}; accepted: {accepted}; or {PLAIN_POSES}", line=1)
    else:
        problem = f"its parts {', '.join(probe.hdf5_names) or '(none)'} are of no format that is read"
    raise RecordingError(probe.path, f"{problem}; accepted: {accepted}; or {PLAIN_POSES}")
