"""Part `small` of travel.py: the recipe that `rtseg init` writes beside gradient boosting, on one short video each.

Two questions. `halves`: train on the first half of what is labelled, answer the second. `blocks`: five folds of blocks
of time, each answered by a training that did not see it. Intervals are over blocks of time in both.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from window_baseline import KINDS, fit_and_predict

from rtseg import config
from rtseg.config import Recipe
from rtseg.project.network import propose_sizes
from rtseg.project.proposal import Project, propose_project
from rtseg.project.questions import ProposalTaker, Wishes
from rtseg.project.split import MARGIN_S, Split
from rtseg.project.write import network_text, recipe_text, write_project
from rtseg.recordings.dataset import Dataset, load_dataset
from rtseg.recordings.pairs import Part
from rtseg.recordings.recording import IGNORE
from rtseg.study import compare
from rtseg.study.results import SCORE_COLUMNS, interval, number, score_row, table
from rtseg.study.trials import ProbabilitiesByName, read_splits, run_trial
from rtseg.training.task import Example, TrainingTask

ASKED = ("freezing:halves", "zebrafish2:halves", "zebrafish2:blocks")
BLOCKS, FOLDS = 10, 5
DEFAULT, NETWORK, TREES = "init", "network of init", "gradient boosting"
SYSTEMS = (DEFAULT, NETWORK, TREES, *KINDS)


@dataclass(frozen=True)
class Scene:
    """One video as `rtseg init` takes it, and all frames that it would use as one example."""

    project: Project
    dataset: Dataset
    whole: Example

    @property
    def labelled(self) -> Any:
        """(N,) frames with a label of any head."""
        return np.flatnonzero((self.whole.labels != IGNORE).any(axis=1))

    def cuts(self, n: int, start: int, stop: int) -> list[int]:
        """n + 1 frames from start to stop between which as many labelled frames lie."""
        inside = self.labelled[(self.labelled >= start) & (self.labelled < stop)]
        return [start, *(int(inside[len(inside) * i // n]) for i in range(1, n)), stop]

    def part(self, name: str, start: int, stop: int) -> Example:
        """Frames start <= t < stop."""
        return cut(self.whole, name, start, stop)


def cut(example: Example, name: str, start: int, stop: int) -> Example:
    """Frames start <= t < stop of an example."""
    absent = None if example.absent is None else example.absent[start:stop]
    here = slice(start, stop)
    return Example(name, example.keypoints[here], example.confidence[here], example.labels[here], absent)


def load_scene(folder: Path, work: Path) -> Scene:
    """A folder of one video's files, copied into `work`, where `rtseg init` would be called."""
    files = work / folder.name
    if not files.exists():
        files.mkdir(parents=True)
        for file in folder.glob("*.csv"):
            shutil.copy(file, files)
    project = propose_project([files], Wishes(name=folder.name), ProposalTaker(), lambda done, total: None)
    start = min(part.from_frame for part in project.split.parts)
    stop = max(part.to_frame or 0 for part in project.split.parts)
    middle, video = (start + stop) // 2, project.split.parts[0].recording
    halves = (Part("first", video, start, middle), Part("second", video, middle, stop))
    written = work / f"{folder.name}-project"
    shutil.rmtree(written, ignore_errors=True)
    files_of, _ = write_project(replace(project, split=Split(("first",), ("second",), halves)), written)
    dataset = load_dataset(files_of)
    first, second = read_splits(dataset, ("train", "validation"))
    return Scene(project, dataset, joined(first, second))


def joined(first: Example, second: Example) -> Example:
    """Two examples, the second of which follows the first."""
    both = (first, second)
    absent = [np.zeros(len(e), np.bool_) if e.absent is None else e.absent for e in both]
    return Example(
        "whole",
        np.concatenate([e.keypoints for e in both]),
        np.concatenate([e.confidence for e in both]),
        np.concatenate([e.labels for e in both]),
        np.concatenate(absent) if any(part.any() for part in absent) else None,
    )


def default_recipe(
    scene: Scene,
    training: Sequence[Example],
    seed: int,
    work: Path,
    text: Callable[[Project], str] = recipe_text,
) -> Recipe:
    """What `rtseg init` writes for so much to train on. text: of the recipe, or of the network's."""
    labels = np.concatenate([example.labels for example in training])
    n_labelled = int((labels != IGNORE).sum(axis=0).max())
    sizes = propose_sizes(scene.dataset.skeleton, n_labelled, n_labelled / len(labels), scene.dataset.fps)
    work.mkdir(parents=True, exist_ok=True)
    file = work / "recipe.toml"
    file.write_text(text(replace(scene.project, sizes=sizes)), encoding="utf-8")
    recipe = config.load_settings(file, Recipe)
    return replace(recipe, train=replace(recipe.train, seed=recipe.train.seed + seed))


def answer(
    system: str, scene: Scene, training: Sequence[Example], held_out: Sequence[Example], seed: int, work: Path
) -> ProbabilitiesByName:
    """What a system trained on some parts answers about others; what `work` holds is not trained again."""
    if system in KINDS:
        heads, fps = scene.dataset.heads, scene.dataset.fps
        return fit_and_predict(system, training, held_out, heads, fps, seed)
    recipe = default_recipe(scene, training, seed, work, recipe_text if system == DEFAULT else network_text)
    if system == TREES:
        recipe = replace(recipe, model=replace(recipe.model, kind="gradient-boosting"))
    selection = list(held_out)  # scored once, after the last epoch: it chooses nothing, neither epoch nor rounds
    task = TrainingTask(recipe, scene.dataset.skeleton, scene.dataset.fps, scene.dataset.heads, training, selection)
    return run_trial(work, task, held_out).probabilities


def asked_of(scene: Scene, systems: Sequence[str]) -> list[str]:
    """The systems that there are: `rtseg init` writes a network's recipe beside the first one for few labels only."""
    return [system for system in systems if system != NETWORK or scene.project.sizes.is_of_few_labels]


def measure_halves(
    scene: Scene, out: Path, seeds: int, say: Callable[[str], None], systems: Sequence[str] = SYSTEMS
) -> dict[str, Any]:
    """Train on the first half of the labelled frames, answer the second, in one stream from its first frame."""
    middle = scene.cuts(2, 0, len(scene.whole))[1]
    training = [scene.part("first", 0, middle)]
    second = scene.part("second", middle, len(scene.whole))
    ends = scene.cuts(BLOCKS, middle, len(scene.whole))
    blocks = [scene.part(f"block-{i}", a, b) for i, (a, b) in enumerate(pairwise(ends))]
    systems = asked_of(scene, systems)
    answers: dict[str, list[ProbabilitiesByName]] = {system: [] for system in systems}
    for seed in range(seeds):
        for system in systems:
            say(f"{scene.dataset.name}, halves, {system}, seed {seed}")
            work = out / "halves" / system.replace(" ", "-") / f"seed-{seed}"
            probs = answer(system, scene, training, [second], seed, work)["second"]
            answers[system].append(
                {b.name: probs[a - middle : z - middle] for b, (a, z) in zip(blocks, pairwise(ends), strict=True)}
            )
    return scored(scene, blocks, answers)


def measure_blocks(
    scene: Scene, out: Path, seeds: int, say: Callable[[str], None], systems: Sequence[str] = SYSTEMS
) -> dict[str, Any]:
    """Folds of blocks of time, each block a recording of its own, with a margin to what is trained on."""
    ends = scene.cuts(BLOCKS, 0, len(scene.whole))
    margin = round(MARGIN_S * scene.dataset.fps)
    blocks = [scene.part(f"block-{i}", ends[i], ends[i + 1]) for i in range(BLOCKS)]
    systems = asked_of(scene, systems)
    answers: dict[str, list[ProbabilitiesByName]] = {system: [{} for _ in range(seeds)] for system in systems}
    for seed in range(seeds):
        for fold in range(FOLDS):
            held = range(fold, BLOCKS, FOLDS)
            training = [scene.part(f"train-{a}", a, z) for a, z in ranges_outside(ends, held, margin)]
            for system in systems:
                say(f"{scene.dataset.name}, blocks, {system}, seed {seed}, fold {fold}")
                work = out / "blocks" / system.replace(" ", "-") / f"seed-{seed}-fold-{fold}"
                answers[system][seed] |= answer(system, scene, training, [blocks[b] for b in held], seed, work)
    return scored(scene, blocks, answers)


def ranges_outside(ends: Sequence[int], held: Sequence[int], margin: int) -> list[tuple[int, int]]:
    """What is left to train on: all frames but the blocks that are held out and `margin` frames on each side of them.

    ends: block i has the frames from ends[i] to ends[i + 1]. held: in order.
    """
    ranges, begin = list[tuple[int, int]](), ends[0]
    for block in held:
        if ends[block] - margin > begin:
            ranges.append((begin, ends[block] - margin))
        begin = ends[block + 1] + margin
    return [*ranges, (begin, ends[-1])] if ends[-1] > begin else ranges


QUESTIONS = {"halves": measure_halves, "blocks": measure_blocks}


def scored(
    scene: Scene, blocks: Sequence[Example], answers: Mapping[str, Sequence[ProbabilitiesByName]]
) -> dict[str, Any]:
    """Scores of every system with intervals over blocks, and by how much the default recipe is ahead of each other."""
    heads = scene.dataset.heads
    scores = {
        system: compare.score_system(heads, blocks, own, scene.dataset.fps)["heads"] for system, own in answers.items()
    }
    ours = answers[DEFAULT]
    ahead = {
        system: compare.paired_differences(heads, blocks, ours, own)
        for system, own in answers.items()
        if system != DEFAULT
    }
    labelled = sum(int((block.labels != IGNORE).any(axis=1).sum()) for block in blocks)
    return {"blocks": len(blocks), "frames": labelled, "scores": scores, "ahead": ahead}


def small_page(part: Mapping[str, Any]) -> list[str]:
    """The part's tables in Markdown."""
    pages = [
        f"`init`: the recipe that `rtseg init` writes, as it stands, of trees for freezing; `{NETWORK}`: the network's "
        f"that it writes beside that; `{TREES}`: rtseg's, on the network's features (`model.kind`); "
        f"{' and '.join(KINDS)}: window statistics of speeds, distances and "
        "angles, as a laboratory would write them (benchmarks/window_baseline.py). All of them causal, argmax, nothing "
        "tuned on what is scored. Intervals: 95 %, bootstrap over blocks of time of one video; they say nothing of "
        "other animals.",
    ]
    for name, questions in part["data"].items():
        for question, found in questions.items():
            for head in found["scores"][DEFAULT]:
                rows = []
                for system, scores in found["scores"].items():
                    ahead = found["ahead"].get(system)
                    than = [interval(ahead[head][key], "difference") if ahead else "" for key in ("f1", "map")]
                    rows.append([*score_row(system, scores[head]), *than])
                title = f"### {name}, {question} ({found['blocks']} blocks, {found['frames']} labelled frames, {head})"
                pages += [title, table([*SCORE_COLUMNS, "`init` ahead: F1", "`init` ahead: mAP"], rows)]
    if part["trials"]:
        pages += [
            "### What was tried",
            "On four blocks of the first half of the labelled frames, each held out in turn, with two seeds; the "
            "second half chose nothing. Trials that were made and not taken stand here, too.",
            table(
                ["data", "trial", "macro-F1, each seed", "mAP, each seed"],
                [
                    [one["data"], one["what"], *(", ".join(map(number, one[key])) for key in ("f1", "map"))]
                    for one in part["trials"]
                ],
            ),
        ]
    return pages
