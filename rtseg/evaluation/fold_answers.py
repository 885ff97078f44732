"""Out-of-fold answers in the place of a bundle's own, where the bundle has learnt from every recording there is.

The file is held to the bundle (settings, heads, recordings) and to the data set before any of it is used; then its
probabilities are calibrated and decoded as the bundle's are. No torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rtseg.bundle.bundle import Bundle
from rtseg.bundle.provenance import content_hash, label_table, poses_hash
from rtseg.config import Recipe, from_plain, to_plain
from rtseg.errors import SettingError
from rtseg.evaluation.evaluate import (
    SplitPredictions,
    missing_share,
    one_hot,
    part_notes,
    score_predictions,
    without_nan,
)
from rtseg.evaluation.logit_scaling import Scaling, log_probabilities
from rtseg.evaluation.out_of_fold import OutOfFold, check_out_of_fold, identify, read_out_of_fold
from rtseg.inference.abstention import judge, thresholds
from rtseg.inference.classifier import Classifier
from rtseg.inference.decoding import Decoder
from rtseg.inference.predictions import Predictions, Quality
from rtseg.recordings.dataset import Dataset
from rtseg.recordings.heads import output_offsets
from rtseg.recordings.recording import IGNORE
from rtseg.recordings.sources import Item

F32 = NDArray[np.float32]
FREE = frozenset(
    {
        *("name", "description", "dataset", "decoding", "abstain", "ranges"),
        *("train.splits", "train.seed", "train.threads", "train.cache_mb"),
    }
)
"""Settings of a recipe in which a bundle may differ from the folds: none of them changes what a network learns, but for
the seed, whose own answers are taken."""
FREE_OF_LAST = frozenset({"train.evaluate_every", "train.patience", "train.patience_from", "train.select_group"})
"""The same where the last epoch is taken: they matter where evaluations choose."""
MAX_NAMES = 10
"""Recordings that an error names."""


class FoldVideo(NamedTuple):
    """One recording.

    item: its poses and labels. probs: (T, P), NaN in rows that were never answered. stretches: frames that a stream
    steps without a restart.
    """

    item: Item
    probs: F32
    stretches: list[tuple[int, int]]


@dataclass(frozen=True, eq=False)
class FoldAnswers:
    """Answers to every recording that a bundle was trained on, by networks of its recipe that never saw it.

    bundle: as it was when they were read. splits: of the data set, as the bundle learnt from them. videos: in their
    order. hashes: recording -> `poses_hash`. facts: of the file, for reports.
    """

    bundle: Bundle
    splits: tuple[str, ...]
    videos: tuple[FoldVideo, ...]
    hashes: Mapping[str, str]
    facts: Mapping[str, Any]

    @property
    def split(self) -> str:
        """What a report calls these recordings."""
        return f"{' and '.join(self.splits)}, out of fold"

    @property
    def note(self) -> str:
        """What a reader of scores must know."""
        few, many = self.facts["trained_on"]
        n_trained = few if few == many else f"{few} to {many}"
        return (
            "Out of fold: every recording was answered by a network of the same recipe that was trained without it, on "
            f"{n_trained} recordings ({self.facts['folds']} folds). The bundle itself has learnt from all "
            f"{len(self.videos)}: what it answers about them would say nothing of others."
        )

    def calibrated(self, bundle: Bundle) -> Iterator[tuple[FoldVideo, F32]]:
        """Every video with its probabilities (T, P) behind the calibration of `bundle`: ours, or ours calibrated anew.

        Raises SettingError where that takes more than probabilities to apply.
        """
        scalings = _scalings(bundle)
        for video in self.videos:
            yield video, _calibrated(video.probs, scalings)

    def predictions(self, bundle: Bundle) -> SplitPredictions:
        """What `predict_split` would give of these recordings if `bundle` had not learnt from them. As `calibrated`."""
        offsets, found = output_offsets(bundle.heads), SplitPredictions.empty(list(bundle.heads))
        for video, probs in self.calibrated(bundle):
            labels = decoded(bundle, video, probs)
            recording = video.item.recording
            for column, head in enumerate(bundle.heads):
                if head.name not in video.item.labels:
                    continue
                truth = video.item.labels[head.name].frames
                found.videos[head.name].append((probs[:, offsets[column] : offsets[column + 1]], truth))
                found.decoded[head.name].append((one_hot(labels[:, column], head), truth))
                found.missing[head.name].append(missing_share(recording))
                found.names[head.name].append(recording.name)
        return found

    def stream_answers(self, classifier: Classifier) -> Iterator[tuple[Item, Predictions]]:
        """Every recording as a stream's answers: flags are the bundle's own, probabilities and labels out of fold."""
        bundle = classifier.bundle
        for video, probs in self.calibrated(bundle):
            own, labels = classifier.run(video.item.recording), decoded(bundle, video, probs)
            rows = own.seq - video.item.recording.first_seq
            answered = ~np.isnan(probs[rows, 0])
            rows = rows[answered]
            unsure, flags = np.empty((len(rows), len(bundle.heads)), np.bool_), np.empty(len(rows), np.int32)
            below = thresholds(bundle.heads, bundle.abstain_below)
            judge(
                probs[rows], np.array(output_offsets(bundle.heads), np.int64), below, int(Quality.UNSURE), unsure, flags
            )
            yield (
                video.item,
                replace(
                    own,
                    seq=own.seq[answered],
                    probs=probs[rows],
                    labels=labels[rows],
                    quality=own.quality[answered] & ~np.int32(Quality.UNSURE) | flags,
                    unsure=unsure,
                    t_source_ns=None if own.t_source_ns is None else own.t_source_ns[answered],
                    missing=None if own.missing is None else own.missing[answered],
                ),
            )

    def evaluate(self, bundle: Bundle, dataset: Dataset) -> dict[str, Any]:
        """`evaluate`'s report on these answers, with `out_of_fold`: the file's facts. bundle: as `calibrated`."""
        remarks = [*part_notes(dataset, self.splits), self.note]
        report = score_predictions(
            bundle, dataset, self.split, self.predictions(bundle), engine="out of fold", remarks=remarks
        )
        return report | {"out_of_fold": dict(self.facts)}


def read_fold_answers(
    bundle: Bundle, dataset: Dataset, path: Path, progress: Callable[[str], None] = lambda _: None
) -> FoldAnswers:
    """The answers that `rtseg crossvalidate` wrote, held to a bundle and to the data set as it is read now.

    Raises SettingError where the file is of another recipe, seed, head, data set or rate, or answers other recordings
    than those that the bundle was trained on; and as `check_out_of_fold`.
    """
    answers = read_out_of_fold(path)
    recipe = _recipe_of(bundle)
    _check_settings(recipe, answers, path)
    _check_names(bundle, dataset, answers, path)
    if recipe.train.seed not in answers.seeds:
        held = ", ".join(map(str, answers.seeds))
        raise SettingError(f"{path}: expected answers of the bundle's seed {recipe.train.seed}, got those of {held}")
    probabilities = answers.probabilities[answers.seeds.index(recipe.train.seed)]
    items = list(_read(dataset, recipe.train.splits, progress))
    data = identify(
        dataset.name, dataset.skeleton, dataset.fps, dataset.heads, (_Labelled.of(item, dataset) for item in items)
    )
    check_out_of_fold(answers, data, path)
    _check_trained_on(bundle, dataset, items, path)
    sizes = [len(fold.trained_on) for fold in answers.folds]
    facts = {
        "system": answers.system,
        "recipe": answers.recipe,
        "seed": recipe.train.seed,
        "folds": len(answers.folds),
        "trained_on": [min(sizes), max(sizes)],
    }
    return FoldAnswers(
        bundle,
        tuple(recipe.train.splits),
        tuple(_video(item, probabilities[item.recording.name], bundle, answers, path) for item in items),
        {item.recording.name: poses_hash(item.recording.select(bundle.skeleton).keypoints) for item in items},
        facts,
    )


def evaluate_folds(
    bundle: Bundle, dataset: Dataset, path: Path, progress: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """`FoldAnswers.evaluate` of a file. Raises as `read_fold_answers`."""
    return read_fold_answers(bundle, dataset, path, progress).evaluate(bundle, dataset)


def decoded(bundle: Bundle, video: FoldVideo, probs: F32) -> NDArray[np.int16]:
    """Labels (T, H) of calibrated probabilities by the bundle's decoder, IGNORE where there is no answer.

    As a stream's, they begin anew behind a gap.
    """
    decoder = Decoder(tuple(output_offsets(bundle.heads)), bundle.decoding)
    labels = np.full((len(probs), len(bundle.heads)), IGNORE, np.int16)
    for start, stop in video.stretches:
        stop = max(start, stop - bundle.lookahead_frames)
        answered = np.ascontiguousarray(probs[start:stop])
        events = np.empty((len(answered), len(bundle.heads)), np.bool_)
        slots = np.zeros(len(answered), np.int32)
        decoder.step(answered, slots, decoder.init_state(1), labels[start:stop], events)
    return labels


class _Labelled(NamedTuple):
    """An item as `identify` reads it, and as cross-validation did: in the data set's skeleton and order of heads."""

    name: str
    keypoints: F32
    confidence: F32
    labels: NDArray[np.int16]
    absent: NDArray[np.bool_] | None

    @classmethod
    def of(cls, item: Item, dataset: Dataset) -> _Labelled:
        one = item.recording
        return cls(one.name, one.keypoints, one.confidence, label_table(item, dataset.heads), one.absent)


def _recipe_of(bundle: Bundle) -> Recipe:
    plain = bundle.provenance.get("recipe")
    if not plain or not bundle.provenance.get("training"):
        raise SettingError(
            f"bundle {bundle.name!r} does not say by which recipe and on which recordings it was trained, so nothing "
            "tells whether these answers are its recipe's; make it with 'rtseg train'"
        )
    return from_plain(plain, Recipe, where=f"bundle {bundle.name!r}: provenance: recipe")


def _check_settings(recipe: Recipe, answers: OutOfFold, path: Path) -> None:
    """Raise SettingError for folds that were trained by other settings than the bundle."""
    if answers.settings is None:
        raise SettingError(
            f"{path}: does not say by which settings its folds were trained: an older rtseg wrote it, or it is of no "
            "recipe. Run 'rtseg crossvalidate' again; what is trained already is kept in its --runs"
        )
    folds = from_plain(answers.settings, Recipe, where=f"{path}: settings")
    free = FREE | FREE_OF_LAST if recipe.train.select == folds.train.select == "last" else FREE
    # As a manifest holds them, whose floats are rounded.
    ours, theirs = (dict(_flat(without_nan(to_plain(one)))) for one in (recipe, folds))
    differing = [
        f"{key} = {theirs.get(key)!r}, the bundle's {ours.get(key)!r}"
        for key in sorted({*ours, *theirs})
        if ours.get(key) != theirs.get(key) and not any(key == one or key.startswith(f"{one}.") for one in free)
    ]
    if differing:
        raise SettingError(
            f"{path}: its folds were trained by other settings than the bundle: {'; '.join(differing)}. Run "
            "'rtseg crossvalidate' with the bundle's recipe (and the same --set)"
        )


def _flat(plain: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings as section.key and value."""
    for key, value in plain.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value


def _check_names(bundle: Bundle, dataset: Dataset, answers: OutOfFold, path: Path) -> None:
    """Raise SettingError for another data set than the bundle's, or answers to other recordings than it learnt from."""
    if (dataset.heads, dataset.skeleton, dataset.fps) != (bundle.heads, bundle.skeleton, bundle.fps):
        raise SettingError(
            f"dataset {dataset.name!r} has other heads, animals, keypoints or frames per second than bundle "
            f"{bundle.name!r} was trained with; name the data set that it was trained on"
        )
    trained, answered = set(bundle.provenance["training"]), set(answers.fold_of)
    if extra := answered - trained:
        raise SettingError(
            f"{path}: answers {len(extra)} recordings that the bundle was not trained on: {_some(extra)}. "
            "Cross-validate the splits that it learns from (--split), or train it on these as well (train.splits)"
        )
    if lacking := trained - answered:
        raise SettingError(
            f"{path}: has no answers to {len(lacking)} recordings that the bundle was trained on: {_some(lacking)}. "
            "Cross-validate all splits that it learns from (--split)"
        )


def _check_trained_on(bundle: Bundle, dataset: Dataset, items: list[Item], path: Path) -> None:
    """Raise SettingError for a recording whose poses or labels are others than those that the bundle learnt from."""
    known = bundle.provenance["training"]
    for item in items:
        name = item.recording.name
        if known.get(name) != content_hash(item.recording.keypoints, label_table(item, dataset.heads)):
            raise SettingError(
                f"{name}: bundle {bundle.name!r} was trained on other poses or labels of it than {path} answers and "
                f"dataset {dataset.name!r} has now; train the bundle again"
            )


def _some(names: set[str]) -> str:
    listed = ", ".join(sorted(names)[:MAX_NAMES])
    return f"{listed} ..." if len(names) > MAX_NAMES else listed


def _read(dataset: Dataset, splits: tuple[str, ...], progress: Callable[[str], None]) -> Iterator[Item]:
    for split in splits:
        for item in dataset.items(split):
            progress(item.recording.name)
            yield item
    dataset.warnings.tell(progress)


def _video(item: Item, held: F32, bundle: Bundle, answers: OutOfFold, path: Path) -> FoldVideo:
    """Rows that were never answered, which the file fills with the answer before them, are NaN again."""
    stretches = [(start, stop) for start, stop in item.recording.stretches(bundle.gaps.fill_frames)]
    answered = np.zeros(len(held), np.bool_)
    for start, stop in stretches:
        answered[start : max(start, stop - bundle.lookahead_frames)] = True
    name = item.recording.name
    if answers.held[name] != (unanswered := int((~answered).sum())):
        raise SettingError(
            f"{path}: {name}: {answers.held[name]} frames had no answer, where the bundle's delay and gaps leave "
            f"{unanswered}; run 'rtseg crossvalidate' again"
        )
    return FoldVideo(item, np.where(answered[:, None], held, np.float32(np.nan)), stretches)


def _scalings(bundle: Bundle) -> list[tuple[int, int, Scaling]]:
    """Where each head's outputs begin and end, and its calibration."""
    found = []
    offsets = output_offsets(bundle.heads)
    for head, start, stop in zip(bundle.heads, offsets, offsets[1:], strict=False):
        scale, shift = (
            bundle.weights[f"head.{head.name}.calibration.{kind}"].astype(np.float64) for kind in ("scale", "shift")
        )
        # Probabilities give a frame's logits up to a constant, which different scales would not leave one.
        if np.ptp(scale):
            raise SettingError(
                f"bundle {bundle.name!r}, head {head.name!r}: a vector scaling takes logits, of which out-of-fold "
                "answers hold the probabilities; calibrate it with --method temperature"
            )
        found.append((start, stop, Scaling(scale, shift)))
    return found


def _calibrated(probs: F32, scalings: list[tuple[int, int, Scaling]]) -> F32:
    """(T, P) probabilities behind each head's scaling; those without one keep their bits, and NaN stays NaN."""
    result = probs.copy()
    for start, stop, scaling in scalings:
        if (scaling.scale != 1).any() or scaling.shift.any():
            result[:, start:stop] = scaling.probabilities(log_probabilities(probs[:, start:stop]))
    return result
