"""Out-of-fold answers of systems that are not rtseg's, on the folds of a file that is there.

    python benchmarks/baseline_answers.py crossvalidate.SYSTEM.safetensors --data DATASET.toml=FOLDER --out FOLDER

`constant`: always the scored class that most training frames show, which is what a system that learnt nothing could
still score. `xgboost`, `random forest`: window statistics as a laboratory would write them (`window_baseline.py`);
they hold all windows in memory, so they are for data sets of some ten thousand frames.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from leaderboard import open_dataset
from numpy.typing import NDArray
from window_baseline import KINDS, fit_and_predict

from rtseg.errors import RtsegError
from rtseg.evaluation.out_of_fold import (
    Fold,
    OutOfFold,
    TrainingCost,
    check_out_of_fold,
    identify,
    read_out_of_fold,
    write_out_of_fold,
)
from rtseg.recordings.dataset import Dataset
from rtseg.recordings.heads import Head
from rtseg.recordings.recording import IGNORE
from rtseg.study.trials import ProbabilitiesByName, read_splits
from rtseg.training.task import Example

CONSTANT = "constant"
SYSTEMS = (CONSTANT, *KINDS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folds_of", type=Path, help="answers of a system that was cross-validated on the same folds")
    parser.add_argument("--data", required=True, help="DATASET.toml or DATASET.toml=ROOT")
    parser.add_argument("--split", default="train,validation", help="splits that were cross-validated")
    parser.add_argument("--system", action="append", choices=SYSTEMS, help="one of them (repeatable; all)")
    parser.add_argument("--out", type=Path, required=True, help="a folder")
    options = parser.parse_args()
    try:
        dataset = open_dataset(options.data)
        examples = sorted(read_splits(dataset, options.split.split(",")), key=lambda example: example.name)
        like = read_out_of_fold(options.folds_of)
        data = identify(dataset.name, dataset.skeleton, dataset.fps, dataset.heads, examples)
        check_out_of_fold(like, data, options.folds_of)
        options.out.mkdir(parents=True, exist_ok=True)
        for system in options.system or SYSTEMS:
            write_out_of_fold(baseline(system, dataset, examples, like), options.out / file_name(system))
    except RtsegError as error:
        sys.exit(f"error: {error}")


def file_name(system: str) -> str:
    return f"crossvalidate.{system.replace(' ', '-')}.safetensors"


def baseline(system: str, dataset: Dataset, examples: Sequence[Example], like: OutOfFold) -> OutOfFold:
    """The system's answers by the folds of `like`, with seed 0. system: of SYSTEMS."""
    by_name = {example.name: example for example in examples}
    probabilities: ProbabilitiesByName = {}
    costs = []
    for number, fold in enumerate(like.folds):
        training = [by_name[name] for name in fold.trained_on]
        held_out = [by_name[name] for name in sorted(by_name) if like.fold_of[name] == number]
        started, cpu_started = time.monotonic(), time.process_time()
        if system == CONSTANT:
            answer = constant_answer(training, dataset.heads)
            probabilities |= {example.name: np.tile(answer, (len(example), 1)) for example in held_out}
        else:
            probabilities |= fit_and_predict(system, training, held_out, dataset.heads, dataset.fps, seed=0)
        seconds, cpu_seconds = time.monotonic() - started, time.process_time() - cpu_started
        costs.append(TrainingCost(0, number, round(seconds, 1), 0, round(cpu_seconds, 1)))
    return replace(
        like,
        system=system,
        settings=None,
        recipe=hashlib.sha256(f"benchmarks/baseline_answers.py: {system}".encode()).hexdigest(),
        causal=True,
        lookahead_frames=0,
        seeds=(0,),
        folds=tuple(Fold(fold.trained_on, ()) for fold in like.folds),
        held=dict.fromkeys(by_name, 0),
        costs=tuple(costs),
        probabilities=(probabilities,),
    )


def constant_answer(training: Sequence[Example], heads: Sequence[Head]) -> NDArray[np.float32]:
    """(P,) probabilities, whose largest of each head is the scored class that most training frames show.

    The others are equal: shares of the training frames would rank the folds, and by those that were left out.
    """
    labels = np.concatenate([example.labels for example in training])
    parts = []
    for column, head in enumerate(heads):
        known = labels[labels[:, column] != IGNORE, column]
        counts: NDArray[Any] = np.bincount(known, minlength=len(head.classes))
        best = max(head.scored, key=lambda name: counts[head.classes.index(name)])
        of_head = np.full(len(head.classes), 0.5 / len(head.classes), np.float32)
        of_head[head.classes.index(best)] += 0.5
        parts.append(of_head)
    return np.concatenate(parts)


if __name__ == "__main__":
    main()
