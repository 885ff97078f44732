"""One door for files of poses and of labels: the reader is chosen by the name's end and the first lines.

Here is the list of what is accepted; how a format is read is its reader's business.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rtseg.errors import RecordingError
from rtseg.recordings.labels.label_file import Track
from rtseg.recordings.recording import Recording
from rtseg.recordings.text import read_lines

DEFAULT_FPS = 30.0
"""For formats that carry no frame rate, where the caller names none."""
POSES = (
    "DeepLabCut .csv and .h5, SLEAP analysis .h5 and .slp, CalMS21 .json, recordings of rtseg .mcap, "
    "plain .csv with the columns frame, animal.keypoint.x, animal.keypoint.y"
)
LABELS = (
    "Caltech Behavior Annotator .txt, BORIS events .csv or .tsv, "
    "plain .csv (a track per column, or start,stop,behaviour)"
)


def read_recordings(path: Path | str, *, fps: float | None = None, name: str | None = None) -> Iterator[Recording]:
    """The recordings of a file, one in memory at a time: many from CalMS21's JSON or from rtseg's .mcap, else one.

    fps: frames per second, for formats that carry none; None = 30. name: the recording's name; None = the file's (and
    the sequence's). Raises RecordingError where the format is unknown or the file is not what it seems.
    """
    path = Path(path)
    if path.suffix.lower() in (".json", ".npy"):
        from rtseg.recordings.calms21 import read_calms21

        wants = None if name is None else lambda _, sequence: sequence == name
        yield from (sequence.recording for sequence in read_calms21(path, fps=fps, wants=wants))
    elif path.suffix.lower() == ".mcap":
        from rtseg.recordings.poses.mcap import read_mcap

        yield from read_mcap(path, name=name)
    else:
        yield _read_one(path, fps, name)


def read_recording(path: Path | str, *, fps: float | None = None, name: str | None = None) -> Recording:
    """The one recording of a file; of CalMS21's JSON the sequence called `name`. Otherwise as `read_recordings`."""
    found = list(_first_two(read_recordings(path, fps=fps, name=name)))
    if len(found) != 1:
        many = "several recordings" if found else f"no recording {name!r}" if name else "no recording"
        raise RecordingError(path, f"holds {many}; name a sequence, or read them all with read_recordings")
    return found[0]


def _first_two(recordings: Iterator[Recording]) -> Iterator[Recording]:
    for recording, _ in zip(recordings, range(2), strict=False):
        yield recording


def _read_one(path: Path, fps: float | None, name: str | None) -> Recording:
    kind = path.suffix.lower()
    rate = DEFAULT_FPS if fps is None else fps
    if kind == ".csv":
        return _read_csv(path, rate, name)
    if kind in (".h5", ".hdf5", ".hdf"):
        from rtseg.recordings.poses.dlc_h5 import read_dlc_h5, table_names
        from rtseg.recordings.poses.sleap import read_sleap_analysis

        reader = read_sleap_analysis if "node_names" in table_names(path) else read_dlc_h5
        return reader(path, fps=rate, name=name)
    if kind == ".slp":
        from rtseg.recordings.poses.sleap import read_slp

        return read_slp(path, fps=rate, name=name)
    raise RecordingError(path, f"is of a kind that is not read ({kind or 'no suffix'}); accepted: {POSES}")


def _read_csv(path: Path, fps: float, name: str | None) -> Recording:
    from rtseg.recordings.poses.csv import is_poses_csv, read_poses_csv
    from rtseg.recordings.poses.dlc import is_dlc_csv, read_dlc_csv

    lines, _ = read_lines(path)
    if is_dlc_csv(lines):
        return read_dlc_csv(path, fps=fps, name=name)
    if is_poses_csv(lines):
        return read_poses_csv(path, fps=fps, name=name)
    raise RecordingError(path, f"its header {lines[0][:60]!r} is none that is read; accepted: {POSES}", line=1)


def read_labels(path: Path | str, n_frames: int, fps: float) -> dict[str, Track]:
    """Every label track of a file, for a video of `n_frames` frames. Raises RecordingError for unknown formats."""
    from rtseg.recordings.labels.boris import is_boris, read_boris
    from rtseg.recordings.labels.caltech import is_caltech, read_caltech
    from rtseg.recordings.labels.csv import read_label_csv

    path = Path(path)
    lines, _ = read_lines(path)
    if is_caltech(lines[0]):
        return read_caltech(path, n_frames, fps)
    if is_boris(lines):
        return read_boris(path, n_frames, fps)
    if path.suffix.lower() == ".csv":
        return read_label_csv(path, n_frames, fps)
    raise RecordingError(path, f"its first line {lines[0][:60]!r} is none that is read; accepted: {LABELS}", line=1)
