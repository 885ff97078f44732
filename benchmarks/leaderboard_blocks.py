"""Out-of-fold answers to data sets of one video, whose recordings are blocks of its time (docs/leaderboard.md).

    nice python benchmarks/leaderboard_blocks.py --data ../shared/data --out FOLDER

For mice7, freezing and zebrafish2: what `rtseg init` writes for four fifths of the video (a recipe of trees with a
network's beside it where labels are few), and rtseg's gradient boosting on the network's features, by `rtseg
crossvalidate`; then the baselines on the same folds. Ten blocks hold as many labelled frames each; between two of them
as much is left out as `rtseg init` leaves out between training and held-out frames.
A run that was ended goes on; one with more seeds trains those only.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from baseline_answers import SYSTEMS, baseline, file_name
from travel_small import Scene, load_scene

from rtseg import config
from rtseg.config import CrossValidationSettings, Recipe
from rtseg.config.model import TREES
from rtseg.evaluation.out_of_fold import read_out_of_fold, write_out_of_fold
from rtseg.project.network import propose_sizes
from rtseg.project.split import MARGIN_S, TRAIN, Split
from rtseg.project.write import network_file, write_project
from rtseg.recordings.dataset import load_dataset
from rtseg.recordings.pairs import Part
from rtseg.study.crossvalidate import crossvalidate
from rtseg.study.trials import read_splits

DATA = ("mice7", "freezing", "zebrafish2")
BLOCKS, FOLDS = 10, 5
INIT = "init"
"""The system that `rtseg init` proposes; its recipe's file is called so."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the folders " + ", ".join(DATA))
    parser.add_argument("--out", type=Path, required=True, help="for OUT/DATA, its project, trainings and answers")
    parser.add_argument("--only", action="append", choices=DATA)
    parser.add_argument("--seeds", type=int, default=1, help="of the network and of rtseg's boosting")
    parser.add_argument("--projects", action="store_true", help="write the data set files, train nothing")
    options = parser.parse_args()
    for name in options.only or DATA:
        recipe = write_block_project(options.data / name, options.out / name)
        if not options.projects:
            answer_blocks(recipe, options.out / name, options.seeds)


def write_block_project(video: Path, out: Path) -> Path:
    """A dataset file whose recordings are blocks of the video's labelled stretch, and the recipe OUT/init.toml.

    Where that is of trees, the network's is OUT/init-network.toml. video: a folder of one video's files, which are
    copied. The same files give the same blocks.
    """
    scene = load_scene(video, out / "files")
    labelled_share = len(scene.labelled) / len(scene.whole)
    sizes = propose_sizes(
        scene.dataset.skeleton,
        round(len(scene.labelled) * (FOLDS - 1) / FOLDS),
        labelled_share,
        scene.dataset.fps,
    )
    parts = block_parts(scene)
    split = Split(tuple(part.id for part in parts), (), tuple(parts))
    init = out / f"{INIT}.toml"
    for old in (out / f"{video.name}.dataset.toml", init, network_file(init)):
        old.unlink(missing_ok=True)
    _, recipe = write_project(replace(scene.project, split=split, sizes=sizes), out)
    if network_file(recipe).is_file():
        network_file(recipe).rename(network_file(init))
    return recipe.rename(init)


def block_parts(scene: Scene) -> list[Part]:
    """BLOCKS parts of the labelled stretch with a margin between each two; one without any label is said and left out.

    Raises SystemExit where fewer are left than there are folds.
    """
    begin = min(part.from_frame for part in scene.project.split.parts)
    ends = scene.cuts(BLOCKS, 0, len(scene.whole))
    margin = round(MARGIN_S * scene.dataset.fps)
    parts = []
    for number, (start, stop) in enumerate(pairwise(ends)):
        first = start + (margin - margin // 2 if number else 0)
        last = stop - (margin // 2 if number < BLOCKS - 1 else 0)
        inside = np.count_nonzero((scene.labelled >= first) & (scene.labelled < last))
        if inside:
            parts.append(Part(f"block-{number}", scene.project.split.parts[0].recording, begin + first, begin + last))
        else:
            print(f"block {number} holds no labelled frame but in its margins: left out", file=sys.stderr)
    if len(parts) < FOLDS:
        sys.exit(f"error: {scene.dataset.name}: {len(parts)} blocks with labels, too few for {FOLDS} folds")
    return parts


def answer_blocks(recipe_file: Path, out: Path, seeds: int, systems: Sequence[str] = SYSTEMS) -> None:
    """OUT/crossvalidate.SYSTEM.safetensors of `init`, its network, gradient boosting and the baselines."""
    network = recipe_file
    if network_file(recipe_file).is_file():
        network = network_file(recipe_file)
        settings = CrossValidationSettings(FOLDS, seeds, splits=(TRAIN,))
        crossvalidate(recipe_file, out, settings, runs=out / "runs", progress=print)
    epochs = config.load_settings(network, Recipe).train.epochs
    # A network's last epoch is taken, as `rtseg init` has it: nothing is chosen.
    settings = CrossValidationSettings(FOLDS, seeds, TREES, splits=(TRAIN,), fixed_epochs=epochs)
    crossvalidate(network, out, settings, runs=out / "runs", progress=lambda text: print(text, flush=True))
    (dataset_file,) = out.glob("*.dataset.toml")
    dataset = load_dataset(dataset_file)
    examples = sorted(read_splits(dataset, (TRAIN,)), key=lambda example: example.name)
    like = read_out_of_fold(out / f"crossvalidate.{INIT}.safetensors")
    for system in systems:
        print(f"{dataset.name}, {system}", flush=True)
        file = out / file_name(system)
        if not _is_about(file, like.dataset_hash):
            write_out_of_fold(baseline(system, dataset, examples, like), file)


def _is_about(file: Path, dataset_hash: str) -> bool:
    """Whether these answers are there already."""
    return file.is_file() and read_out_of_fold(file).dataset_hash == dataset_hash


if __name__ == "__main__":
    main()
