"""CalMS21's official JSON (Sun et al. 2021, section 3 and its data sheet), read and written one sequence at a time.

{group: {sequence: {keypoints (T, 2, 2, 7), scores (T, 2, 7), annotations (T), metadata {vocab}}}}; a group is an
annotator or, in Task 3, a behaviour. A file holds hundreds of MB: it is never in memory as a whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import numpy as np
from numpy.typing import NDArray

from rtseg.errors import RecordingError
from rtseg.frames.skeleton import MICE7
from rtseg.recordings.files.unread_formats import PLAIN_POSES
from rtseg.recordings.poses.pose_file import DEFAULT_FPS, PoseReader, float32_of, read_points
from rtseg.recordings.recording import IGNORE, Labels, Recording
from rtseg.system.files import replace_atomically

_CHUNK_BYTES = 1 << 20
_MAX_TEXT_BYTES = 1 << 20
_LAYOUT = "{group: {sequence: {keypoints, scores, annotations}}}"
_MEND = f"bring CalMS21's official .json; of other programs' (OpenPose, MMPose, COCO, MARS, ...) {PLAIN_POSES}"
_TOKEN = re.compile(rb'\{|\}|"(?:[^"\\]|\\.)*("?)', re.DOTALL)


@dataclass(frozen=True, eq=False)
class Sequence:
    """One sequence of a file. labels: None where the file has no annotations for it (the challenge's test files)."""

    group: str
    recording: Recording
    labels: Labels | None


@dataclass(frozen=True)
class _Place:
    group: str
    name: str
    start: int
    stop: int  # bytes [start, stop) hold the sequence's JSON object


def calms21_file_name(task: int, split: str) -> str:
    """CalMS21's own name of a file."""
    return f"calms21_task{task}_{split}.json"


def index_calms21(path: Path | str) -> list[tuple[str, str]]:
    """(group, sequence name) of everything in the file, in its order; no numbers are parsed."""
    path = Path(path)
    with _open(path) as file:
        return [(place.group, place.name) for place in _places(path, file)]


def read_calms21(
    path: Path | str, *, fps: float | None = None, wants: Callable[[str, str], bool] | None = None
) -> Iterator[Sequence]:
    """The file's sequences in order, one in memory at a time.

    wants: called with (group, sequence name); a sequence that it declines is skipped unparsed. fps: None takes the
    sequence's own, or 30. Recordings have MICE7's names, labels are classes of the sequence's vocab. Raises
    RecordingError naming the sequence for anything but the official layout, and for the .npy form, a pickle.
    """
    path = Path(path)
    # Two handles: the scan goes on where it stopped while a sequence is read.
    with _open(path) as file, _open(path) as again:
        for place in _places(path, file):
            if wants is None or wants(place.group, place.name):
                yield _read(path, again, place, fps)


def _open(path: Path) -> BinaryIO:
    try:
        file = path.open("rb")
    except OSError as error:
        raise RecordingError(path, f"cannot be read: {error.strerror or error}") from error
    head = file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")
    file.seek(0)
    if head.startswith(b"{"):
        return file
    file.close()
    if head.startswith((b"\x93NUMPY", b"\x80")):
        raise RecordingError(
            path,
            "is CalMS21's .npy form, a pickle, which can run any code and is never opened; "
            "use the JSON that it was made from (the dataset is published as JSON)",
        )
    raise RecordingError(path, f"expected CalMS21's JSON, an object, got {head[:20]!r}; {_MEND}")


def _places(path: Path, file: BinaryIO) -> Iterator[_Place]:
    """Where every sequence's object lies. Looks at braces and strings alone: numbers hold neither."""
    depth, group, name, start = 0, "", "", 0
    last = b""
    seen: set[tuple[str, str]] = set()
    for at, token in _tokens(path, file):
        if token == b"{":
            depth += 1
            if depth == 2:
                group = _name(path, last, at)
            elif depth == 3:
                name, start = _name(path, last, at), at
                if (group, name) in seen:
                    raise RecordingError(path, f"sequence {name!r} of group {group!r} comes twice; rename one of them")
                seen.add((group, name))
        elif token == b"}":
            depth -= 1
            if depth == 2:
                yield _Place(group, name, start, at + 1)
            elif depth < 0:
                raise RecordingError(path, f"is no JSON: a brace closes nothing at byte {at}; export it again")
        else:
            last = token
    if not depth and not seen:
        raise RecordingError(path, f"holds no sequence; expected {_LAYOUT}; {_MEND}")
    if depth:
        at = file.tell()
        raise RecordingError(path, f"ends at byte {at} inside {depth} open objects: it was cut; copy it again")


def _tokens(path: Path, file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """(byte offset, token) of every brace and string outside strings."""
    base, carry = 0, b""  # the file offset of `data`, and a string that the last chunk cut
    while chunk := file.read(_CHUNK_BYTES):
        data = carry + chunk
        keep = len(data)
        for match in _TOKEN.finditer(data):
            if match[0].startswith(b'"') and not match[1]:
                keep = match.start()  # the string goes on in the next chunk
                break
            yield base + match.start(), match[0]
        base, carry = base + keep, data[keep:]
        if len(carry) > _MAX_TEXT_BYTES:
            raise RecordingError(path, f"is no CalMS21 JSON: a text of over {len(carry)} bytes starts at byte {base}")
    if carry:
        raise RecordingError(path, f"ends inside a text at byte {base + len(carry)}: it was cut; copy it again")


def _name(path: Path, token: bytes, at: int) -> str:
    try:
        return str(json.loads(token))
    except ValueError as error:
        raise RecordingError(path, f"is no CalMS21 JSON: an object without a name at byte {at}") from error


def _read(path: Path, file: BinaryIO, place: _Place, fps: float | None) -> Sequence:
    where = f"group {place.group!r}, sequence {place.name!r}"
    file.seek(place.start)
    raw = file.read(place.stop - place.start)
    try:
        plain: dict[str, Any] = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise RecordingError(path, f"{where}: is no JSON ({error}); export it again") from error
    del raw  # text and parsed lists of a long sequence are hundreds of MB each
    for key in ("keypoints", "scores"):
        if key not in plain:
            raise RecordingError(path, f"{where}: has no {key!r}; expected keypoints, scores, annotations, metadata")
    keypoints = _floats(path, where, "keypoints", plain.pop("keypoints"), (2, 2, 7))
    scores = _floats(path, where, "scores", plain.pop("scores"), (2, 7))
    if len(scores) != len(keypoints):
        raise RecordingError(path, f"{where}: {len(keypoints)} frames of keypoints and {len(scores)} of scores")
    metadata = plain.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise RecordingError(path, f"{where}: metadata must be an object, got {type(metadata).__name__}")
    own_fps = metadata.get("fps")
    if own_fps is not None and fps is not None and own_fps != fps:
        raise RecordingError(path, f"{where}: was recorded at {own_fps} fps, not {fps:g}; name the fps of the file")
    points, confidence, warnings = read_points(path, keypoints.transpose(0, 1, 3, 2), scores)
    recording = Recording(
        name=place.name,
        skeleton=MICE7,
        keypoints=points,
        confidence=confidence,
        fps=float(own_fps or fps or DEFAULT_FPS),
        source=str(path),
        warnings=tuple(warnings),
        simulated=metadata.get("simulated") is True,
    )
    return Sequence(place.group, recording, _labels(path, where, place.group, plain, metadata, len(recording)))


def _floats(path: Path, where: str, what: str, plain: object, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """(T, *shape) float32; null counts as NaN."""
    try:
        array = float32_of(plain)
    except (TypeError, ValueError) as error:
        raise RecordingError(path, f"{where}: {what} are no array of numbers ({error}); export it again") from error
    if array.shape[1:] != shape or len(array) == 0:
        hint = "the axes are (frame, mouse, x and y, keypoint)" if what == "keypoints" else "(frame, mouse, keypoint)"
        raise RecordingError(path, f"{where}: expected {what} of shape (T, {str(shape)[1:]}, got {array.shape}; {hint}")
    return array


def _labels(
    path: Path, where: str, group: str, plain: Mapping[str, Any], metadata: Mapping[str, Any], n_frames: int
) -> Labels | None:
    annotations = plain.get("annotations")
    if annotations is None or len(annotations) == 0:
        return None
    values = _vocab(path, where, metadata.get("vocab"))
    codes = np.asarray(annotations)
    if codes.shape != (n_frames,):
        problem = f"{where}: expected {n_frames} annotations, one per frame, got {codes.shape}; export it again"
        raise RecordingError(path, problem)
    frames = np.full(n_frames, IGNORE, np.int16)
    for i, value in enumerate(values.values()):
        frames[codes == value] = i
    unknown = np.flatnonzero(frames == IGNORE)
    if len(unknown):
        t = int(unknown[0])
        problem = (
            f"{where}: frame {t} (from 0) has the label {codes[t]}, which the vocab does not name ({values}); "
            f"{len(unknown)} such frames. Correct the annotations or the vocab"
        )
        raise RecordingError(path, problem)
    return Labels(group, tuple(values), frames)


def _vocab(path: Path, where: str, plain: object) -> dict[str, int]:
    """Behaviour name -> number, in the order of the numbers."""
    if isinstance(plain, list):
        plain = {name: i for i, name in enumerate(plain)}
    if not isinstance(plain, dict) or not plain:
        problem = f"{where}: has annotations and no metadata.vocab that names them, as in {{'attack': 0, 'other': 3}}"
        raise RecordingError(path, problem)
    whole = all(isinstance(k, str) and isinstance(v, int) and not isinstance(v, bool) for k, v in plain.items())
    if not whole or len(set(plain.values())) != len(plain):
        raise RecordingError(path, f"{where}: metadata.vocab needs names with different whole numbers, got {plain}")
    return dict(sorted(plain.items(), key=lambda pair: pair[1]))


def write_calms21(path: Path | str, groups: Mapping[str, Iterable[tuple[Recording, Labels | None]]]) -> None:
    """Write recordings of MICE7's skeleton in the official layout, one sequence in memory at a time.

    groups: annotator or behaviour -> recordings with labels. Numbers are rounded to 3 decimals; a missing point is
    written as 0, 0 with score 0, because the official tools know no missing value. The file appears under its name
    only when it is whole. Raises RecordingError for another skeleton, masked frames or labels of another length.
    """
    with replace_atomically(Path(path), sync=True) as part, part.open("w", encoding="ascii") as out:
        for g, (group, sequences) in enumerate(groups.items()):
            out.write(("{" if g == 0 else ", ") + json.dumps(group) + ": {")
            for s, (recording, labels) in enumerate(sequences):
                out.write((", " if s else "") + json.dumps(recording.name) + ": ")
                _write_sequence(out, recording, labels)
            out.write("}")
        out.write("}\n" if groups else "{}\n")


def _write_sequence(out: TextIO, recording: Recording, labels: Labels | None) -> None:
    if (recording.skeleton.animals, recording.skeleton.keypoints) != (MICE7.animals, MICE7.keypoints):
        raise RecordingError(recording.name, "CalMS21's layout holds two mice of seven keypoints; use Recording.select")
    points = np.nan_to_num(recording.keypoints.astype(np.float64), nan=0.0).round(3).transpose(0, 1, 3, 2)
    metadata: dict[str, Any] = {"fps": recording.fps}
    if recording.simulated:
        metadata["simulated"] = True
    plain: dict[str, Any] = {
        "keypoints": points.tolist(),
        "scores": recording.confidence.astype(np.float64).round(3).tolist(),
        "metadata": metadata,
    }
    if labels is not None:
        if labels.frames.shape != (len(recording),) or (labels.frames == IGNORE).any():
            problem = "CalMS21's layout needs a label for every frame, without masked ones; pass None for no labels"
            raise RecordingError(recording.name, problem)
        plain["annotations"] = labels.frames.tolist()
        metadata["vocab"] = {name: i for i, name in enumerate(labels.classes)}
    out.write(json.dumps(plain))


def _read_recordings(path: Path, *, fps: float | None, name: str | None) -> Iterator[Recording]:
    wants = None if name is None else lambda _, sequence: sequence == name
    yield from (sequence.recording for sequence in read_calms21(path, fps=fps, wants=wants))


# .npy is listed so that the reader can say why that form, a pickle, is never opened.
READER = PoseReader(
    "CalMS21 .json", (".json", ".npy"), lambda probe: True, _read_recordings, carries_rate=True, holds_several=True
)
