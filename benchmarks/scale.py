"""What it costs to forget the scale, and what it brings: `features.scale = 'body'` beside `'px'`.

Trains a recipe both ways with the same seeds (bundles stay under --out; those that are there are taken), scores both on
the validation videos through Session, paired by video, and runs the same videos at other scales. Then the same question
on one video of two mice, cut into blocks of time.

    nice python benchmarks/scale.py engines/rats58.toml --root FOLDER/rats58 --mice FOLDER/mice7 --out runs/scale \
        --json benchmarks/results/scale-rats58.json
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

import rtseg
from rtseg.bundle.bundle import MANIFEST, load_bundle
from rtseg.config import (
    AugmentSettings,
    CellSettings,
    FeatureSettings,
    ModelSettings,
    Recipe,
    TrainSettings,
    load_settings,
)
from rtseg.evaluation.evaluate import without_nan
from rtseg.features.spec import GROUPS, PLACES
from rtseg.inference.predictions import Quality
from rtseg.recordings.dataset import Dataset, load_dataset
from rtseg.recordings.heads import Head
from rtseg.recordings.open import read_labels, read_recording
from rtseg.recordings.recording import Recording
from rtseg.study import compare
from rtseg.study.results import interval, number, preamble, table
from rtseg.study.trials import run_trial
from rtseg.system.files import write_atomically, write_json_atomically
from rtseg.training.export import train_bundle
from rtseg.training.task import Example, TrainingTask, example_of

FACTORS = {"1/3": 1 / 3, "1/2": 0.5, "2/3": 2 / 3, "3/2": 1.5, "2": 2.0}
WAYS = ("px", "body")
BLOCK_S, FOLDS = 10.0, 5


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--root", type=Path, help="folder of the dataset's recordings")
    parser.add_argument("--mice", type=Path, help="folder of the one video of mice")
    parser.add_argument("--out", type=Path, required=True, help="where bundles and trials are kept")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--mice-seeds", type=int, help="default: as many as --seeds")
    parser.add_argument("--set", action="append", default=[], help="change a setting of the recipe")
    parser.add_argument("--note", default="", help="what a reader must know of these bundles")
    parser.add_argument("--json", type=Path, required=True, help="the result; its table goes beside it")
    options = parser.parse_args()
    dataset = load_dataset(options.recipe.parent / load_settings(options.recipe, Recipe).dataset, options.root)
    words = [str(options.recipe), "--root FOLDER --mice FOLDER --out FOLDER", f"--seeds {options.seeds}"]
    command = " ".join(["python benchmarks/scale.py", *words, *(f"--set '{text}'" for text in options.set)])
    n_videos = sum(1 for _ in dataset.items("validation"))
    result = preamble("benchmarks/scale.py", command, f"{dataset.name}, validation", dataset.simulated, n_videos)
    result["note"] = options.note
    result |= measure_recipe(options.recipe, dataset, options.root, options.out, options.seeds, options.set)
    if options.mice:
        result["mice"] = measure_mice(options.mice, options.out / "mice", options.mice_seeds or options.seeds)
    result = without_nan(result)
    write_json_atomically(options.json, result)
    write_atomically(options.json.with_suffix(".md"), page(result))


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def measure_recipe(
    recipe: Path, dataset: Dataset, root: Path | None, out: Path, seeds: int, changes: Sequence[str]
) -> dict[str, Any]:
    """Scores of both ways, by how much px is ahead, and what other scales do to the first seed's bundles."""
    first_seed = load_settings(recipe, Recipe).train.seed
    found: dict[str, Any] = {"seeds": seeds}
    answers: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    items = list(dataset.items("validation"))
    examples = [example_of(i.recording, {n: t.frames for n, t in i.labels.items()}, dataset.heads) for i in items]
    for seed in range(seeds):
        for way in WAYS:
            folder = out / f"{way}-{seed}"
            if not (folder / MANIFEST).is_file():
                say(f"training {way}, seed {seed}")
                overrides = (
                    *changes,
                    f"features.scale={way}",
                    f"train.seed={first_seed + seed}",
                    "train.threads=1",
                )
                train_bundle(recipe, folder, root=root, overrides=overrides, runs=out / f"{way}-{seed}.run")
            classifier = rtseg.load(folder, "numba")
            answers[way].append({i.recording.name: classifier.run(i.recording).probs for i in items})
    found["scores"] = {w: compare.score_system(dataset.heads, examples, answers[w], dataset.fps) for w in WAYS}
    found["body_ahead"] = compare.paired_differences(dataset.heads, examples, answers["body"], answers["px"])
    found["scales"] = {way: scales_of(out / f"{way}-0", [i.recording for i in items]) for way in WAYS}
    size = load_bundle(out / "px-0").body_size
    found["body_size"] = None if size is None else size.to_dict()
    return found


def scales_of(bundle: Path, recordings: Sequence[Recording]) -> dict[str, Any]:
    """Share of frames whose label is another than at the recordings' own scale, and share out of range, by factor."""
    classifier = rtseg.load(bundle, "numba")
    heads = [head.name for head in classifier.bundle.heads]
    own = [classifier.run(r) for r in recordings]
    found: dict[str, Any] = {}
    for name, factor in {"1": 1.0, **FACTORS}.items():
        other = [classifier.run(replace(r, keypoints=r.keypoints * np.float32(factor))) for r in recordings]
        differ = np.concatenate([a.labels != b.labels for a, b in zip(own, other, strict=True)])
        flagged = [float((p.quality & Quality.OUT_OF_RANGE > 0).mean()) for p in other]
        found[name] = {
            "labels_differ": dict(zip(heads, differ.mean(axis=0).tolist(), strict=True)),
            "out_of_range": float(np.concatenate([p.quality & Quality.OUT_OF_RANGE > 0 for p in other]).mean()),
            "out_of_range_by_video": [min(flagged), max(flagged)],
        }
    return found


def measure_mice(folder: Path, out: Path, seeds: int) -> dict[str, Any]:
    """Both ways on one video in blocks of BLOCK_S, every fifth of them held out in turn.

    `px without places` tells what leaving out the arena costs, which `body` does as well.
    """
    heads = (Head("interact", ("none", "interact"), ("interact",), "interact"),)
    recording = read_recording(next(folder.glob("*DLC*.csv")), fps=30)
    tracks = read_labels(next(folder.glob("boris*.csv")), len(recording), recording.fps)
    track = next(t for name, t in tracks.items() if "interact" in t.classes and ":" not in name)
    labels = (track.frames == track.classes.index("interact")).astype(np.int16)
    skeleton = replace(recording.skeleton, edges=tuple(pairwise(recording.skeleton.keypoints)))
    size = round(BLOCK_S * recording.fps)
    blocks = [
        Example(f"block-{at // size:02d}", recording.keypoints[here], recording.confidence[here], labels[here, None])
        for at in range(0, len(recording) - size + 1, size)
        if (here := slice(at, at + size))
    ]
    x0, y0 = np.nanmin(recording.keypoints, axis=(0, 1, 2)).tolist()
    x1, y1 = np.nanmax(recording.keypoints, axis=(0, 1, 2)).tolist()
    base = Recipe(
        "mice7",
        "",
        (x0, y0, x1, y1),
        model=ModelSettings(layers=0, head_layers=0, head_channels=0, cells=(CellSettings(48, 48, 2),), dropout=0.3),
        augment=AugmentSettings(rotate=True, mirror=True),
        train=TrainSettings(
            epochs=30, evaluate_every=30, patience=30, select="last", batch=4, crop_frames=300, warmup_frames=30,
            frame_stride=2, learning_rate=3e-3, threads=1, ema=0.98, warmup_steps=20,
        ),
    )  # fmt: skip
    unplaced = tuple(group for group in GROUPS if group not in PLACES)
    ways = {"px": (), "px without places": unplaced, "body": unplaced}
    recipes = {
        way: replace(base, features=FeatureSettings(groups=groups, scale="body" if way == "body" else "px"))
        for way, groups in ways.items()
    }
    answers: dict[str, list[dict[str, Any]]] = {way: [{} for _ in range(seeds)] for way in ways}
    for seed in range(seeds):
        for way, recipe in recipes.items():
            setting = replace(recipe, train=replace(recipe.train, seed=seed))
            for fold in range(FOLDS):
                held = blocks[fold::FOLDS]
                others = [b for b in blocks if b not in held]
                say(f"mice, {way}, seed {seed}, fold {fold}")
                task = TrainingTask(setting, skeleton, recording.fps, heads, others, held)
                trial = run_trial(out / way.replace(" ", "-") / f"{seed}-{fold}", task, held)
                answers[way][seed] |= trial.probabilities
    return {
        "blocks": len(blocks), "block_s": BLOCK_S, "folds": FOLDS, "seeds": seeds,
        "scores": {w: compare.score_system(heads, blocks, answers[w], recording.fps) for w in ways},
        "body_ahead": {
            w: compare.paired_differences(heads, blocks, answers["body"], answers[w]) for w in ways if w != "body"
        },
    }  # fmt: skip


def page(result: Mapping[str, Any]) -> str:
    """The result's tables in Markdown."""
    where = result["machine"]
    parts = [
        f"# Features in px and in body lengths: {result['dataset']}",
        f"```\n{result['command']}\n```",
        f"{result['date']}, commit {result['commit'] or '-'}, {where['cpu']}, {where['cores_usable']} cores.",
        *([result["note"]] if result["note"] else []),
        f"{result['seeds']} training(s) each, with the same seeds, scored through Session; argmax, nothing tuned; the "
        "checkpoint was chosen on the same videos. Differences: body minus px, paired over videos, 95 % by bootstrap.",
    ]
    for head in result["scores"]["px"]["heads"]:
        parts.append(scores_table(f"## {head}", head, result["scores"], {"px": result["body_ahead"]}))
    rows = []
    for way, factors in result["scales"].items():
        for factor, found in factors.items():
            differ = [f"{100 * share:.2f} %" for share in found["labels_differ"].values()]
            ends = " to ".join(f"{100 * share:.1f}" for share in found["out_of_range_by_video"])
            rows.append([way, factor, *differ, f"{100 * found['out_of_range']:.1f} %", f"{ends} %"])
    heads = [f"{head}: labels that differ" for head in next(iter(result["scales"]["px"].values()))["labels_differ"]]
    columns = ["features", "scale", *heads, "out of range", "by video"]
    parts += ["## The same videos at other scales (first seed; labels are decoded)", table(columns, rows)]
    if "mice" in result:
        mice = result["mice"]
        title = f"## One video of two mice (`interact`), {mice['blocks']} blocks of {mice['block_s']:g} s"
        parts.append(scores_table(title, "interact", mice["scores"], mice["body_ahead"]))
        parts.append(f"{mice['folds']} folds of blocks, {mice['seeds']} training(s) of each; intervals over blocks.")
    return "\n\n".join(parts) + "\n"


def scores_table(title: str, head: str, scores: Mapping[str, Any], ahead: Mapping[str, Any]) -> str:
    """One head's scores by way, and by how much `body` is ahead of each other way."""
    rows = []
    for way, found in scores.items():
        by_seed = [", ".join(number(seed[key]) for seed in found["heads"][head]["seeds"]) for key in ("f1", "map")]
        than = [interval(ahead[way][head][key], "difference") if way in ahead else "" for key in ("f1", "map")]
        rows.append([way, *by_seed, *than])
    columns = ["features", "macro-F1", "mAP", "body ahead: F1", "body ahead: mAP"]
    return f"{title}\n\n{table(columns, rows)}"


if __name__ == "__main__":
    main()
