"""Small recordings for the comparison: official-looking files on disk, and a PaperData in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from rtseg.frames.skeleton import MICE7
from rtseg.paper.data import PaperData
from rtseg.recordings.calms21 import write_calms21
from rtseg.recordings.heads import Head
from rtseg.recordings.recording import IGNORE, Labels, Recording
from rtseg.simulate.tasks import simulate_sequence
from rtseg.training.task import Example

BEHAVIOURS = ("approach", "grooming")
ANNOTATORS = ("annotator-id_1", "annotator-id_2")
TASK1 = ("attack", "investigation", "mount", "other")
HEADS = (
    Head("task1", TASK1, TASK1[:3], "task1"),
    *(Head(name, TASK1, TASK1[:3], "task2") for name in ANNOTATORS),
    *(Head(name, ("other", name), (name,), "task3") for name in BEHAVIOURS),
)
ALL_HEADS = (
    HEADS[0],
    *(Head(f"annotator-id_{i}", TASK1, TASK1[:3], "task2") for i in range(1, 6)),
    *(
        Head(name, ("other", name), (name,), "task3")
        for name in ("approach", "disengaged", "groom", "intromission", "mount_attempt", "sniff_face", "whiterearing")
    ),
)
"""Those of the official files."""


def sequence(name: str, seed: int, n_frames: int, *, simulated: bool = False) -> tuple[Recording, Labels]:
    """A recording that says that it is real unless told otherwise, with all four classes somewhere."""
    recording, labels = simulate_sequence(seed, n_frames, name=name)
    frames = labels.frames.copy()
    frames[:8] = np.repeat(np.arange(4), 2)
    return replace(recording, simulated=simulated), replace(labels, frames=frames)


def write_official(
    folder: Path, tasks: Sequence[int] = (1, 2, 3), n_frames: int = 40, n: int = 3, *, simulated: bool = False
) -> Path:
    """Files of CalMS21's names and layout: n sequences of every group in each, far fewer than the official ones."""
    folder.mkdir(parents=True, exist_ok=True)
    groups = {1: ("annotator-id_0",), 2: ANNOTATORS, 3: BEHAVIOURS}
    for task in tasks:
        for split in ("train", "test"):
            pairs: dict[str, list[tuple[Recording, Labels | None]]] = {}
            for g, group in enumerate(groups[task]):
                for i in range(n):
                    name = f"task{task}/{split}/mouse{g}{i}"
                    recording, labels = sequence(name, 100 * task + 10 * g + i, n_frames, simulated=simulated)
                    if task == 3:
                        labels = Labels(group, ("other", group), (labels.frames == 1).astype(np.int16))
                    pairs.setdefault(group, []).append((recording, labels))
            write_calms21(folder / f"calms21_task{task}_{split}.json", pairs)
    return folder


def paper_data(tasks: Sequence[int] = (1, 2, 3), n_frames: int = 60) -> PaperData:
    """Four training recordings of Task 1 and one of every other head; one of every head for validation and test."""
    heads = tuple(h for h in HEADS if int(h.group[-1]) in tasks)

    def examples(part: str, seed: int, more: int = 0) -> list[Example]:
        found = []
        for column, head in [*enumerate(heads), *[(0, heads[0])] * more]:
            recording, labels = sequence(f"{part}{len(found)}", seed + len(found), n_frames)
            table = np.full((n_frames, len(heads)), IGNORE, np.int16)
            table[:, column] = labels.frames % len(head.classes)
            found.append(Example(recording.name, recording.keypoints, recording.confidence, table))
        return found

    return PaperData(
        name="mice-sim",
        kind="simulated recordings",
        simulated=True,
        skeleton=MICE7,
        fps=30.0,
        arena=(0.0, 0.0, 1024.0, 570.0),
        heads=heads,
        tasks={task: f"task{task}" for task in tasks},
        absent={task: "left out here" for task in (1, 2, 3) if task not in tasks},
        training=examples("training", 1, more=3),
        validation=examples("validation", 20),
        test=examples("test", 40),
        notes=("made for a test",),
    )
