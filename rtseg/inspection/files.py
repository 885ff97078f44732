"""Any file of poses or labels: its format and what it holds. Labels are laid over poses that are named with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rtseg.errors import RecordingError, SettingError
from rtseg.inspection.labels import TrackReport, examine_labels
from rtseg.inspection.poses import PoseReport, examine_poses
from rtseg.project.files import FoundFiles
from rtseg.project.pairing import pair_files
from rtseg.recordings.files.workbook import SUFFIXES as WORKBOOKS
from rtseg.recordings.labels.label_file import Tracks, Video
from rtseg.recordings.open import find_label_reader, find_pose_reader, read_recordings, read_video_labels
from rtseg.recordings.poses.pose_file import DEFAULT_FPS
from rtseg.recordings.recording import Recording


@dataclass(frozen=True, eq=False)
class FileReport:
    """One file. poses: its recordings, none of a label file. tracks: none of a pose file. video: the poses beside which
    labels were read, '' where their own length was taken. problem: why it can't be read, '' where it was. recordings,
    labels: what was read, for a picture.
    """

    path: Path
    format: str = ""
    fps: float = 0.0
    poses: tuple[PoseReport, ...] = ()
    tracks: tuple[TrackReport, ...] = ()
    video: str = ""
    problem: str = ""
    recordings: tuple[Recording, ...] = field(default=(), repr=False)
    labels: Tracks = field(default_factory=Tracks, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "file": str(self.path),
            "format": self.format,
            "fps": self.fps,
            "video": self.video,
            "problem": self.problem,
            "poses": [asdict(report) for report in self.poses],
            "tracks": [asdict(report) for report in self.tracks],
        }


def inspect_files(paths: Sequence[Path], fps: float | None = None) -> list[FileReport]:
    """A report of each file: poses, labels, and last what can't be read. fps: of files that say none (None =
    DEFAULT_FPS, with a warning).

    A label file is laid over the poses of its video where they are among the files, by their names; else its own labels
    say how long it is. One broken file keeps no other from being looked at. Raises SettingError for a folder.
    """
    poses: list[Path] = []
    labels: list[Path] = []
    broken: list[FileReport] = []
    for path in paths:
        if path.is_dir():
            raise SettingError(f"{path} is a folder; name files, or let `rtseg init` look through it")
        with _noting(path, broken):
            (poses if _holds_poses(path) else labels).append(path)
    pairing = pair_files(FoundFiles(Path(), tuple(poses), tuple(labels)))
    partner = {pair.labels: pair.poses for pair in pairing.pairs}
    reports: dict[Path, FileReport] = {}
    for path in poses:
        with _noting(path, broken):
            reports[path] = _inspect_poses(path, fps)
    found = list(reports.values())
    for path in labels:
        with _noting(path, broken):
            found.append(_inspect_labels(path, reports.get(partner[path]) if path in partner else None, fps))
    return [*found, *broken]


@contextmanager
def _noting(path: Path, broken: list[FileReport]) -> Iterator[None]:
    try:
        yield
    except RecordingError as error:
        broken.append(FileReport(path, problem=str(error)))


def _holds_poses(path: Path) -> bool:
    """Whether a file holds poses; False for labels, RecordingError for neither."""
    try:
        find_pose_reader(path)
        return True
    except RecordingError as error:
        try:
            find_label_reader(path)
        except RecordingError as label_error:
            # Of a workbook nothing but labels could be read.
            raise (label_error if path.suffix.lower() in WORKBOOKS else error) from None
        return False


def _inspect_poses(path: Path, fps: float | None) -> FileReport:
    reader = find_pose_reader(path)
    recordings = tuple(read_recordings(path, fps=fps))
    if not recordings:
        raise RecordingError(path, "holds no recording")
    reports = tuple(examine_poses(recording) for recording in recordings)
    return FileReport(path, reader.format, recordings[0].fps, reports, recordings=recordings)


def _inspect_labels(path: Path, poses: FileReport | None, fps: float | None) -> FileReport:
    reader = find_label_reader(path)
    if poses is not None and len(poses.recordings) == 1:
        recording = poses.recordings[0]
        video = Video(len(recording), recording.fps, (poses.path.name, recording.name))
        name, rate = poses.path.name, recording.fps
    else:
        rate, name = fps or DEFAULT_FPS, ""
        video = Video(0, rate, open_ended=True)
    tracks = read_video_labels(path, video)
    return FileReport(path, reader.format, rate, tracks=examine_labels(tracks, rate), video=name, labels=tracks)
