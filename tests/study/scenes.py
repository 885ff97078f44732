"""A small data set on disk (simulated mice, CalMS21's layout) and recipes that train on it in a moment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rtseg.recordings.calms21 import write_calms21
from rtseg.recordings.recording import Labels, Recording
from rtseg.simulate.tasks import simulate_sequence
from tests.live import write_gapped_poses

DATASET = """
name = "two mice"
simulated = true
fps = 30
[skeleton]
animals = ["resident", "intruder"]
keypoints = ["nose", "left_ear", "right_ear", "neck", "left_hip", "right_hip", "tail_base"]
[heads.task1]
classes = ["attack", "investigation", "mount", "other"]
scored = ["attack", "investigation", "mount"]
[[calms21]]
file = "train.json"
split = "train"
heads = "task1"
[[calms21]]
file = "validation.json"
split = "validation"
heads = "task1"
"""
RECIPE = """
name = "tiny"
dataset = "dataset.toml"
arena = [0.0, 0.0, 1024.0, 570.0]
[features]
groups = ["between_distance", "speed", "approach"]
[model]
channels = 4
layers = 2
head_channels = 4
head_layers = 1
[train]
epochs = 2
batch = 2
crop_frames = 200
warmup_frames = 50
warmup_steps = 2
learning_rate = 0.01
evaluate_every = 1
threads = 1
bfloat16 = false
[boosting]
trees = 5
frames = 500
windows_s = [0.5]
"""
N_FRAMES = 300
Pairs = list[tuple[Recording, Labels]]


def pairs(split: str, seeds: range) -> Pairs:
    """Sequences of one split, calm and aggressive in turn."""
    return [simulate_sequence(s, N_FRAMES, name=f"{split}/{s:02d}", aggressive=s % 2 == 0) for s in seeds]


def write_dataset(folder: Path, n_train: int = 5, n_validation: int = 3) -> Path:
    """Write recordings, dataset.toml and tiny.toml into a folder; the recipe's path."""
    folder.mkdir(parents=True, exist_ok=True)
    splits = {"train": range(n_train), "validation": range(n_train, n_train + n_validation)}
    for split, seeds in splits.items():
        write_calms21(folder / f"{split}.json", {"annotator-id_0": pairs(split, seeds)})
    (folder / "dataset.toml").write_text(DATASET)
    (folder / "tiny.toml").write_text(RECIPE)
    return folder / "tiny.toml"


def write_parts(folder: Path) -> Path:
    """A dataset of one video whose halves are trained on and held out in two parts each; the recipe's path."""
    recording, labels = simulate_sequence(2, 4 * N_FRAMES, name="v", aggressive=True)
    write_gapped_poses(recording, folder / "v.poses.csv")
    rows = [f"{t},{labels.classes[label]}" for t, label in enumerate(labels.frames)]
    (folder / "v.labels.csv").write_text("\n".join(["frame,task1", *rows]) + "\n")
    parts = "".join(
        f'[[parts]]\nid = "v-{i}"\nrecording = "v"\nfrom_frame = {i * N_FRAMES}\nto_frame = {(i + 1) * N_FRAMES}\n'
        for i in range(4)
    )
    source = '[[recordings]]\nposes = "{id}.poses.csv"\nlabels = "{id}.labels.csv"\nids = ["v"]\n'
    split = '[split]\ntrain = ["v-0", "v-1"]\nvalidation = ["v-2", "v-3"]\n'
    (folder / "dataset.toml").write_text(DATASET.split("[[calms21]]")[0] + source + parts + split)
    (folder / "tiny.toml").write_text(RECIPE)
    return folder / "tiny.toml"


def read_json(path: Path) -> dict[str, Any]:
    """A result as it stands on disk."""
    plain: dict[str, Any] = json.loads(path.read_text())
    return plain
