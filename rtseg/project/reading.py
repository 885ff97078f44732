"""Reads the pairs of a project: poses, the frame rate, and labels with the way in which their tables count frames."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rtseg.errors import RecordingError, SettingError
from rtseg.project.pairing import Pair
from rtseg.project.questions import Asker, Wishes
from rtseg.recordings.heads import spelt_alike
from rtseg.recordings.labels import boris, boris_project
from rtseg.recordings.labels.boris_events import OTHER_NAME
from rtseg.recordings.labels.bout_table import (
    COUNTING_NOT_SAID,
    SAID_LAST_INCLUDED,
    SEEM_FROM_ONE,
    SEEM_LAST_INCLUDED,
)
from rtseg.recordings.labels.frame_tables.frame_table import SAY_FROM_ONE
from rtseg.recordings.labels.label_file import WITHOUT_LABEL, Tracks, Video, rate_in_kind
from rtseg.recordings.open import find_label_reader, find_pose_reader, read_recording, read_video_labels
from rtseg.recordings.poses.pose_file import DEFAULT_FPS, is_rate_assumed
from rtseg.recordings.recording import Recording

Progress = Callable[[int, int], None]
_MAX_FPS = 1e5
_MAX_KEPT = 12
"""Recordings whose poses are looked at in whole; of the others only the length is needed."""


@dataclass(frozen=True)
class Counting:
    """How tables of frames count: see `Video`."""

    first_frame: int = 0
    last_included: bool = False


@dataclass(frozen=True, eq=False)
class ReadProject:
    """What was read. recordings: some. lengths, tracks: of every pair. fps_said: whether anybody says the rate.

    track_names: what some label files call a track otherwise than the first one does -> its name.
    """

    recordings: tuple[Recording, ...]
    lengths: tuple[int, ...]
    tracks: tuple[Tracks, ...]
    track_names: Mapping[str, str]
    fps: float
    fps_said: bool
    counting: Counting
    notes: tuple[str, ...]


def read_project(pairs: Sequence[Pair], wishes: Wishes, ask: Asker, progress: Progress) -> ReadProject:
    """Read all pairs; what files leave open is taken from `wishes` or asked. Raises RecordingError, SettingError."""
    fps, said = _frame_rate(pairs, wishes, ask)
    recordings: list[Recording] = []
    lengths: list[int] = []
    tracked: list[int] = []
    for number, pair in enumerate(pairs):
        recording = read_recording(pair.poses, fps=fps, name=pair.name)
        lengths.append(len(recording))
        tracked.append(len(recording.came))
        if number % max(1, len(pairs) // _MAX_KEPT) == 0:
            recordings.append(recording)
        progress(number, 2 * len(pairs))
    counting = _counting(pairs, lengths, fps, wishes, ask)
    tracks = []
    for number, (pair, n_frames) in enumerate(zip(pairs, lengths, strict=True)):
        others = tuple(other.name for other in pairs if other is not pair)
        video = video_of(pair, n_frames, fps, counting)
        video = replace(video, n_tracked=tracked[number], other_names=others)
        tracks.append(read_video_labels(pair.labels, video))
        progress(len(pairs) + number, 2 * len(pairs))
    notes = dict.fromkeys(_notes(recordings, tracks))
    names = spelt_otherwise([name for some in tracks for name in some], together=tracks)
    tracks = [some.renamed(pair.labels, names) for pair, some in zip(pairs, tracks, strict=True)]
    return ReadProject(tuple(recordings), tuple(lengths), tuple(tracks), names, fps, said, counting, tuple(notes))


def spelt_otherwise(names: Iterable[str], together: Iterable[Iterable[str]] = ()) -> dict[str, str]:
    """Names that differ from an earlier one in case and blanks alone -> the earlier one.

    together: groups of names that stand in one file; two of one group are two things, however alike.
    """
    found: dict[str, str] = {}
    first: list[str] = []
    for name in dict.fromkeys(names):
        other = next((one for one in first if spelt_alike(one, name)), None)
        if other is None or any({name, other} <= set(some) for some in together):
            first.append(name)
        else:
            found[name] = other
    return found


def video_of(pair: Pair, n_frames: int, fps: float, counting: Counting) -> Video:
    """What a label reader is told about a pair's video; the same as a dataset file's [[recordings]] tells it."""
    return Video(n_frames, fps, (pair.poses.name, pair.name), "", counting.first_frame, counting.last_included)


def holds_video(labels: Path, poses: Path) -> bool:
    """Whether a label file holds several videos, or one with a name of its own, and one is named like the poses."""
    video = Video(0, DEFAULT_FPS, (poses.name,), open_ended=True)
    try:
        tracks = read_video_labels(labels, video)
        if find_label_reader(labels) not in (boris.READER, boris_project.READER):
            # A table or a workbook of one video says nothing of whose it is; one of several is read by its name alone.
            return not _can_be_read(labels, replace(video, names=()))
    except RecordingError:
        return False
    # Where no track says anything, nothing says either that it is the video's.
    kinds = [w.kind for track in tracks.values() for w in track.warnings]
    return bool(tracks) and OTHER_NAME not in kinds


def _can_be_read(labels: Path, video: Video) -> bool:
    """Whether the labels are read without an error."""
    try:
        read_video_labels(labels, video)
        return True
    except RecordingError:
        return False


def _frame_rate(pairs: Sequence[Pair], wishes: Wishes, ask: Asker) -> tuple[float, bool]:
    """The rate, and whether a person or a file says it."""
    if wishes.fps is not None:
        return wishes.fps, True
    rates: dict[float, Pair] = {}
    for pair in pairs:
        rate = _rate_of(pair)
        if rate is not None:
            rates.setdefault(rate, pair)
        if len(rates) > 1:
            listed = "; ".join(f"{rate:g} fps: {pair.name}" for rate, pair in rates.items())
            raise SettingError(f"the recordings have different frame rates ({listed}); make a dataset of each")
    proposed = next(iter(rates), DEFAULT_FPS)
    source = "as a file says" if rates else "no file says it"
    answer = ask.text(f"Frames per second of the videos ({source})", f"{proposed:g}")
    try:
        fps = float(answer)
    except ValueError:
        raise SettingError(f"expected frames per second as a number, got {answer!r}") from None
    check_rate(fps)
    return fps, bool(rates) or fps != proposed


def check_rate(fps: float, where: str = "") -> None:
    """Raise SettingError for frames per second that no camera has. where: with what an error begins."""
    if not 0 < fps < _MAX_FPS:
        raise SettingError(f"{where}expected frames per second above 0 and below {_MAX_FPS:g}, got {fps:g}")


def _rate_of(pair: Pair) -> float | None:
    """The rate that a pair's files say; None where neither does."""
    if find_pose_reader(pair.poses).carries_rate:
        recording = read_recording(pair.poses, name=pair.name)
        if not is_rate_assumed(recording.warnings):
            return recording.fps
    # Annotation programs write down how fast they played the video; a reader says so only where it differs.
    for fps in (DEFAULT_FPS, DEFAULT_FPS + 1):
        try:
            tracks = read_video_labels(pair.labels, replace(video_of(pair, 0, fps, Counting()), open_ended=True))
        except RecordingError:
            return None  # read again with the poses' length, where errors count
        kinds = (warning.kind for track in tracks.values() for warning in track.warnings)
        rate = next((rate for kind in kinds if (rate := rate_in_kind(kind)) is not None), None)
        if rate is not None:
            return rate
    return None


def _counting(pairs: Sequence[Pair], lengths: Sequence[int], fps: float, wishes: Wishes, ask: Asker) -> Counting:
    """How tables count, by what they say themselves; asked where they say nothing."""
    counting = Counting(wishes.first_frame or 0, wishes.last_included or False)
    kinds: set[str] = set()
    for pair, n_frames in zip(pairs, lengths, strict=True):
        video = video_of(pair, n_frames, fps, counting)
        try:
            tracks = read_video_labels(pair.labels, video)
        except RecordingError as error:
            if SAY_FROM_ONE not in str(error) or wishes.first_frame is not None:
                raise
            counting = replace(counting, first_frame=1)
            tracks = read_video_labels(pair.labels, replace(video, first_frame=1))
        kinds |= {w.kind for track in tracks.values() for w in track.warnings}
    if wishes.first_frame is None and SEEM_FROM_ONE in kinds:
        counting = replace(counting, first_frame=1)
    if wishes.last_included is None and kinds & {SEEM_LAST_INCLUDED, SAID_LAST_INCLUDED}:
        return replace(counting, last_included=True)
    if COUNTING_NOT_SAID in kinds:
        return _asked_counting(counting, wishes, ask)
    return counting


def _asked_counting(counting: Counting, wishes: Wishes, ask: Asker) -> Counting:
    if wishes.first_frame is None:
        options = {"0": "the first frame is 0", "1": "the first frame is 1, as in MATLAB"}
        counting = replace(
            counting, first_frame=int(ask.choose("From what do the label tables count frames?", options, "0"))
        )
    if wishes.last_included is None:
        options = {"no": "the stop is the first frame behind the bout", "yes": "the stop is the bout's last frame"}
        answer = ask.choose("Does a bout include its stop frame?", options, "no")
        counting = replace(counting, last_included=answer == "yes")
    return counting


def _notes(recordings: Sequence[Recording], tracks: Sequence[Tracks]) -> Iterator[str]:
    """What the readers tolerated, a line for each kind and the number of files with it."""
    files: dict[str, set[str]] = {}
    for warning in [w for r in recordings for w in r.warnings] + [
        w for some in tracks for track in some.values() for w in track.warnings
    ]:
        files.setdefault(warning.kind, set()).add(warning.file)
    for kind, names in files.items():
        # The questions and the table of the heads say these.
        if kind in (WITHOUT_LABEL, COUNTING_NOT_SAID):
            continue
        yield f"{kind} ({len(names)} file{'s' * (len(names) > 1)})"
