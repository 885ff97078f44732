"""Out-of-fold answers of one system as one file (docs/leaderboard.md): written by cross-validation, read to be scored.

The file holds answers and what they were trained on, and no label: labels are read from the data set whenever answers
are scored, and `check_out_of_fold` holds the file to that data set. No torch, no pickle (safetensors).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from rtseg.errors import SettingError
from rtseg.frames.skeleton import Skeleton
from rtseg.recordings.heads import Head, output_offsets
from rtseg.system.files import replace_atomically

F32 = NDArray[np.float32]
FORMAT, VERSION = "rtseg out-of-fold answers", 1
KEY = "rtseg"
"""Of the header's metadata; its value is a JSON text."""
ROUNDING = 1e-6
"""By so much a probability may exceed 1, as float32 rounds."""
SUM_ROUNDING = 1e-3
"""By so much the probabilities of a head may miss 1 in sum."""


class LabelledPoses(Protocol):
    """What identifies a recording: keypoints (T, A, K, 2), confidence (T, A, K), labels (T, H); absent as Recording."""

    @property
    def name(self) -> str: ...
    @property
    def keypoints(self) -> F32: ...
    @property
    def confidence(self) -> F32: ...
    @property
    def labels(self) -> NDArray[np.int16]: ...
    @property
    def absent(self) -> NDArray[np.bool_] | None: ...


class RecordingIdentity(NamedTuple):
    """n_frames, and a hash of everything that training and scoring read of a recording."""

    n_frames: int
    hash: str


@dataclass(frozen=True, eq=False)
class DataIdentity:
    """What a file of answers is held to: the data set as it is read now. recordings: by name."""

    name: str
    skeleton: Skeleton
    fps: float
    heads: tuple[Head, ...]
    recordings: Mapping[str, RecordingIdentity]

    @cached_property
    def hash(self) -> str:
        """Of skeleton, rate, heads and all recordings, whatever their order."""
        # Frozen dataclasses and numbers, whose repr says everything.
        parts = (self.skeleton, float(self.fps), self.heads, sorted(self.recordings.items()))
        return hashlib.sha256(repr(parts).encode()).hexdigest()


def identify(
    name: str, skeleton: Skeleton, fps: float, heads: tuple[Head, ...], recordings: Iterable[LabelledPoses]
) -> DataIdentity:
    """The identity of some recordings of a data set, whose names differ. Reads every number of them once."""
    found = {one.name: RecordingIdentity(len(one.keypoints), _recording_hash(one)) for one in recordings}
    return DataIdentity(name, skeleton, fps, heads, found)


class Fold(NamedTuple):
    """The recordings that a fold's trainings were fitted on, and those that chose their checkpoint."""

    trained_on: tuple[str, ...]
    chosen_by: tuple[str, ...]


class TrainingCost(NamedTuple):
    """One training's place, its seconds, and the multiply-adds that its network takes for a frame (0 for trees).

    cpu_seconds: the processor's, which other load does not lengthen; None where nobody measured them.
    """

    seed: int
    fold: int
    seconds: float
    multiply_adds: int
    cpu_seconds: float | None = None


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """The answers of one system to every recording of a data set, each by a fold that never saw it.

    system: its name. recipe: a hash of all its settings. settings: the recipe as the folds were trained by it, plain
    (`config.to_plain`); None in older files. causal, lookahead_frames: whether it sees the future, and by
    how many frames its answers are late. dataset, dataset_hash: of DataIdentity. columns: head.class of every
    probability. folds: what each was trained on. fold_of: recording -> fold. held: recording -> rows that the system
    did not answer (`hold_unanswered`), the most of any seed. costs: of every training. frames: recording -> (T,) int64,
    numbers of the rows, counted from 0. probabilities: for each seed recording -> (T, P) float32.
    """

    system: str
    recipe: str
    causal: bool
    lookahead_frames: int
    dataset: str
    dataset_hash: str
    columns: tuple[str, ...]
    seeds: tuple[int, ...]
    folds: tuple[Fold, ...]
    fold_of: Mapping[str, int]
    hashes: Mapping[str, str]
    held: Mapping[str, int]
    costs: tuple[TrainingCost, ...]
    frames: Mapping[str, NDArray[np.int64]]
    probabilities: tuple[Mapping[str, F32], ...]
    settings: Mapping[str, Any] | None = None


def hold_unanswered(probs: F32, heads: Sequence[Head]) -> tuple[F32, int]:
    """(T, P) without NaN, and how many rows were never answered: each takes the last answer before it.

    Rows before the first answer take equal chances for all classes of a head. A delay leaves the last rows without an
    answer, a gap those behind it: a file that left such rows out could leave out hard ones as well.
    """
    answered = ~np.isnan(probs).any(axis=1)
    last = np.maximum.accumulate(np.where(answered, np.arange(len(probs)), -1))
    chance = np.concatenate([np.full(len(head.classes), 1 / len(head.classes), np.float32) for head in heads])
    whole = np.where((last >= 0)[:, None], probs[last], chance)
    return np.ascontiguousarray(whole, np.float32), int((~answered).sum())


def write_out_of_fold(answers: OutOfFold, path: Path) -> None:
    """Write the file by a rename. Raises OSError."""
    from safetensors.numpy import save

    tensors = _tensors(answers)
    about = {
        "format": FORMAT,
        "version": VERSION,
        **{name: getattr(answers, name) for name in _TEXTS},
        "settings": answers.settings,
        "folds": [fold._asdict() for fold in answers.folds],
        "costs": [cost._asdict() for cost in answers.costs],
        "recordings": {
            name: {"fold": fold, "hash": answers.hashes[name], "held": answers.held[name]}
            for name, fold in sorted(answers.fold_of.items())
        },
    }
    about["sha256"] = _seal(about, tensors)
    with replace_atomically(path) as part:
        part.write_bytes(save(tensors, {KEY: json.dumps(about)}))


def read_out_of_fold(path: Path) -> OutOfFold:
    """What `write_out_of_fold` wrote. Raises SettingError for any other file, and one that was changed since."""
    from safetensors import SafetensorError, safe_open
    from safetensors.numpy import load_file

    try:
        with safe_open(path, "np") as file:
            about = json.loads((file.metadata() or {})[KEY])
        tensors = load_file(path)
        if (about["format"], about["version"]) != (FORMAT, VERSION):
            raise ValueError(f"format {about['format']!r}, version {about['version']!r}")
        sealed = _seal({name: value for name, value in about.items() if name != "sha256"}, tensors) == about["sha256"]
        answers = _answers(about, tensors)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SettingError(
            f"{path}: expected out-of-fold answers, version {VERSION}, as 'rtseg crossvalidate' writes them: {error!r}"
        ) from None
    if not sealed:
        raise SettingError(f"{path}: changed since it was written: its sha256 differs. Run 'rtseg crossvalidate' again")
    return answers


def check_out_of_fold(answers: OutOfFold, data: DataIdentity, where: Path) -> None:
    """Raise SettingError unless the answers are to all of `data`, each recording's by a fold that never saw it.

    where: the file, for the error. What a file says of its folds is believed: docs/leaderboard.md has what that leaves.
    """
    for problem in _problems(answers, data):
        raise SettingError(f"{where}: {problem}. Run 'rtseg crossvalidate' again on the data set as it is now")


def _problems(answers: OutOfFold, data: DataIdentity) -> Iterable[str]:
    """Sentences, the most telling one first."""
    expected = tuple(f"{head.name}.{name}" for head in data.heads for name in head.classes)
    if answers.columns != expected:
        yield f"expected the columns {', '.join(expected)}, got {', '.join(answers.columns)}"
    yield from _cover_problems(answers, data)
    for name, identity in data.recordings.items():
        if answers.hashes[name] != identity.hash:
            yield f"{name}: its poses or labels are others now than those that were cross-validated"
    if answers.dataset_hash != data.hash:
        yield f"data set {data.name!r}: expected hash {data.hash[:16]}, got {answers.dataset_hash[:16]}"
    yield from _fold_problems(answers, data)
    for name, identity in data.recordings.items():
        if not np.array_equal(answers.frames[name], np.arange(identity.n_frames)):
            yield f"{name}: expected the frames 0 to {identity.n_frames - 1}, each once and in order"
        for by_name in answers.probabilities:
            yield from (f"{name}: {problem}" for problem in _probability_problems(by_name[name], identity, data.heads))


def _cover_problems(answers: OutOfFold, data: DataIdentity) -> Iterable[str]:
    ours, theirs = set(data.recordings), set(answers.fold_of)
    for names, what in ((ours - theirs, "no answers to"), (theirs - ours, "answers to what the data set has not")):
        if names:
            yield f"expected answers to every recording once, got {what}: {', '.join(sorted(names))}"
    if not answers.seeds or len(set(answers.seeds)) != len(answers.seeds):
        yield f"expected one or more different seeds, got {answers.seeds}"
    if len(answers.probabilities) != len(answers.seeds):
        yield f"expected answers of {len(answers.seeds)} seeds, got those of {len(answers.probabilities)}"
    held = {(seed, name) for seed, by_name in enumerate(answers.probabilities) for name in by_name}
    if held != {(seed, name) for seed in range(len(answers.seeds)) for name in theirs} or set(answers.frames) != theirs:
        yield "expected frames and, for every seed, answers of each recording that it names, and of no other"


def _fold_problems(answers: OutOfFold, data: DataIdentity) -> Iterable[str]:
    numbers = range(len(answers.folds))
    if len(numbers) < 2 or set(answers.fold_of.values()) != set(numbers):
        yield f"expected two folds or more, each with recordings, got {sorted(set(answers.fold_of.values()))}"
    if sorted((cost.seed, cost.fold) for cost in answers.costs) != [
        (seed, fold) for seed in sorted(answers.seeds) for fold in numbers
    ]:
        yield "expected one training for every seed and fold"
    known = set(data.recordings)
    for number, fold in enumerate(answers.folds):
        seen = {*fold.trained_on, *fold.chosen_by}
        if not fold.trained_on or not seen <= known:
            yield f"fold {number}: expected training recordings of the data set, got {', '.join(sorted(seen - known))}"
        inside = sorted(name for name in seen if answers.fold_of.get(name) == number)
        if inside:
            yield f"fold {number} answers what it was trained on or chosen by: {', '.join(inside)}"


def _probability_problems(probs: F32, identity: RecordingIdentity, heads: Sequence[Head]) -> Iterable[str]:
    offsets = output_offsets(heads)
    if probs.shape != (identity.n_frames, offsets[-1]) or probs.dtype != np.float32:
        yield f"expected ({identity.n_frames}, {offsets[-1]}) float32, got {probs.shape} {probs.dtype}"
        return
    wrong = ~((probs >= 0) & (probs <= 1 + ROUNDING))  # also of NaN
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        yield f"frame {row}, column {column}: expected a probability in [0, 1], got {probs[row, column]}"
    for head, start, stop in zip(heads, offsets, offsets[1:], strict=False):
        total = probs[:, start:stop].sum(axis=1, dtype=np.float64)
        if len(bad := np.flatnonzero(~(np.abs(total - 1) <= SUM_ROUNDING))):
            yield f"frame {bad[0]}, head {head.name!r}: expected probabilities that add up to 1, got {total[bad[0]]:g}"


_TEXTS = ("system", "recipe", "causal", "lookahead_frames", "dataset", "dataset_hash", "columns", "seeds")
"""Fields that stand in the header as they are."""


def _tensors(answers: OutOfFold) -> dict[str, NDArray[Any]]:
    frames = {f"frames/{name}": values for name, values in answers.frames.items()}
    return frames | {
        f"probabilities/{number}/{name}": values
        for number, by_name in enumerate(answers.probabilities)
        for name, values in by_name.items()
    }


def _answers(about: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> OutOfFold:
    """Raises KeyError, TypeError, ValueError or AttributeError for what is none."""
    recordings, seeds = about["recordings"], tuple(map(int, about["seeds"]))
    probabilities: tuple[dict[str, F32], ...] = tuple({} for _ in seeds)
    frames = {}
    for key, values in tensors.items():
        kind, _, rest = key.partition("/")
        if kind == "frames":
            frames[rest] = values
            continue
        number, _, name = rest.partition("/")
        if kind != "probabilities" or int(number) not in range(len(seeds)):
            raise ValueError(f"a tensor called {key!r}")
        probabilities[int(number)][name] = values
    return OutOfFold(
        system=str(about["system"]),
        recipe=str(about["recipe"]),
        causal=bool(about["causal"]),
        lookahead_frames=int(about["lookahead_frames"]),
        dataset=str(about["dataset"]),
        dataset_hash=str(about["dataset_hash"]),
        columns=tuple(map(str, about["columns"])),
        seeds=seeds,
        folds=tuple(Fold(*(tuple(map(str, fold[key])) for key in Fold._fields)) for fold in about["folds"]),
        fold_of={name: int(one["fold"]) for name, one in recordings.items()},
        hashes={name: str(one["hash"]) for name, one in recordings.items()},
        held={name: int(one["held"]) for name, one in recordings.items()},
        costs=tuple(
            TrainingCost(
                int(one["seed"]),
                int(one["fold"]),
                float(one["seconds"]),
                int(one["multiply_adds"]),
                # Files of the first version 1 do not have it.
                None if one.get("cpu_seconds") is None else float(one["cpu_seconds"]),
            )
            for one in about["costs"]
        ),
        frames=frames,
        probabilities=probabilities,
        # Files of the first version 1 do not have them.
        settings=None if about.get("settings") is None else dict(about["settings"]),
    )


def _seal(about: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> str:
    """A hash of the header and all arrays: finds damage and careless changes, not a forger, who can compute it too."""
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name, values in sorted(tensors.items()):
        digest.update(f"{name} {values.dtype} {values.shape}".encode())
        digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()


def _recording_hash(one: LabelledPoses) -> str:
    digest = hashlib.sha256(repr((one.name, one.keypoints.shape, one.labels.shape)).encode())
    for values in (one.keypoints, one.confidence):
        # NaN has many bit patterns, and -0.0 equals 0.0: equal poses have equal hashes.
        digest.update(np.where(np.isnan(values), np.float32(np.nan), values + np.float32(0)).tobytes())
    digest.update(np.ascontiguousarray(one.labels, np.int16).data)
    absent = np.zeros(len(one.keypoints), np.bool_) if one.absent is None else one.absent
    digest.update(np.ascontiguousarray(absent).data)
    return digest.hexdigest()
