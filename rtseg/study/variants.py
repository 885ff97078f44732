"""Variants of one recipe, trained with the same seeds and compared on the validation recordings, paired over videos.

The checkpoint of every variant is chosen on the recordings that it is scored on, as in `rtseg train`: differences
between variants are fair, the scores themselves a little too high.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rtseg import config
from rtseg.config import Recipe
from rtseg.evaluation.bootstrap import RESAMPLES
from rtseg.recordings.dataset import Dataset
from rtseg.study import compare
from rtseg.study.trials import require_different_names, run_trial, with_repetition_seed
from rtseg.training.task import EventCallback, TrainingTask, read_training


def compare_variants(
    variants: Mapping[str, Recipe],
    reference: str,
    dataset: Dataset,
    runs: Path,
    *,
    seeds: int = 1,
    resamples: int = RESAMPLES,
    report: EventCallback = lambda event: None,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Train every variant with every seed, resuming in `runs`, and score it; variants in the order given.

    Returns for each its recipe, trials, scores and `ahead`: its differences from the reference, per head, seeds paired.
    """
    training, validation = read_training(dataset, progress)
    require_different_names(validation)
    trials = {}
    # Seeds in the outer loop: a study that is stopped early has compared all variants with the first seed.
    for seed in range(seeds):
        for name, recipe in variants.items():
            progress(f"{name}, seed {seed}")
            folder = runs / name.replace(" ", "-") / f"seed-{seed}"
            setting = with_repetition_seed(recipe, seed)
            task = TrainingTask(setting, dataset.skeleton, dataset.fps, dataset.heads, training, validation)
            trials[name, seed] = run_trial(folder, task, validation, report)
    progress("scoring")
    predictions = {name: [trials[name, seed].probabilities for seed in range(seeds)] for name in variants}
    return {
        name: {
            "recipe": config.to_plain(recipe),
            "trials": [trials[name, seed].facts for seed in range(seeds)],
            **compare.score_system(dataset.heads, validation, predictions[name], dataset.fps, resamples),
            "ahead": compare.paired_differences(
                dataset.heads, validation, predictions[name], predictions[reference], resamples
            ),
        }
        for name, recipe in variants.items()
    }
