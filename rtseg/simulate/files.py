"""A simulated data set on disk: CalMS21's JSON files and the dataset file that `rtseg train` reads.

The JSON is written by `recordings.calms21`, one sequence in memory at a time.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path

from rtseg.errors import SettingError
from rtseg.frames.skeleton import MICE7
from rtseg.recordings.calms21 import calms21_file_name, write_calms21
from rtseg.recordings.recording import Labels, Recording
from rtseg.simulate.annotators import ANNOTATORS, TASK3_BEHAVIOURS
from rtseg.simulate.behaviour import TASK1_CLASSES
from rtseg.simulate.body import FPS
from rtseg.simulate.tasks import GROUPS, simulate_group

DATASET_FILE = "dataset.toml"
TASKS = (1, 2, 3)
SPLITS = ("train", "validation", "test")
"""CalMS21 has no validation file; here training chooses its checkpoint on recordings that are not in the test split."""
HELD_OUT_SHARE = 0.3
"""Validation and test hold this many sequences for each training sequence, and one for each group at least."""
MIN_MINUTES, MAX_MINUTES = 0.2, 1440

Progress = Callable[[int, int], None]
"""Called with (sequences done, sequences in all) after each sequence, and once before the first."""


def simulate_dataset(
    out_dir: Path | str,
    *,
    seed: int = 0,
    sequences: tuple[int, int, int] = (20, 10, 7),
    minutes: float = 3.0,
    progress: Progress | None = None,
) -> Path:
    """Write calms21_task{1,2,3}_{train,validation,test}.json and dataset.toml into a folder; the path of the latter.

    sequences: training sequences of Task 1, of Task 2 (one for each of five annotators at least) and of Task 3 (one
    for each of seven behaviours at least). minutes: length of every sequence. Raises SettingError for too few or too
    short ones. The same arguments give the same bytes; a file is there only when it is whole.
    """
    _check(sequences, minutes, seed)
    folder = Path(out_dir)
    folder.mkdir(parents=True, exist_ok=True)
    plan = [
        (task, split, n)
        for task, n_train in zip(TASKS, sequences, strict=True)
        for split in SPLITS
        for n in [n_train if split == "train" else n_held_out(task, n_train)]
    ]
    total = sum(n for _, _, n in plan)
    done = 0
    if progress:
        progress(0, total)

    def counted(task: int, split: str, group: str, n: int) -> Iterator[tuple[Recording, Labels]]:
        nonlocal done
        for pair in simulate_group(task, split, group, n, seed=seed, minutes=minutes):
            yield pair
            done += 1
            if progress:
                progress(done, total)

    for task, split, n in plan:
        groups = {group: counted(task, split, group, n) for group in GROUPS[task]}
        write_calms21(folder / calms21_file_name(task, split), groups)
    path = folder / DATASET_FILE  # written last: where it exists, every file that it names exists
    path.write_text(dataset_toml(seed), encoding="utf-8")
    return path


def n_held_out(task: int, n_train: int) -> int:
    """The number of validation or test sequences beside `n_train` training sequences."""
    return max(len(GROUPS[task]), math.ceil(HELD_OUT_SHARE * n_train))


def dataset_toml(seed: int) -> str:
    """The dataset file for the JSON files beside it (`recordings.dataset` documents its form)."""
    scored = [name for name in TASK1_CLASSES if name != "other"]
    skeleton = {key: value for key, value in MICE7.to_dict().items() if value is not None}
    lines = [
        f"# Simulated mice, not real ones: rtseg simulate --seed {seed}",
        'name = "mice-sim"',
        "simulated = true",
        f"fps = {FPS:g}",
        "",
        "[skeleton]",
        *(f"{key} = {json.dumps(value)}" for key, value in skeleton.items()),
        "",
        "[heads.task1]",
        f"classes = {json.dumps(TASK1_CLASSES)}",
        f"scored = {json.dumps(scored)}",
        "",
        "[heads.task2]",
        f"each = {json.dumps([annotator.name for annotator in ANNOTATORS])}",
        f"classes = {json.dumps(TASK1_CLASSES)}",
        f"scored = {json.dumps(scored)}",
        "",
        "[heads.task3]",
        f"each = {json.dumps(list(TASK3_BEHAVIOURS))}",
        'classes = ["other", "{each}"]',
        'scored = ["{each}"]',
    ]
    for split in SPLITS:
        for task in TASKS:
            heads = "task1" if task == 1 else "per-group"
            lines += ["", "[[calms21]]", f'file = "{calms21_file_name(task, split)}"', f'split = "{split}"']
            lines += [f'heads = "{heads}"']
    return "\n".join(lines) + "\n"


def _check(sequences: tuple[int, int, int], minutes: float, seed: int) -> None:
    needed = tuple(len(GROUPS[task]) for task in TASKS)
    if len(sequences) != len(TASKS) or any(n < least for n, least in zip(sequences, needed, strict=True)):
        raise SettingError(
            f"sequences: expected numbers for Tasks 1, 2 and 3 of at least {', '.join(map(str, needed))} "
            f"(one for each annotator and behaviour), got {', '.join(map(str, sequences))}"
        )
    # `not >=` refuses NaN as well.
    if not minutes >= MIN_MINUTES:
        raise SettingError(f"minutes: expected at least {MIN_MINUTES}, got {minutes}; bouts need time")
    if minutes > MAX_MINUTES:
        raise SettingError(f"minutes: expected at most {MAX_MINUTES}, got {minutes:g}; a sequence is held in memory")
    if seed < 0:
        raise SettingError(f"seed: expected a whole number from 0, got {seed}")
