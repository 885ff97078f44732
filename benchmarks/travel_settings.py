"""Part `settings` of travel.py: videos of one place of the camera answered by a model that saw the other places only.

The places are found by looking: where in the picture the animals of each video move. They differ by some 100 px; the
camera's height, the cage and the laboratory are the same in all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.config import Recipe
from rtseg.recordings.dataset import Dataset
from rtseg.study import compare
from rtseg.study.results import SCORE_COLUMNS, interval, number, score_row, table
from rtseg.study.trials import ProbabilitiesByName, read_splits, run_trial
from rtseg.training.task import Example, TrainingTask

PLACES = 3
SURE = 0.8
"""Confidence of points that tell where animals move: guesses lie anywhere in the picture."""
ENDS = (0.5, 99.5)
WAYS = ("px", "body")


def arena_box(example: Example) -> NDArray[np.float64]:
    """x0, y0, x1, y1 in px: within which nearly all sure points of a video lie."""
    points = example.keypoints[(example.confidence >= SURE) & np.isfinite(example.keypoints[..., 0])]
    return np.percentile(points, ENDS, axis=0).ravel()


def places_of(examples: Sequence[Example], n: int = PLACES) -> list[list[str]]:
    """Names of the videos by the camera's place: boxes that lie near each other, by Ward's rule."""
    from scipy.cluster.hierarchy import fcluster, linkage

    boxes = np.array([arena_box(example) for example in examples])
    numbers = fcluster(linkage(boxes, "ward"), n, "maxclust")
    return [[e.name for e, of in zip(examples, numbers, strict=True) if of == place] for place in sorted(set(numbers))]


def measure_settings(recipe: Recipe, dataset: Dataset, out: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Leave one place out, for features in px and in body lengths; the last epoch's weights, nothing chosen."""
    examples = sorted(read_splits(dataset, ("train", "validation")), key=lambda example: example.name)
    places = places_of(examples)
    last = replace(recipe.train, select="last", evaluate_every=recipe.train.epochs, patience=recipe.train.epochs)
    answers: dict[str, ProbabilitiesByName] = {way: {} for way in WAYS}
    for number_, names in enumerate(places):
        held = [e for e in examples if e.name in names]
        others = [e for e in examples if e.name not in names]
        for way in WAYS:
            say(f"without place {number_}, {way}")
            setting = replace(recipe, train=last, features=replace(recipe.features, scale=way))
            # Scored once on a few of the others, after the last epoch.
            task = TrainingTask(setting, dataset.skeleton, dataset.fps, dataset.heads, others, others[:2])
            answers[way] |= run_trial(out / f"{way}-{number_}", task, held).probabilities
    heads, fps = dataset.heads, dataset.fps
    about = []
    for names in places:
        held = [e for e in examples if e.name in names]
        box = np.mean([arena_box(e) for e in held], axis=0).round().tolist()
        scores = {way: compare.score_system(heads, held, [answers[way]], fps)["heads"] for way in WAYS}
        about.append({"videos": names, "box": box, "scores": scores})
    return {
        "places": about,
        "scores": {way: compare.score_system(heads, examples, [answers[way]], fps)["heads"] for way in WAYS},
        "body_ahead": compare.paired_differences(heads, examples, [answers["body"]], [answers["px"]]),
    }


def settings_page(part: Mapping[str, Any]) -> list[str]:
    """The part's tables in Markdown."""
    places = part["places"]
    pages = [
        f"One cell, trained in bfloat16; {sum(len(place['videos']) for place in places)} videos, {len(places)} places "
        "of the camera, each left out in turn. Places are those of the animals in the picture; a place is about 100 px "
        "from the next.",
    ]
    for head in part["body_ahead"]:
        rows = [score_row(way, scores[head]) for way, scores in part["scores"].items()]
        ahead = [interval(part["body_ahead"][head][key], "difference") for key in ("f1", "map")]
        pages += [
            f"### {head}",
            table(SCORE_COLUMNS, rows),
            f"`body` ahead of `px`, paired over videos: macro-F1 {ahead[0]}, mAP {ahead[1]}.",
        ]
    rows = []
    for place in places:
        box = ", ".join(f"{edge:.0f}" for edge in place["box"])
        f1 = [number(place["scores"][way]["S1"]["f1"]["mean"]) for way in WAYS]
        rows.append([f"{box}", str(len(place["videos"])), *f1])
    pages.append(table(["box (x0, y0, x1, y1 px)", "videos", *(f"S1 macro-F1, {way}" for way in WAYS)], rows))
    return pages
