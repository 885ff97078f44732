"""Out-of-fold answers of an ensemble, from its members' files: what one network of all their cells would answer.

`python benchmarks/ensemble_answers.py FILE FILE ... --system NAME --out FILE.safetensors`

The members were cross-validated on the same folds of the same recordings (`rtseg crossvalidate`), with as many seeds
each. The ensemble's logits are the mean of theirs, as for cells that are trained apart; nothing is weighted or chosen.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from trials import averaged

from rtseg.errors import RtsegError
from rtseg.evaluation.out_of_fold import Fold, OutOfFold, TrainingCost, read_out_of_fold, write_out_of_fold


def ensemble(system: str, members: Sequence[OutOfFold], files: Sequence[Path]) -> OutOfFold:
    """The members' average. Raises RtsegError for members that are not about the same frames in the same folds."""
    first = members[0]
    same = ("dataset", "dataset_hash", "columns", "lookahead_frames", "fold_of", "hashes")
    for member, file in zip(members[1:], files[1:], strict=True):
        differ = [name for name in same if getattr(member, name) != getattr(first, name)]
        if len(member.seeds) != len(first.seeds):
            differ.append("the number of seeds")
        if differ:
            raise RtsegError(f"{file}: {', '.join(differ)} differ from those of {files[0]}; cross-validate both alike")
    heads = [column.split(".")[0] for column in first.columns]
    offsets = (0, *(i for i in range(1, len(heads)) if heads[i] != heads[i - 1]), len(heads))
    seeds = range(len(first.seeds))
    return replace(
        first,
        system=system,
        recipe=hashlib.sha256(" ".join(member.recipe for member in members).encode()).hexdigest(),
        causal=all(member.causal for member in members),
        folds=tuple(_joined(folds) for folds in zip(*(member.folds for member in members), strict=True)),
        held={name: max(member.held[name] for member in members) for name in first.held},
        costs=tuple(_summed(costs) for costs in zip(*(member.costs for member in members), strict=True)),
        probabilities=tuple(averaged([dict(m.probabilities[seed]) for m in members], offsets) for seed in seeds),
        settings=None,  # no recipe trains it, so no bundle may take these answers for its own
    )


def _joined(folds: Sequence[Fold]) -> Fold:
    """Everything that any member's fold has seen."""
    return Fold(*(tuple(sorted({name for fold in folds for name in fold[part]})) for part in range(2)))


def _summed(costs: Sequence[TrainingCost]) -> TrainingCost:
    """Of one fold's trainings: their seconds and multiply-adds together."""
    cpu = [c.cpu_seconds for c in costs if c.cpu_seconds is not None]
    return costs[0]._replace(
        seconds=sum(c.seconds for c in costs),
        multiply_adds=sum(c.multiply_adds for c in costs),
        cpu_seconds=sum(cpu) if len(cpu) == len(costs) else None,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("answers", nargs="+", type=Path, help="crossvalidate.SYSTEM.safetensors of each member")
    parser.add_argument("--system", required=True, help="the ensemble's name")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    try:
        members = [read_out_of_fold(path) for path in options.answers]
        write_out_of_fold(ensemble(options.system, members, options.answers), options.out)
    except RtsegError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
