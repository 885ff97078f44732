"""Grouped k-fold cross-validation by video: every public video is predicted by a system that never saw it.

Nothing is chosen on a held-out video: each fold keeps some of its own training videos aside to choose the checkpoint
by, or trains on all of them for a fixed number of epochs (train.select = "last", or `fixed_epochs`). The predictions
of held-out videos stay on disk, a file for each system (docs/leaderboard.md).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rtseg import config
from rtseg.config import KINDS, CrossValidationSettings, Recipe
from rtseg.errors import SettingError
from rtseg.evaluation.bootstrap import RESAMPLES
from rtseg.evaluation.evaluate import part_notes
from rtseg.evaluation.out_of_fold import (
    DataIdentity,
    Fold,
    OutOfFold,
    TrainingCost,
    hold_unanswered,
    identify,
    write_out_of_fold,
)
from rtseg.recordings.dataset import Dataset
from rtseg.recordings.heads import Head
from rtseg.recordings.recording import IGNORE
from rtseg.study import compare, results
from rtseg.study.trials import (
    ProbabilitiesByName,
    Trial,
    output_columns,
    read_recipe,
    read_splits,
    run_trial,
    with_repetition_seed,
)
from rtseg.training.task import EventCallback, Example, TrainingTask

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = "crossvalidate"


def folds_of(names: Sequence[str], k: int) -> list[list[str]]:
    """Every name in one of k folds, dealt out in the order of the names: the same names give the same folds.

    Raises SettingError for fewer than two folds or more folds than names.
    """
    if not 2 <= k <= len(names):
        raise SettingError(f"folds: expected 2 to {len(names)} for {len(names)} recordings, got {k}")
    return [sorted(names)[i::k] for i in range(k)]


def crossvalidate(
    recipe_file: Path,
    out: Path,
    settings: CrossValidationSettings,
    *,
    root: Path | None = None,
    overrides: Sequence[str] = (),
    runs: Path | None = None,
    resamples: int = RESAMPLES,
    command: str = "",
    report: EventCallback = lambda event: None,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Cross-validate a recipe, and another system on the same folds; written as OUT/crossvalidate.json, .md and .png.

    Every system's out-of-fold answers go into OUT/crossvalidate.SYSTEM.safetensors (`evaluation.out_of_fold`).

    root: replaces the dataset's own folder. overrides: of the recipe, as `--set` takes them. runs: where trials and
    predictions are kept (OUT/crossvalidate.runs); a killed run continues there. Raises SettingError.
    """
    recipe, dataset = read_recipe(recipe_file, root, overrides)
    systems = {recipe_file.stem: recipe}
    if settings.against is None:  # else they may be meant for the other one
        for sentence in recipe.without_effect(overrides):
            progress(f"warning: {sentence}")
    else:
        name, other = _other_system(settings.against, recipe, dataset, root)
        if name in systems:
            raise SettingError(f"two systems are called {name!r}: give the other recipe's file another name")
        systems[name] = other
    # By name: the folds must not depend on the order in which splits are given.
    examples = sorted(read_splits(dataset, settings.splits, progress), key=lambda example: example.name)
    folds = folds_of([example.name for example in examples], settings.folds)
    if bare := [example.name for example in examples if not is_labelled(example)]:
        progress(f"warning: no frame of {', '.join(bare)} carries a label: answered, but of no use to any fold")
    unlearnt = absent_from_folds(dataset.heads, examples, folds)
    for warning in unlearnt:
        progress(f"warning: {warning}")
    trials = _run_trials(systems, dataset, examples, folds, settings, runs or out / f"{NAME}.runs", report, progress)
    # Before the scores, which take a while: the answers are what took hours.
    answers = _write_answers(systems, dataset, examples, folds, settings, trials, out)
    progress("scoring")
    predictions = {name: [_joined(by_fold) for by_fold in by_seed] for name, by_seed in trials.items()}
    label = f"{dataset.name}, {' and '.join(dict.fromkeys(settings.splits))}, {settings.folds} folds"
    scores = {
        name: compare.score_system(dataset.heads, examples, predictions[name], dataset.fps, resamples)
        for name in systems
    }
    n_videos = results.count_videos(dataset.heads, next(iter(scores.values()))["videos"])
    result = results.preamble("rtseg crossvalidate", command, label, dataset.simulated, n_videos)
    result["notes"] += part_notes(dataset, tuple(dict.fromkeys(settings.splits)))
    result["notes"] += [f"{sentence[0].upper()}{sentence[1:]}: it can never answer that." for sentence in unlearnt]
    result |= {
        "folds": folds,
        "checkpoint": _checkpoint(systems, settings),
        "answers": answers,
        "systems": {
            name: {
                "recipe": config.to_plain(systems[name]),
                "trials": [trial.facts for by_fold in trials[name] for trial in by_fold],
                **scores[name],
            }
            for name in systems
        },
    }
    if settings.against is not None:
        ours, theirs = predictions.values()
        result["paired"] = compare.paired_differences(dataset.heads, examples, ours, theirs, resamples)
    return results.write_study(out, NAME, result, _pages(result), _figure(result))


def _run_trials(
    systems: Mapping[str, Recipe],
    dataset: Dataset,
    examples: Sequence[Example],
    folds: Sequence[Sequence[str]],
    settings: CrossValidationSettings,
    runs: Path,
    report: EventCallback,
    progress: Callable[[str], None],
) -> dict[str, list[list[Trial]]]:
    """System -> for every seed the trials of all folds."""
    trials: dict[str, list[list[Trial]]] = {name: [[] for _ in range(settings.seeds)] for name in systems}
    # Seeds outside, systems inside: a run that is stopped early has compared the systems on every fold that is done.
    for seed in range(settings.seeds):
        for fold, held_out in enumerate(folds):
            for system, base in systems.items():
                progress(f"{system}, seed {seed}, fold {fold}")
                recipe, training, selection = split_fold(base, dataset.heads, examples, held_out, fold, settings)
                recipe = with_repetition_seed(recipe, seed)
                task = TrainingTask(recipe, dataset.skeleton, dataset.fps, dataset.heads, training, selection)
                predicted = [example for example in examples if example.name in held_out]
                folder = runs / system / f"seed-{seed}" / f"fold-{fold}"
                trials[system][seed].append(run_trial(folder, task, predicted, report))
    return trials


def _write_answers(
    systems: Mapping[str, Recipe],
    dataset: Dataset,
    examples: Sequence[Example],
    folds: Sequence[Sequence[str]],
    settings: CrossValidationSettings,
    trials: Mapping[str, Sequence[Sequence[Trial]]],
    out: Path,
) -> dict[str, str]:
    """System -> the name of its file in `out`."""
    out.mkdir(parents=True, exist_ok=True)
    data = identify(dataset.name, dataset.skeleton, dataset.fps, dataset.heads, examples)
    files = {}
    for name, recipe in systems.items():
        files[name] = f"{NAME}.{name}.safetensors"
        # What a fold changes of a recipe is the same for all folds.
        trained, _, _ = split_fold(recipe, dataset.heads, examples, folds[0], 0, settings)
        write_out_of_fold(out_of_fold_answers(name, recipe, trained, data, folds, trials[name]), out / files[name])
    return files


def out_of_fold_answers(
    system: str,
    recipe: Recipe,
    trained: Recipe,
    data: DataIdentity,
    folds: Sequence[Sequence[str]],
    trials: Sequence[Sequence[Trial]],
) -> OutOfFold:
    """What a system answered out of fold. trained: the recipe as `split_fold` changes it. trials: by seed and fold."""
    held: dict[str, int] = dict.fromkeys(data.recordings, 0)
    probabilities: list[ProbabilitiesByName] = []
    for by_fold in trials:
        whole: ProbabilitiesByName = {}
        for name, probs in _joined(by_fold).items():
            whole[name], n_held = hold_unanswered(probs, data.heads)
            held[name] = max(held[name], n_held)
        probabilities.append(whole)
    # The seeds of a fold learn from the same recordings.
    seen = [Fold(tuple(trial.facts["training"]), tuple(trial.facts["selection"])) for trial in trials[0]]
    return OutOfFold(
        system=system,
        recipe=hashlib.sha256(json.dumps(config.to_plain(recipe), sort_keys=True).encode()).hexdigest(),
        causal=recipe.model.causal,
        lookahead_frames=recipe.model.lookahead_frames,
        dataset=data.name,
        dataset_hash=data.hash,
        columns=output_columns(data.heads),
        seeds=tuple(by_fold[0].facts["seed"] for by_fold in trials),
        folds=tuple(seen),
        fold_of={name: number for number, names in enumerate(folds) for name in names},
        hashes={name: one.hash for name, one in data.recordings.items()},
        held=held,
        costs=tuple(
            TrainingCost(facts["seed"], number, facts["seconds"], facts["multiply_adds"], facts.get("cpu_seconds"))
            for by_fold in trials
            for number, facts in enumerate(trial.facts for trial in by_fold)
        ),
        frames={name: np.arange(one.n_frames, dtype=np.int64) for name, one in data.recordings.items()},
        probabilities=tuple(probabilities),
        settings=config.to_plain(trained),
    )


def split_fold(
    recipe: Recipe,
    heads: Sequence[Head],
    examples: Sequence[Example],
    held_out: Sequence[str],
    fold: int,
    settings: CrossValidationSettings,
) -> tuple[Recipe, list[Example], list[Example]]:
    """Settings, training recordings and those that choose the checkpoint, none of them held out or without any label.

    A network's last epoch is chosen by none. Raises SettingError where too few recordings are left.
    """
    others = [example for example in examples if example.name not in held_out and is_labelled(example)]
    recipe, inside_every = _with_fixed_epochs(recipe, settings), settings.inside_every
    if not _chooses_checkpoint(recipe):
        if not others:
            raise SettingError(f"fold {fold} leaves no recording with labels to train on; use other folds")
        return recipe, others, []
    # Another remainder for every fold, so that not always the same videos choose; the next one where these show none of
    # the behaviours that are scored, as blocks of one video may.
    ways = [others[(fold + i) % inside_every :: inside_every] for i in range(inside_every)]
    aside = next((some for some in ways if shows_scored_class(some, heads)), ways[0])
    if not aside or len(aside) == len(others):
        raise SettingError(
            f"fold {fold} leaves {len(others)} recordings with labels; every {inside_every}th of them, from number "
            f"{fold % inside_every} on, would choose the checkpoint, and those are {len(aside)}: it takes some to "
            "choose by and others to train on. Use other folds, or another share"
        )
    if settings.fixed_epochs is not None:
        # Trees have rounds in place of epochs: these recordings choose how many, and are then learned from as well.
        return recipe, others, aside
    return recipe, [example for example in others if example not in aside], aside


def _with_fixed_epochs(recipe: Recipe, settings: CrossValidationSettings) -> Recipe:
    if settings.fixed_epochs is None or recipe.model.is_trees:
        return recipe
    return replace(recipe, train=replace(recipe.train, epochs=settings.fixed_epochs, select="last"))


def _chooses_checkpoint(recipe: Recipe) -> bool:
    """Whether recordings choose the epoch, or the number of trees."""
    return recipe.train.select != "last"


def _checkpoint(systems: Mapping[str, Recipe], settings: CrossValidationSettings) -> str:
    """Which checkpoint is taken, in the words of a report."""
    choosing = [name for name, recipe in systems.items() if _chooses_checkpoint(_with_fixed_epochs(recipe, settings))]
    chosen = f"by every {settings.inside_every}th training video of a fold"
    if not choosing:
        return "last epoch"
    return chosen if len(choosing) == len(systems) else f"of {', '.join(choosing)} {chosen}; else the last epoch"


def is_labelled(example: Example) -> bool:
    """Whether any frame carries a label of any head."""
    return bool((example.labels != IGNORE).any())


def shows_scored_class(examples: Sequence[Example], heads: Sequence[Head]) -> bool:
    """Whether any frame carries a scored class of any head: without one nothing can be chosen by these recordings."""
    return any(
        np.isin(example.labels[:, column], [head.classes.index(name) for name in head.scored]).any()
        for example in examples
        for column, head in enumerate(heads)
    )


def absent_from_folds(heads: Sequence[Head], examples: Sequence[Example], folds: Sequence[Sequence[str]]) -> list[str]:
    """A sentence for every fold whose other recordings show no frame of some class."""
    sentences = []
    for number, held_out in enumerate(folds):
        labels = np.concatenate([example.labels for example in examples if example.name not in held_out])
        absent = [
            f"{head.name}: {name}"
            for column, head in enumerate(heads)
            for c, name in enumerate(head.classes)
            if not (labels[:, column] == c).any()
        ]
        if absent:
            sentences.append(f"fold {number} trains without a frame of {', '.join(absent)}")
    return sentences


def _other_system(against: str, recipe: Recipe, dataset: Dataset, root: Path | None) -> tuple[str, Recipe]:
    if against in KINDS:
        return against, replace(recipe, model=replace(recipe.model, kind=against))
    if not against.endswith(".toml"):
        raise SettingError(f"against: expected a recipe (.toml) or one of {', '.join(KINDS)}, got {against!r}")
    other, theirs = read_recipe(Path(against), root)
    if (theirs.name, theirs.heads) != (dataset.name, dataset.heads):
        raise SettingError(f"{against} is about dataset {theirs.name!r} or other heads, ours about {dataset.name!r}")
    return Path(against).stem, other


def _joined(trials: Sequence[Trial]) -> ProbabilitiesByName:
    # Folds share no video, so no name comes twice.
    return {name: probs for trial in trials for name, probs in trial.probabilities.items()}


def _pages(result: dict[str, Any]) -> list[str]:
    systems = result["systems"]
    pages = [
        "Every video is answered by a system that was not trained on it; frames pooled over videos, argmax, nothing "
        f"tuned. Checkpoint: {result['checkpoint']}. {results.READING}",
        "\n".join(f"- fold {i}: {', '.join(names)}" for i, names in enumerate(result["folds"])),
    ]
    for head in next(iter(systems.values()))["heads"]:
        pages += [
            f"## {head}",
            results.table(results.SCORE_COLUMNS, [results.score_row(n, s["heads"][head]) for n, s in systems.items()]),
        ]
        if "paired" in result:
            ahead = result["paired"][head]
            ours, theirs = systems
            f1, precision = (results.interval(ahead[key], "difference") for key in ("f1", "map"))
            pages.append(f"{ours} ahead of {theirs}, paired over videos: macro-F1 {f1}, mAP {precision}.")
        columns = ["video", "frames", *(f"{n}: {m}" for n in systems for m in ("macro-F1", "mAP"))]
        rows = []
        for video in next(iter(systems.values()))["videos"]:
            scores = [s["videos"][video].get(head) for s in systems.values()]
            if scores[0]:
                cells = [results.number(s[key]) for s in scores for key in ("f1", "map")]
                rows.append([video, str(scores[0]["frames"]), *cells])
        pages.append(results.table(columns, rows))
    seconds = [f"{n}: {sum(t['seconds'] for t in s['trials']):.0f} s of training" for n, s in systems.items()]
    return [*pages, "; ".join(seconds) + "."]


def _figure(result: dict[str, Any]) -> Figure:
    """Every video's macro-F1, in the order of ours; the other system's beside it."""
    from rtseg.study import plots

    systems = result["systems"]
    ours = next(iter(systems))
    heads = plots.drawn_heads(systems[ours]["heads"])
    figure, grid = plots.panels(len(heads), 1, width=9, height=2.8)
    for head, (axis,) in zip(heads, grid, strict=True):
        videos = [v for v, scores in systems[ours]["videos"].items() if head in scores]
        videos.sort(key=lambda v: systems[ours]["videos"][v][head]["f1"])
        for (name, system), color in zip(systems.items(), (plots.F1_COLOR, plots.MAP_COLOR), strict=False):
            values = [system["videos"][v][head]["f1"] for v in videos]
            axis.plot(range(len(videos)), values, "o", markersize=4, color=color, label=name)
        axis.set_xticks(range(len(videos)), videos, rotation=90, fontsize="x-small")
        axis.set_ylabel(f"{head}: macro-F1")
    plots.legend(figure, grid[0][0])
    return figure
