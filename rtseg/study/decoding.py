"""How to decode a bundle's probabilities into bouts: chosen on validation videos, measured on videos left out.

The choice maximises segmental F1@50 among the candidates that cost at most `max_loss` of frame macro-F1. The score to
believe is cross-fitted: each video is decoded by what was chosen on all the others. Raw argmax is reported beside it.
No torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rtseg import config
from rtseg.config import DecodingSettings
from rtseg.errors import SettingError
from rtseg.evaluation.bootstrap import RESAMPLES, paired_bootstrap
from rtseg.evaluation.evaluate import common_heads, counting_seen, part_notes, seen_notes, unlike_notes, unlike_training
from rtseg.evaluation.fold_answers import FoldAnswers, read_fold_answers
from rtseg.evaluation.metrics import Video, answered, score_head
from rtseg.inference.classifier import Classifier, load
from rtseg.recordings.dataset import Dataset, load_dataset
from rtseg.recordings.heads import Head, output_offsets
from rtseg.recordings.recording import IGNORE
from rtseg.recordings.sources import Item
from rtseg.study import results
from rtseg.study.candidates import GRID, CandidateTable, candidate_table, choose_setting, one_hot

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = "decoding"
MAX_LOSS = 0.005


def study_decoding(
    bundle: Path | str,
    dataset_file: Path | str,
    out: Path,
    *,
    root: Path | None = None,
    split: str = "validation",
    heads: Sequence[str] = (),
    engine: str = "auto",
    out_of_fold: Path | None = None,
    max_loss: float = MAX_LOSS,
    grid: Sequence[DecodingSettings] = GRID,
    resamples: int = RESAMPLES,
    command: str = "",
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Choose the decoding of a bundle, written as OUT/decoding.json, .md and .png.

    heads: which of them decide the setting that all share (none = all). out_of_fold: a file of answers to the
    recordings that the bundle was trained on, which take the place of its own to a split. Raises SettingError for an
    unknown head or fewer than two videos, and what `evaluate` or `read_fold_answers` raises.
    """
    classifier = load(bundle, engine)
    dataset = load_dataset(dataset_file, root)
    known = {head.name: head for head in common_heads(classifier.bundle, dataset)}
    unknown = [name for name in heads if name not in known]
    if unknown:
        raise SettingError(f"no head {', '.join(unknown)} to choose by; there are: {', '.join(known)}")
    if out_of_fold is None:
        answers = _answers_of_split(classifier, dataset, split, progress)
    else:
        answers = _answers_of_folds(read_fold_answers(classifier.bundle, dataset, out_of_fold, progress), dataset)
    names = list(answers.videos)
    videos = {name: [by_head[name] for by_head in answers.videos.values()] for name in known}
    if len(names) < 2:
        raise SettingError(
            f"choosing on videos and measuring on others takes two or more, {answers.split!r} has {len(names)}"
        )
    simulated = classifier.bundle.simulated or dataset.simulated
    n_videos = {name: len(answered(some)) for name, some in videos.items()}
    label = f"{dataset.name}, {answers.split}"
    result = results.preamble("rtseg study decoding", command, label, simulated, n_videos)
    result |= {"bundle": classifier.bundle.name, "model": classifier.bundle.hash, "max_loss": max_loss}
    result |= {"videos": names, "heads": {}}
    result["notes"] += answers.notes
    if answers.out_of_fold is not None:
        result["out_of_fold"] = answers.out_of_fold
    tables: dict[str, CandidateTable] = {}
    for name, head in known.items():
        progress(f"decoding {name}")
        tables[name] = candidate_table(head, videos[name], grid)
        result["heads"][name] = _head_entry(tables[name], dataset.fps, max_loss, resamples)
    # One setting for all heads, since a bundle has one decoder.
    deciding = [tables[name] for name in (heads or known)]
    chosen = grid[choose_setting(deciding, range(len(names)), max_loss)]
    result["shared"] = {
        "by": list(heads or known),
        "chosen": config.to_plain(chosen),
        "current": config.to_plain(classifier.bundle.decoding),
    }
    return results.write_study(out, NAME, result, _pages(result), _figure(result))


@dataclass(frozen=True, eq=False)
class _Answers:
    """What candidates decode. videos: recording -> head -> probabilities and labels of the frames that have an answer.

    notes: what to know about them. out_of_fold: where they come from, if not from the bundle itself.
    """

    split: str
    videos: dict[str, dict[str, Video]]
    notes: list[str]
    out_of_fold: dict[str, Any] | None = None


def _answers_of_split(
    classifier: Classifier, dataset: Dataset, split: str, progress: Callable[[str], None]
) -> _Answers:
    """The bundle's own."""
    found: dict[str, dict[str, Video]] = {}
    seen, unlike = list[str](), dict[str, str]()
    check = counting_seen(classifier.bundle, seen)
    heads = common_heads(classifier.bundle, dataset)
    for item in dataset.items(split):
        check(item)
        progress(item.recording.name)
        # Run once: every candidate decodes these probabilities.
        answers = classifier.run(item.recording)
        if told := unlike_training(classifier.bundle, item.recording, answers):
            unlike[item.recording.name] = told
        # Frames that a gap left without an answer have no probabilities to decode.
        rows = answers.seq - item.recording.first_seq
        found[item.recording.name] = {h.name: (answers.of(h.name), _labels(item, h.name)[rows]) for h in heads}
    dataset.warnings.tell(progress)
    notes = part_notes(dataset, [split]) + seen_notes("The bundle", seen) + unlike_notes("the bundle", unlike)
    return _Answers(split, found, notes)


def _answers_of_folds(folds: FoldAnswers, dataset: Dataset) -> _Answers:
    """Those out of fold, calibrated as the bundle is."""
    found: dict[str, dict[str, Video]] = {}
    bundle = folds.bundle
    offsets = output_offsets(bundle.heads)
    for video, probs in folds.calibrated(bundle):
        rows = ~np.isnan(probs[:, 0])
        found[video.item.recording.name] = {
            head.name: (np.ascontiguousarray(probs[rows, start:stop]), _labels(video.item, head.name)[rows])
            for head, start, stop in zip(bundle.heads, offsets, offsets[1:], strict=False)
        }
    notes = [*part_notes(dataset, folds.splits), folds.note]
    return _Answers(folds.split, found, notes, dict(folds.facts))


def _labels(item: Item, head: str) -> NDArray[np.int16]:
    """Labels (T,) of a head; a file that says nothing about it masks all its frames."""
    # Masked, not left out: all heads then have the same videos under the same numbers.
    return item.labels[head].frames if head in item.labels else np.full(len(item.recording), IGNORE, np.int16)


def _head_entry(table: CandidateTable, fps: float, max_loss: float, resamples: int) -> dict[str, Any]:
    """Raw argmax, what is chosen on all videos, and what each video gets by the choice on the others."""
    head, videos = table.head, table.videos
    truths = [y for _, y in videos]
    everyone = range(len(videos))
    chosen = choose_setting([table], everyone, max_loss)
    in_sample = one_hot(head, [table.decoded(chosen, v) for v in everyone], truths)
    # A video's own labels must not choose the setting that it is scored with.
    by_others = [choose_setting([table], [w for w in everyone if w != v], max_loss) for v in everyone]
    cross_fitted = one_hot(head, [table.decoded(setting, v) for v, setting in enumerate(by_others)], truths)
    plain = [config.to_plain(setting) for setting in table.settings]
    scores, lost = table.segmental_f1(everyone), table.f1_lost(everyone)
    return {
        "raw": _summary(head, videos, fps),
        "chosen": plain[chosen],
        "in_sample": _summary(head, in_sample, fps),
        "cross_fitted": _summary(head, cross_fitted, fps),
        "cross_fitted_choices": [plain[setting] for setting in by_others],
        "f1_against_raw": paired_bootstrap(cross_fitted, videos, head, resamples)["f1"],
        "grid": [
            {"settings": setting, "segmental_f1_50": float(score), "macro_f1_lost": float(loss)}
            for setting, score, loss in zip(plain, scores, lost, strict=True)
        ],
    }


def _summary(head: Head, videos: Sequence[Video], fps: float) -> dict[str, Any]:
    score = score_head(head, videos, fps)
    return {
        "macro_f1": score.macro_f1,
        "segmental_f1_50": score.segmental_f1["50"],
        "edit": score.edit,
        "onset_delay_s": {name: c.onset_delay_s for name, c in score.classes.items()},
        "false_starts_per_minute": {name: c.false_starts_per_minute for name, c in score.classes.items()},
    }


def toml(settings: dict[str, Any]) -> str:
    """The section of a recipe."""
    return "\n".join(["[decoding]", *(f"{key} = {value}" for key, value in settings.items())])


def _pages(result: dict[str, Any]) -> list[str]:
    asked = "answered out of fold" if "out_of_fold" in result else "through Session"
    pages = [
        f"Bundle `{result['bundle']}`, {asked}. Chosen: the highest segmental F1@50 that costs at most "
        f"{result['max_loss']} of frame macro-F1. Cross-fitted: every video decoded by what was chosen on the "
        "others; this is the number to believe."
    ]
    columns = ("decoding", "macro-F1", "against raw", "segmental F1@50", "edit", "onset delay, s", "false starts/min")
    for name, head in result["heads"].items():
        against = results.interval(head["f1_against_raw"], "difference")
        rows = [
            ["raw argmax", *_cells(head["raw"], "")],
            ["hysteresis, cross-fitted", *_cells(head["cross_fitted"], against)],
            [f"hysteresis, in sample: {_short(head['chosen'])}", *_cells(head["in_sample"], "")],
        ]
        pages += [f"## {name}", results.table(columns, rows)]
    by = ", ".join(result["shared"]["by"])
    return [
        *pages,
        f"## For the recipe (one setting for all heads, chosen by {by})",
        f"```\n{toml(result['shared']['chosen'])}\n```",
    ]


def _cells(summary: dict[str, Any], against: str) -> list[str]:
    delays, starts = summary["onset_delay_s"].values(), summary["false_starts_per_minute"].values()
    return [
        results.number(summary["macro_f1"]),
        against,
        results.number(summary["segmental_f1_50"], 1),
        results.number(summary["edit"], 1),
        " / ".join(results.number(d, 2) for d in delays),
        " / ".join(results.number(s, 2) for s in starts),
    ]


def _short(settings: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in settings.items())


def _figure(result: dict[str, Any]) -> Figure:
    """Every candidate: what it costs in frame F1 and what it brings in bouts."""
    from rtseg.study import plots

    names = plots.drawn_heads(result["heads"])
    figure, grid = plots.panels(1, len(names), width=4.2, height=3.6)
    for name, axis in zip(names, grid[0], strict=True):
        head = result["heads"][name]
        cost = [c["macro_f1_lost"] for c in head["grid"]]
        gain = [c["segmental_f1_50"] for c in head["grid"]]
        axis.scatter(cost, gain, s=6, color=plots.F1_COLOR, alpha=0.35, linewidth=0, label="hysteresis, every setting")
        honest = head["cross_fitted"]
        axis.scatter(
            [head["raw"]["macro_f1"] - honest["macro_f1"]],
            [honest["segmental_f1_50"]],
            s=45,
            color=plots.F1_COLOR,
            edgecolor="black",
            label="hysteresis, cross-fitted",
        )
        axis.scatter([0], [head["raw"]["segmental_f1_50"]], s=45, color="black", marker="x", label="raw argmax")
        axis.axvline(result["max_loss"], color=plots.GREY, linewidth=0.8)
        axis.set_xlim(-0.03, 0.06)
        axis.set_xlabel("macro-F1 lost against raw argmax")
        axis.set_ylabel("segmental F1@50")
        axis.set_title(name, fontsize="small")
    plots.legend(figure, grid[0][0])
    return figure
