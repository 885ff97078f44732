"""Calibration of a bundle's probabilities on recordings that training never saw, measured out of fold.

Recordings go through Session; of a bundle that has learnt from all of them, out-of-fold answers take their place
(`fold_answers`). Written are the bundle's two calibration tensors per head, its scores and their origin,
and a report; the rest of the network is not changed. Scaling after training: Guo et al. 2017.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import rtseg
from rtseg.bundle.bundle import Bundle, check_writable, load_bundle, save_bundle
from rtseg.bundle.network import NetworkSpec
from rtseg.bundle.provenance import check_unseen
from rtseg.config import check_abstain
from rtseg.engine.onnx.step_file import add_step
from rtseg.errors import SettingError
from rtseg.evaluation.evaluate import evaluate, manifest_scores, predict_split, unlike_notes, without_nan
from rtseg.evaluation.fold_answers import FoldAnswers, read_fold_answers
from rtseg.evaluation.logit_scaling import METHODS, Scaling, fit_scaling, log_probabilities
from rtseg.evaluation.metrics import Video, answered, macro_f1, mean_average_precision
from rtseg.evaluation.reliability import ReliabilityBins, calibration_scores, class_bins, top_label_bins
from rtseg.inference.classifier import Classifier
from rtseg.recordings.dataset import Dataset
from rtseg.recordings.heads import Head
from rtseg.recordings.sources import Item
from rtseg.system.files import write_json_atomically

FOLDS = 10
"""At most; with fewer videos each is held out once."""
REPORT, PICTURE = "calibration.json", "reliability.png"
_SOFT = 0.1
"""Logits are scaled by this while they are read: at full size, float32 probabilities of 0 would hide some."""
Logits = tuple[NDArray[np.float64], NDArray[np.int16]]
"""One video's logits (T, n classes) of a head and its labels (T,), labelled frames only."""
HeadLogits = dict[Head, list[Logits]]
"""Of every head, video by video."""


@dataclass(frozen=True, eq=False)
class HeadCalibration:
    """One head's scaling and what it does.

    scaling: the one that is stored, fitted on all videos. before, after: every video's probabilities and labels without
    a scaling, and with one that was fitted on other videos.
    """

    head: Head
    scaling: Scaling
    before: list[Video]
    after: list[Video]


def calibrate_bundle(
    folder: Path,
    dataset: Dataset,
    split: str = "validation",
    method: str = "temperature",
    *,
    out: Path,
    vector: Sequence[str] = (),
    abstain: Mapping[str, float] | None = None,
    command: str = "",
    engine: str = "auto",
    out_of_fold: Path | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Calibrate the bundle in `folder`, in place, on a split of a dataset; the report, which is also written to `out`.

    A calibration that the bundle has already is taken out first, so that doing it twice changes nothing. A head whose
    expected calibration error would grow, out of fold, gets none, and the report says so (`not_applied`). Heads of
    which the split has fewer than two videos with labels stay as they are. vector: heads that get the method `vector`,
    whatever the others get. abstain: head -> probability below which it says that it is unsure. The bundle's scores
    become those of this split. out_of_fold: a file of answers to the recordings that the bundle was trained on, which
    take the place of a split's.

    Raises SettingError for a recording that the bundle was trained on, a split without two videos with labels of any
    head, an unknown method, or one that answers out of fold do not allow, and as `read_fold_answers`; BundleError where
    `folder` holds no bundle.
    """
    if method not in METHODS:
        raise SettingError(f"method must be one of {', '.join(METHODS)}; got {method!r}")
    # Before the recordings are run, which takes long.
    check_writable(folder)
    bundle = load_bundle(folder)
    abstain_below = {**bundle.abstain_below, **(abstain or {})}
    check_abstain(abstain_below)
    _check_heads(bundle, "abstain", abstain_below)
    _check_heads(bundle, "vector", vector)
    subject: _Subject = _Split(dataset, split, engine)
    if out_of_fold is not None:
        subject = _Folds(dataset, _fold_answers(bundle, dataset, out_of_fold, method, vector, progress))
    logits, hashes = _with_two_videos(*subject.logits(bundle, progress), subject)
    # Of heads that are not in `logits`, the bundle's weights stay as they are.
    calibrations = [calibrate_head(h, videos, "vector" if h.name in vector else method) for h, videos in logits.items()]
    heads = without_nan({calibration.head.name: _measure(calibration) for calibration in calibrations})
    source = _source(subject, method, vector, hashes, heads)
    calibrated = replace(_with_scalings(bundle, calibrations, heads, source), abstain_below=abstain_below)
    # Once more with the calibrated weights: the stored scores are those of what is served.
    progress("scoring")
    model = save_bundle(replace(calibrated, scores={subject.split: _scores(calibrated, subject, heads)}), folder)
    if isinstance(bundle.architecture, NetworkSpec):
        # The weights have changed, and `save_bundle` has removed the ONNX step that was made from the old ones.
        add_step(folder)
    report = {
        "command": command,
        "rtseg": rtseg.__version__,
        "bundle": bundle.name,
        "model_before": bundle.hash,
        "model": model,
        "simulated": bundle.simulated or dataset.simulated,
        **source,
        "left_as_they_are": [h.name for h in bundle.heads if h.name not in heads],
        "heads": heads,
    }
    _write_report(report, calibrations, out)
    return report


def _check_heads(bundle: Bundle, option: str, names: Iterable[str]) -> None:
    """Raise SettingError where an option names a head that the bundle does not have."""
    unknown = set(names) - {h.name for h in bundle.heads}
    if unknown:
        known = ", ".join(h.name for h in bundle.heads)
        raise SettingError(f"{option}: bundle {bundle.name!r} has the heads {known}, not {', '.join(sorted(unknown))}")


@dataclass(frozen=True)
class _Split:
    """A split of a data set, whose recordings the bundle itself answers."""

    dataset: Dataset
    split: str
    engine: str
    out_of_fold: Mapping[str, Any] | None = None

    def logits(self, bundle: Bundle, progress: Callable[[str], None]) -> tuple[HeadLogits, dict[str, str]]:
        """And the hash of every recording by its name. Raises SettingError as `check_unseen`."""
        hashes: dict[str, str] = {}

        def check(item: Item) -> None:
            hashes[item.recording.name] = check_unseen(bundle, item)

        return read_logits(bundle, self.dataset, self.split, self.engine, progress, check), hashes

    def evaluate(self, bundle: Bundle) -> dict[str, Any]:
        """The scores of the calibrated bundle."""
        return evaluate(Classifier(bundle, self.engine), self.dataset, self.split)


@dataclass(frozen=True)
class _Folds:
    """The same of recordings that the bundle was trained on, answered out of fold."""

    dataset: Dataset
    answers: FoldAnswers

    @property
    def split(self) -> str:
        return self.answers.split

    @property
    def out_of_fold(self) -> Mapping[str, Any] | None:
        return self.answers.facts

    def logits(self, bundle: Bundle, progress: Callable[[str], None]) -> tuple[HeadLogits, dict[str, str]]:
        # Up to a constant of each frame, which a temperature takes out again.
        videos = self.answers.predictions(_uncalibrated(bundle)).videos
        found = {h: [(log_probabilities(p), y) for p, y in answered(videos[h.name])] for h in bundle.heads}
        return found, dict(self.answers.hashes)

    def evaluate(self, bundle: Bundle) -> dict[str, Any]:
        return self.answers.evaluate(bundle, self.dataset)


_Subject = _Split | _Folds


def _fold_answers(
    bundle: Bundle,
    dataset: Dataset,
    path: Path,
    method: str,
    vector: Sequence[str],
    progress: Callable[[str], None],
) -> FoldAnswers:
    if method != "temperature" or vector:
        raise SettingError(
            f"{path}: holds probabilities, from which a temperature can be found, and not the logits that a vector "
            "scaling takes; use --method temperature and no --vector"
        )
    return read_fold_answers(bundle, dataset, path, progress)


def _with_two_videos(
    logits: Mapping[Head, list[Logits]], hashes: dict[str, str], subject: _Subject
) -> tuple[HeadLogits, dict[str, str]]:
    """The heads with two or more labelled videos. Raises SettingError where none has so many."""
    # A scaling is measured on videos that it was not fitted on: one video alone can give no such measure.
    enough = {head: videos for head, videos in logits.items() if len(videos) > 1}
    if not enough:
        got = ", ".join(f"{len(videos)} of {head.name}" for head, videos in logits.items())
        raise SettingError(
            f"dataset {subject.dataset.name!r}, split {subject.split!r}: calibrating takes two or more videos with "
            f"labels of a head, to measure on others than it is fitted on; got {got}"
        )
    return enough, hashes


def _with_scalings(
    bundle: Bundle, calibrations: Sequence[HeadCalibration], heads: Mapping[str, Any], source: dict[str, Any]
) -> Bundle:
    """The bundle with the scalings that are applied; it is a calibrated one where any is. heads: `_measure` of each."""
    weights = dict(bundle.weights)
    for c in calibrations:
        weights |= _tensors(c.head, c.scaling if heads[c.head.name]["applied"] else _no_scaling(c.head))
    provenance = {key: value for key, value in bundle.provenance.items() if key != "calibration"}
    if any(head["applied"] for head in heads.values()):
        provenance["calibration"] = source
    return replace(bundle, weights=weights, provenance=provenance)


def _source(
    subject: _Subject,
    method: str,
    vector: Sequence[str],
    hashes: Mapping[str, str],
    heads: Mapping[str, Any],
) -> dict[str, Any]:
    """What a calibration was made from, and the heads that it would have made worse, with both errors."""
    source: dict[str, Any] = {"dataset": subject.dataset.name, "split": subject.split}
    source |= {"method": method, "videos": hashes}
    if subject.out_of_fold is not None:
        source["out_of_fold"] = dict(subject.out_of_fold)
    if vector:
        source["vector"] = list(vector)
    refused = {
        name: {"ece_before": head["before"]["ece"], "ece_after": head["after"]["ece"]}
        for name, head in heads.items()
        if not head["applied"]
    }
    return source | ({"not_applied": refused} if refused else {})


def _scores(calibrated: Bundle, subject: _Subject, heads: Mapping[str, Any]) -> dict[str, Any]:
    """The bundle's scores on this split, with the calibration's own out of fold. heads: `_measure` of each."""
    scores = manifest_scores(subject.evaluate(calibrated))
    # Scores on the split that the calibration was fitted on are too good: the ones out of fold count.
    scores["calibration"] = {
        name: {part: value for part, value in head["after" if head["applied"] else "before"].items() if part != "bins"}
        | {"out_of_fold": True}
        for name, head in heads.items()
    }
    return {**scores, "dataset": subject.dataset.name}


def _write_report(report: dict[str, Any], calibrations: Sequence[HeadCalibration], out: Path) -> None:
    from rtseg.evaluation.reliability_plot import draw_reliability

    out.mkdir(parents=True, exist_ok=True)
    write_json_atomically(out / REPORT, report)
    draw_reliability(
        {c.head.name: (top_label_bins(c.before), top_label_bins(c.after)) for c in calibrations},
        out / PICTURE,
        title=f"{report['bundle']} on {report['dataset']}, {report['split']}" + " (simulated)" * report["simulated"],
    )


def read_logits(
    bundle: Bundle,
    dataset: Dataset,
    split: str,
    engine: str = "auto",
    progress: Callable[[str], None] = lambda _: None,
    check: Callable[[Item], None] = lambda _: None,
) -> dict[Head, list[Logits]]:
    """The logits behind a bundle's answers to a split's labelled frames, per head that both have, video by video.

    Probabilities give a frame's logits up to a constant that all its classes share. A second run, with the logits of
    all classes but the first set to 0, gives the first one's logit, and so the constant. check: called before a
    recording is run, may raise.
    """
    soft = predict_split(Classifier(_scaled(bundle, alone=False), engine), dataset, split, progress, check)
    for note in unlike_notes("the bundle", soft.unlike):
        progress(f"warning: {note}")
    alone = predict_split(Classifier(_scaled(bundle, alone=True), engine), dataset, split)
    logits: dict[Head, list[Logits]] = {}
    for head in soft.heads:
        pairs = zip(answered(soft.videos[head.name]), answered(alone.videos[head.name]), strict=True)
        logits[head] = []
        for (p, labels), (q, _) in pairs:
            constant = log_probabilities(q[:, :1]) - log_probabilities(q[:, 1:2]) - log_probabilities(p[:, :1])
            logits[head].append(((log_probabilities(p) + constant) / _SOFT, labels))
    return logits


def calibrate_head(head: Head, videos: Sequence[Logits], method: str) -> HeadCalibration:
    """Grouped cross-fitting over two or more videos: each is measured with a scaling fitted on the others."""
    # Whole videos are held out: frames of one video are too alike to measure on.
    folds = min(FOLDS, len(videos))
    plain = _no_scaling(head)
    before = [(plain.probabilities(z), y) for z, y in videos]
    after: list[Video] = []
    for fold in range(folds):
        scaling = _fit([video for i, video in enumerate(videos) if i % folds != fold], method)
        # The scaling has not seen these videos: their scores are what it does on new ones.
        after += [(scaling.probabilities(z), y) for i, (z, y) in enumerate(videos) if i % folds == fold]
    # What is stored is fitted on all videos; the folds only measure what such a fit does.
    return HeadCalibration(head, _fit(videos, method), before, after)


def _no_scaling(head: Head) -> Scaling:
    return Scaling(np.ones(len(head.classes)), np.zeros(len(head.classes)))


def _fit(videos: Sequence[Logits], method: str) -> Scaling:
    return fit_scaling(np.concatenate([z for z, _ in videos]), np.concatenate([y for _, y in videos]), method)


def _uncalibrated(bundle: Bundle) -> Bundle:
    plain = {name: tensor for head in bundle.heads for name, tensor in _tensors(head, _no_scaling(head)).items()}
    return replace(bundle, weights={**bundle.weights, **plain})


def _scaled(bundle: Bundle, *, alone: bool) -> Bundle:
    """The bundle without a calibration, all logits times _SOFT; alone: 0 for all classes of a head but the first."""
    weights = dict(bundle.weights)
    for head in bundle.heads:
        scale = np.full(len(head.classes), _SOFT)
        scale[1:] *= not alone
        weights |= _tensors(head, Scaling(scale, np.zeros(len(scale))))
    return replace(bundle, weights=weights)


def _tensors(head: Head, scaling: Scaling) -> dict[str, NDArray[np.float32]]:
    name = f"head.{head.name}.calibration"
    return {f"{name}.scale": scaling.scale.astype(np.float32), f"{name}.shift": scaling.shift.astype(np.float32)}


def _measure(one: HeadCalibration) -> dict[str, Any]:
    """A head's part of the report."""
    head = one.head
    labels = np.concatenate([y for _, y in one.before])
    sides = {}
    for side, videos in (("before", one.before), ("after", one.after)):
        scores = calibration_scores(head, videos)
        scores |= {"f1": macro_f1(head, videos), "map": mean_average_precision(head, videos)}
        bins = {"top label": top_label_bins(videos)}
        bins |= {name: class_bins(videos, head.classes.index(name)) for name in head.scored}
        sides[side] = {**scores, "bins": {name: _plain(some) for name, some in bins.items()}}
    return {
        **sides,
        # Equal errors speak for the scaling: the log loss that it was fitted to is lower.
        "applied": not sides["after"]["ece"] > sides["before"]["ece"],
        "classes": list(head.classes),
        "scale": one.scaling.scale.tolist(),
        "shift": one.scaling.shift.tolist(),
        "videos": len(one.before),
        "folds": min(FOLDS, len(one.before)),
        "positive_frames": {name: int((labels == head.classes.index(name)).sum()) for name in head.classes},
    }


def _plain(bins: ReliabilityBins) -> dict[str, list[float]]:
    return {name: values.tolist() for name, values in bins._asdict().items()}
