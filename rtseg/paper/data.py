"""What `--data` names (official files, simulated ones, any dataset file) as recordings in memory with their tasks.

Reads recordings once and stores them under --out, from where every training process reads them. Trains nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rtseg.bundle.architecture import heads_from_list, heads_to_list
from rtseg.config import PaperSettings
from rtseg.errors import RecordingError, SettingError
from rtseg.evaluation.evaluate import part_notes
from rtseg.frames.skeleton import Skeleton
from rtseg.paper.official import ARENA, OfficialFiles, dataset_toml, find_official
from rtseg.recordings.calms21_counts import count, differences
from rtseg.recordings.dataset import Dataset, load_dataset
from rtseg.recordings.heads import Head
from rtseg.recordings.recording import IGNORE
from rtseg.recordings.sources import Calms21Source, Item
from rtseg.simulate.files import DATASET_FILE
from rtseg.system.files import write_json_atomically
from rtseg.training.task import Example, example_of

N_TASKS = 3
SPLITS = ("train", "validation", "test")
Say = Callable[[str], None]
PARTS = ("training", "validation", "test")
"""What the recordings are used for; the validation part chooses the epoch, the test part is scored."""


@dataclass(frozen=True, eq=False)
class PaperData:
    """Recordings with what the tables need to know of them.

    kind: what --data was. arena: box x0, y0, x1, y1 in px. tasks: the paper's number -> head group. absent: the paper's
    number -> why there is no such task. training, validation (chooses the epoch), test (is scored). notes: what a
    reader of the tables must know.
    """

    name: str
    kind: str
    simulated: bool
    skeleton: Skeleton
    fps: float
    arena: tuple[float, float, float, float]
    heads: tuple[Head, ...]
    tasks: Mapping[int, str]
    absent: Mapping[int, str]
    training: list[Example]
    validation: list[Example]
    test: list[Example]
    notes: tuple[str, ...] = field(default=())

    def heads_of(self, tasks: Sequence[int]) -> tuple[Head, ...]:
        """The heads of these tasks, in the dataset's order."""
        groups = {self.tasks[task] for task in tasks}
        return tuple(head for head in self.heads if head.group in groups)

    def n_training(self, task: int) -> int:
        """How many training recordings label a head of the task."""
        columns = [i for i, head in enumerate(self.heads) if head.group == self.tasks[task]]
        return sum(bool((e.labels[:, columns] != IGNORE).any()) for e in self.training)

    def fingerprint(self) -> str:
        """A hash of everything here on which a training's result depends."""
        digest = hashlib.sha256(repr((self.skeleton, self.fps, self.arena, self.heads)).encode())
        for part in PARTS:
            for example in getattr(self, part):
                digest.update(f"{part} {example.name}".encode())
                for array in (example.keypoints, example.confidence, example.labels):
                    digest.update(np.ascontiguousarray(array).data)
                if example.absent is not None and example.absent.any():
                    digest.update(example.absent.tobytes())
        return digest.hexdigest()

    def summary(self) -> dict[str, Any]:
        """Plain values, for the report."""
        return {
            "name": self.name,
            "kind": self.kind,
            "simulated": self.simulated,
            "fps": self.fps,
            "arena": list(self.arena),
            "tasks": {str(task): group for task, group in self.tasks.items()},
            "absent": {str(task): why for task, why in self.absent.items()},
            "recordings": {part: [e.name for e in getattr(self, part)] for part in PARTS},
            "frames": {part: sum(map(len, getattr(self, part))) for part in PARTS},
            "notes": list(self.notes),
        }


def open_data(
    path: Path,
    folder: Path,
    settings: PaperSettings,
    *,
    root: Path | None = None,
    arena: tuple[float, float, float, float] | None = None,
    allow_other_counts: bool = False,
    say: Say = lambda _: None,
) -> PaperData:
    """Read what --data names: a folder of CalMS21's official files, one that `rtseg simulate` wrote, or a dataset file.

    folder: where the dataset file for official files is written. root: as for `load_dataset`. arena: None = the video
    frame for CalMS21's layout, else the box of the training recordings' points. allow_other_counts: official files
    that are not what was published are noted and used. Raises RecordingError where they are not and it is False.
    """
    kind, file, official = _find_dataset(path, folder)
    dataset = load_dataset(file, root)
    items = {split: _read(dataset, split, say) for split in dataset.splits if split in SPLITS}
    notes = [] if official is None else _counted(official, dataset, items, allow_other_counts)
    tasks, absent = _tasks(dataset, official)
    parts, split_notes = _parts(dataset, items, settings)
    tasks, unlabelled = _labelled_tasks(tasks, dataset.heads, parts)
    absent |= unlabelled
    if not tasks:
        raise SettingError(f"{path}: no task can be trained: {'; '.join(absent.values())}")
    notes += [*split_notes, *part_notes(dataset, ["test" if "test" in items else "validation"])]
    if arena is None and all(isinstance(source, Calms21Source) for source in dataset.sources):
        arena = ARENA
    if arena is None:
        arena = _box(parts["training"])
        notes.append(f"arena: the box of the training recordings' points, {', '.join(f'{v:g}' for v in arena)} px")
    return PaperData(
        name=dataset.name,
        kind="simulated recordings" if dataset.simulated else kind,
        simulated=dataset.simulated,
        skeleton=dataset.skeleton,
        fps=dataset.fps,
        arena=arena,
        heads=dataset.heads,
        tasks=tasks,
        absent=dict(sorted(absent.items())),
        training=parts["training"],
        validation=parts["validation"],
        test=parts["test"],
        notes=tuple(notes),
    )


def _find_dataset(path: Path, folder: Path) -> tuple[str, Path, OfficialFiles | None]:
    """What kind of data a path holds, its dataset file, and CalMS21's official files where it holds those.

    The dataset file for official files is written into `folder`.
    """
    if path.is_file():
        return "a dataset file", path, None
    if not path.is_dir():
        raise SettingError(f"{path}: no such file or folder; --data takes CalMS21's folder or a dataset file (.toml)")
    if (path / DATASET_FILE).is_file():
        return "a folder with a dataset file", path / DATASET_FILE, None
    official, file = find_official(path), folder / "calms21.dataset.toml"
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(dataset_toml(official), encoding="utf-8")
    return "CalMS21's official files", file, official


def _labelled_tasks(
    tasks: Mapping[int, str], heads: Sequence[Head], parts: Mapping[str, list[Example]]
) -> tuple[dict[int, str], dict[int, str]]:
    """The tasks that every part of the recordings labels, and why the others cannot be trained or scored."""
    absent: dict[int, str] = {}
    for task, group in tasks.items():
        columns = [i for i, head in enumerate(heads) if head.group == group]
        for part, examples in parts.items():
            if not any((e.labels[:, columns] != IGNORE).any() for e in examples):
                absent[task] = f"no {part} recording carries a label of {group}"
                break
    return {task: group for task, group in tasks.items() if task not in absent}, absent


def save_data(data: PaperData, folder: Path) -> None:
    """Store the recordings where the training processes find them; nothing is written if they are there already."""
    fingerprint = data.fingerprint()
    summary_file = folder / "data.json"
    if summary_file.is_file() and json.loads(summary_file.read_text(encoding="utf-8"))["fingerprint"] == fingerprint:
        return
    folder.mkdir(parents=True, exist_ok=True)
    # Without it the folder holds nothing: arrays of two data sets must not be read together after a kill.
    summary_file.unlink(missing_ok=True)
    for part in PARTS:
        arrays = {}
        for i, example in enumerate(getattr(data, part)):
            arrays[f"{i}.keypoints"] = example.keypoints
            arrays[f"{i}.confidence"] = example.confidence
            arrays[f"{i}.labels"] = example.labels
            if example.absent is not None:
                arrays[f"{i}.absent"] = example.absent
        np.savez(folder / f"{part}.npz", **arrays)
    plain = {
        **data.summary(),
        "fingerprint": fingerprint,
        "skeleton": data.skeleton.to_dict(),
        "heads": heads_to_list(data.heads),
    }
    # Last: where this file exists, the arrays beside it are whole.
    write_json_atomically(summary_file, plain)


def load_data(folder: Path) -> PaperData:
    """What `save_data` stored."""
    plain = json.loads((folder / "data.json").read_text(encoding="utf-8"))
    parts: dict[str, list[Example]] = {}
    for part in PARTS:
        with np.load(folder / f"{part}.npz") as arrays:
            parts[part] = [
                Example(
                    name,
                    arrays[f"{i}.keypoints"],
                    arrays[f"{i}.confidence"],
                    arrays[f"{i}.labels"],
                    arrays.get(f"{i}.absent"),
                )
                for i, name in enumerate(plain["recordings"][part])
            ]
    x0, y0, x1, y1 = plain["arena"]
    return PaperData(
        name=plain["name"],
        kind=plain["kind"],
        simulated=plain["simulated"],
        skeleton=Skeleton.from_dict({k: v for k, v in plain["skeleton"].items() if v is not None}),
        fps=plain["fps"],
        arena=(x0, y0, x1, y1),
        heads=heads_from_list(plain["heads"]),
        tasks={int(task): group for task, group in plain["tasks"].items()},
        absent={int(task): why for task, why in plain["absent"].items()},
        notes=tuple(plain["notes"]),
        **parts,
    )


def beginning(examples: Sequence[Example], n_frames: int) -> Example:
    """The first frames of the longest recording, for timing."""
    e = max(examples, key=len)
    absent = None if e.absent is None else e.absent[:n_frames]
    return Example(e.name, e.keypoints[:n_frames], e.confidence[:n_frames], e.labels[:n_frames], absent)


def hold_out(examples: Sequence[Example], share: float, seed: int) -> list[int]:
    """Which recordings are held out of training, rising: about `share` of those that label the same heads.

    At least one of every kind that has two; a kind of one recording stays in training. The same seed and recordings
    give the same choice.
    """
    # By kind, so that no annotator or behaviour loses all its training recordings.
    kinds: dict[bytes, list[int]] = {}
    for i, example in enumerate(examples):
        kinds.setdefault((example.labels != IGNORE).any(axis=0).tobytes(), []).append(i)
    rng = np.random.default_rng(seed)
    held: list[int] = []
    for members in kinds.values():
        n = min(max(1, round(share * len(members))), len(members) - 1)
        held += [members[i] for i in rng.permutation(len(members))[:n]]
    return sorted(held)


def _read(dataset: Dataset, split: str, say: Say) -> list[Item]:
    items = []
    for item in dataset.items(split):
        say(f"reading {split}: {item.recording.name}")
        items.append(item)
    dataset.warnings.tell(say)
    return items


def _parts(
    dataset: Dataset, items: Mapping[str, list[Item]], settings: PaperSettings
) -> tuple[dict[str, list[Example]], list[str]]:
    """Training, validation and test recordings, and what was done to have all three."""
    if "train" not in items or len(items) == 1:
        raise SettingError(
            f"dataset {dataset.name!r} has the splits {', '.join(dataset.splits)}; the tables need 'train', and 'test' "
            "or 'validation' to be scored"
        )
    examples = {
        split: [example_of(i.recording, {n: t.frames for n, t in i.labels.items()}, dataset.heads) for i in some]
        for split, some in items.items()
    }
    if len(examples) == 3:
        return dict(zip(PARTS, (examples[split] for split in SPLITS), strict=True)), []
    scored = "test" if "test" in examples else "validation"
    # Never from the test part: it must not choose the epoch.
    held = set(hold_out(examples["train"], settings.validation_share, settings.split_seed))
    note = (
        f"scored: the split {scored!r}. There is no third split, so {len(held)} of the {len(examples['train'])} "
        f"training recordings were held out (seed {settings.split_seed}) and chose the epoch; the scored ones chose "
        "nothing"
    )
    parts = {
        "training": [e for i, e in enumerate(examples["train"]) if i not in held],
        "validation": [e for i, e in enumerate(examples["train"]) if i in held],
        "test": examples[scored],
    }
    return parts, [note]


def _tasks(dataset: Dataset, official: OfficialFiles | None) -> tuple[dict[int, str], dict[int, str]]:
    """The paper's task numbers -> head groups, and why others are absent: by their names, or else by their order."""
    groups = list(dict.fromkeys(head.group for head in dataset.heads))
    numbered = {f"task{n}": n for n in range(1, N_TASKS + 1)}
    # A dataset of other animals names its groups as it likes; then their order decides.
    if set(groups) <= set(numbered):
        tasks = {numbered[group]: group for group in groups}
    else:
        tasks = dict(enumerate(groups[:N_TASKS], 1))
    known = f"dataset {dataset.name!r} has the head groups {', '.join(groups)}"
    absent = {n: known for n in range(1, N_TASKS + 1) if n not in tasks}
    if official is not None:
        absent |= official.absent
    return dict(sorted(tasks.items())), absent


def _counted(
    official: OfficialFiles, dataset: Dataset, items: Mapping[str, list[Item]], allow_other_counts: bool
) -> list[str]:
    """Notes about the official counts. Raises RecordingError where they differ and that was not allowed."""
    if dataset.simulated:
        return ["the files are simulated, and not compared with CalMS21's official counts"]
    wrong = []
    for task in official.tasks:
        heads = [head.name for head in dataset.heads if head.group == f"task{task}"]
        for split, some in items.items():
            tracks = [i.labels[h] for i in some for h in heads if (i.labels[h].frames != IGNORE).any()]
            wrong += differences(task, split, count(tracks))
    if not wrong:
        return ["the files agree with CalMS21's official counts"]
    if not allow_other_counts:
        listed = "\n  ".join(wrong)
        raise RecordingError(
            official.folder, f"is not what CalMS21 published; get it again, or pass --allow-other-counts:\n  {listed}"
        )
    return [f"not what CalMS21 published: {w}" for w in wrong]


def _box(examples: Sequence[Example]) -> tuple[float, float, float, float]:
    """The box of the training recordings' points, without one in a thousand at every side: trackers have outliers."""
    points = np.concatenate([e.keypoints.reshape(-1, 2) for e in examples])[:: max(1, len(examples))]
    low, high = np.nanpercentile(points, (0.1, 99.9), axis=0)
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])
