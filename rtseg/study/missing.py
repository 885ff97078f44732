"""How robust a bundle is: scores by what is missing in the recordings as they are, and under faults put in on purpose.

Everything goes through the Session that serves; lost frames go through its gap rule. No torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rtseg.evaluation.bootstrap import RESAMPLES, bootstrap, paired_bootstrap
from rtseg.evaluation.evaluate import common_heads, counting_seen, part_notes, seen_notes, unlike_notes, unlike_training
from rtseg.evaluation.metrics import Video, answered
from rtseg.inference.classifier import Classifier, load
from rtseg.recordings.dataset import load_dataset
from rtseg.recordings.heads import Head
from rtseg.recordings.recording import IGNORE, Recording
from rtseg.recordings.sources import Item
from rtseg.study import faults, results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = "missing"
Probs = NDArray[np.float32]
Predict = Callable[[Classifier, Recording, float, np.random.Generator], Probs]


@dataclass(frozen=True)
class Fault:
    """A fault at rising levels. predict: probabilities (T, P) of a recording with that much of it."""

    name: str
    unit: str
    levels: tuple[float, ...]
    predict: Predict


def _changed(change: Callable[[Recording, float, np.random.Generator], Recording]) -> Predict:
    def predict(classifier: Classifier, recording: Recording, level: float, rng: np.random.Generator) -> Probs:
        return classifier.run(change(recording, level, rng)).by_frame(recording).probs

    return predict


def _lost(classifier: Classifier, recording: Recording, level: float, rng: np.random.Generator) -> Probs:
    return predict_with_gaps(classifier, recording, faults.frames_that_arrive(recording, level, rng))


SHARES = (0.1, 0.2, 0.4, 0.6)
FAULTS = (
    Fault(
        "points missing", "share of every point's frames, in stretches of 0.5 s", SHARES, _changed(faults.drop_points)
    ),
    Fault("one animal missing", "share of frames, in stretches of 2 s", SHARES, _changed(faults.drop_animal)),
    Fault("identities swapped", "times in 10 minutes", (50, 100, 500), _changed(faults.swap_identities)),
    Fault("position noise", "px, standard deviation", (1, 2, 4, 8), _changed(faults.jitter)),
    Fault("frames lost", "share of frames, some 3 on end", (0.01, 0.05, 0.1, 0.2), _lost),
)


def predict_with_gaps(classifier: Classifier, recording: Recording, arrived: NDArray[np.bool_]) -> Probs:
    """Probabilities (T, P) when only the frames where `arrived` (T,) is True reach the model, with their true numbers.

    A frame that is never answered (the stream restarted after it) keeps the last answer before it, as a listener would.
    """
    bundle = classifier.bundle
    matched = recording.select(bundle.skeleton)
    session = classifier.open(recording.name)
    probs = np.full((len(matched), bundle.architecture.n_outputs), np.nan, np.float32)
    try:
        for seq in matched.came[arrived[matched.came]].tolist():
            frame = classifier.frame(matched.keypoints[seq], matched.confidence[seq], seq=seq)
            # Answers about filled frames come with the next frame that arrives, each with its own number.
            for prediction in session.step(frame):
                probs[prediction.seq] = prediction.outputs
        for prediction in session.finish():
            probs[prediction.seq] = prediction.outputs
    finally:
        session.close()
    known = ~np.isnan(probs[:, 0])
    # For every frame the last one up to it that was answered; -1 before the first.
    last = np.maximum.accumulate(np.where(known, np.arange(len(probs)), -1))
    held: Probs = np.where((last >= 0)[:, None], probs[last], np.nan)
    return held


def study_missing(
    bundle: Path | str,
    dataset_file: Path | str,
    out: Path,
    *,
    root: Path | None = None,
    split: str = "validation",
    engine: str = "auto",
    seed: int = 0,
    kinds: Sequence[Fault] = FAULTS,
    resamples: int = RESAMPLES,
    command: str = "",
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Scores of a bundle under faults, written as OUT/missing.json, .md and .png.

    seed: of the faults; a video gets the same ones whatever else runs. Clean recordings are the reference, to which
    every level is compared by a paired bootstrap over videos. Raises what `evaluate` raises.
    """
    classifier = load(bundle, engine)
    dataset = load_dataset(dataset_file, root)
    heads = common_heads(classifier.bundle, dataset)
    levels = [(fault, level) for fault in kinds for level in fault.levels]
    items: list[Item] = []
    clean: list[Probs] = []
    faulty: list[list[Probs]] = [[] for _ in levels]
    seen, unlike = list[str](), dict[str, str]()
    check = counting_seen(classifier.bundle, seen)
    for number, item in enumerate(dataset.items(split)):
        progress(item.recording.name)
        check(item)
        items.append(item)
        answers = classifier.run(item.recording)
        if told := unlike_training(classifier.bundle, item.recording, answers):
            unlike[item.recording.name] = told
        clean.append(answers.by_frame(item.recording).probs)
        for place, (fault, level) in enumerate(levels):
            # A generator for each video and level: the faults do not depend on which others are studied.
            rng = np.random.default_rng([seed, number, place])
            faulty[place].append(fault.predict(classifier, item.recording, level, rng))
    dataset.warnings.tell(progress)
    simulated = classifier.bundle.simulated or dataset.simulated
    n_videos = {head.name: len(answered(_videos(classifier, head, clean, items))) for head in heads}
    result = results.preamble("rtseg study missing", command, f"{dataset.name}, {split}", simulated, n_videos)
    result |= {"bundle": classifier.bundle.name, "model": classifier.bundle.hash, "seed": seed, "heads": {}}
    result["notes"] += (
        part_notes(dataset, [split]) + seen_notes("The bundle", seen) + unlike_notes("the bundle", unlike)
    )
    for head in heads:
        progress(f"scoring {head.name}")
        reference = _videos(classifier, head, clean, items)
        entry: dict[str, Any] = {"clean": bootstrap(reference, head, resamples), "as_it_is": {}, "faults": {}}
        for name, groups in _groups(items).items():
            entry["as_it_is"][name] = [_part(head, reference, items, *group, resamples) for group in groups]
        for (fault, level), probs in zip(levels, faulty, strict=True):
            videos = _videos(classifier, head, probs, items)
            scores: dict[str, Any] = {"level": level, **bootstrap(videos, head, resamples)}
            scores["against_clean"] = paired_bootstrap(videos, reference, head, resamples)
            entry["faults"].setdefault(fault.name, []).append(scores)
        result["heads"][head.name] = entry
    result["units"] = {fault.name: fault.unit for fault in kinds}
    return results.write_study(out, NAME, result, _pages(result), _figure(result))


def _videos(classifier: Classifier, head: Head, probs: Sequence[Probs], items: Sequence[Item]) -> list[Video]:
    """One head's probabilities and labels of every recording that labels it."""
    heads = classifier.bundle.heads
    at = [h.name for h in heads].index(head.name)
    here = slice(classifier.bundle.architecture.offsets[at], classifier.bundle.architecture.offsets[at + 1])
    return [
        (p[:, here], i.labels[head.name].frames) for p, i in zip(probs, items, strict=True) if head.name in i.labels
    ]


Group = tuple[str, list[NDArray[np.bool_]]]
"""A name, and for every recording which frames (T,) belong to it."""


def _groups(items: Sequence[Item]) -> dict[str, list[Group]]:
    """Frames by the share of their points that is missing, and by how many animals are wholly missing."""
    gone = [np.isnan(item.recording.keypoints[..., 0]) for item in items]  # each (T, A, K)
    shares = [g.mean(axis=(1, 2)) for g in gone]
    groups: list[Group] = [("none", [s == 0 for s in shares])]
    for low, high in ((0.0, 0.2), (0.2, 0.4), (0.4, 0.6), (0.6, 0.8), (0.8, 1.0)):
        groups.append((f"{low:.0%} to {high:.0%}", [(s > low) & (s <= high) for s in shares]))
    absent = [g.all(axis=2).sum(axis=1) for g in gone]
    animals = [(str(n), [a == n for a in absent]) for n in range(gone[0].shape[1] + 1)] if gone else []
    return {"share of points missing": groups, "animals wholly missing": animals}


def _part(
    head: Head, videos: Sequence[Video], items: Sequence[Item], name: str, masks: list[NDArray[np.bool_]], n: int
) -> dict[str, Any]:
    """Scores of some frames alone."""
    kept = [mask for mask, item in zip(masks, items, strict=True) if head.name in item.labels]
    part = [(p, np.where(mask, y, IGNORE).astype(np.int16)) for (p, y), mask in zip(videos, kept, strict=True)]
    return {"frames_are": name, "frames": sum(int((y != IGNORE).sum()) for _, y in part), **bootstrap(part, head, n)}


def _pages(result: dict[str, Any]) -> list[str]:
    pages = [
        f"Bundle `{result['bundle']}`, argmax of raw probabilities, through Session. Intervals: 95 %, bootstrap over "
        "videos; differences: paired with the clean recordings, over the same videos."
    ]
    for name, head in result["heads"].items():
        rows = [["clean", "", results.interval(head["clean"]["f1"]), results.interval(head["clean"]["map"]), "", ""]]
        for fault, levels in head["faults"].items():
            for scores in levels:
                than = scores["against_clean"]
                row = [fault, f"{scores['level']:g}", results.interval(scores["f1"]), results.interval(scores["map"])]
                rows.append([*row, *(results.interval(than[key], "difference") for key in ("f1", "map"))])
        pages += [
            f"## {name}",
            results.table(("fault", "level", "macro-F1", "mAP", "F1 against clean", "mAP against clean"), rows),
        ]
        for kind, groups in head["as_it_is"].items():
            parts = [
                [g["frames_are"], str(g["frames"]), results.interval(g["f1"]), results.interval(g["map"])]
                for g in groups
            ]
            pages.append(results.table((f"the data as it is: {kind}", "frames", "macro-F1", "mAP"), parts))
    units = [f"- {fault}: {unit}" for fault, unit in result["units"].items()]
    return [*pages, "Levels:\n" + "\n".join(units)]


def _figure(result: dict[str, Any]) -> Figure:
    from rtseg.study import plots

    names, kinds = plots.drawn_heads(result["heads"]), list(result["units"])
    figure, grid = plots.panels(len(names), len(kinds) + 1)
    for name, axes in zip(names, grid, strict=True):
        head = result["heads"][name]
        groups = [g for g in head["as_it_is"]["share of points missing"] if g["frames"]]
        for key, label, color in plots.METRICS:
            for kind, axis in zip(kinds, axes, strict=False):
                levels = head["faults"][kind]
                points = [0.0, *(s["level"] for s in levels)]
                plots.curve(axis, points, [head["clean"][key], *(s[key] for s in levels)], color, label)
            plots.curve(axes[-1], range(len(groups)), [g[key] for g in groups], color, label)
        for kind, axis in zip(kinds, axes, strict=False):
            axis.set_title(f"{name}: {kind}", fontsize="small")
            axis.set_xlabel(result["units"][kind].split(",")[0], fontsize="small")
        axes[-1].set_title(f"{name}: points missing, as it is", fontsize="small")
        axes[-1].set_xticks(range(len(groups)), [g["frames_are"] for g in groups], rotation=30, fontsize="x-small")
    plots.legend(figure, grid[0][0])
    return figure
