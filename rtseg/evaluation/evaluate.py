"""Scores of a bundle on a dataset, through the Session that serves: what is scored is what is served.

No torch. Labels are read for the named split only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.bundle.bundle import Bundle
from rtseg.bundle.provenance import was_trained_on
from rtseg.errors import SettingError
from rtseg.evaluation.bootstrap import bootstrap, head_interval_notes, paired_bootstrap
from rtseg.evaluation.breakdown import abstention, boundary_errors, by_missing_points, confusion
from rtseg.evaluation.metrics import HeadScore, Video, answered, group_scores, score_head
from rtseg.evaluation.reliability import calibration_scores
from rtseg.features.body_size import describe_size
from rtseg.inference.classifier import Classifier
from rtseg.inference.predictions import Predictions, Quality
from rtseg.recordings.dataset import Dataset
from rtseg.recordings.heads import Head
from rtseg.recordings.recording import IGNORE, Recording
from rtseg.recordings.sources import Item

PROTOCOL = "frames pooled over videos, argmax, nothing tuned; means over scored classes, then over a group's heads"
"""CalMS21's protocol, in the words of a report."""
DETAILS = ("intervals", "calibration", "confusion", "boundaries", "missing", "abstention")
"""Parts of a report that have an entry per head, beside its scores."""
MAX_OUT_OF_RANGE = 0.5
"""Of a recording's answers: where more are flagged as unlike training, its scores are told to be of such poses."""
MAX_NAMES = 3
"""Recordings that a note describes before it says how many more there are."""


@dataclass(frozen=True, eq=False)
class SplitPredictions:
    """A bundle's predictions of a split, per head that both bundle and dataset have, video by video.

    videos: raw probabilities and labels. decoded: the decoded labels as one-hot, and labels. missing: (T,), the share
    of keypoints that are missing. names: of the videos that label the head. unlike: recording -> `unlike_training`,
    where that says anything.
    """

    heads: list[Head]
    videos: dict[str, list[Video]]
    decoded: dict[str, list[Video]]
    missing: dict[str, list[NDArray[np.float64]]]
    names: dict[str, list[str]]
    unlike: dict[str, str] = field(default_factory=dict)

    @classmethod
    def empty(cls, heads: list[Head]) -> SplitPredictions:
        """Without a video."""
        names = [head.name for head in heads]
        return cls(
            heads, {n: [] for n in names}, {n: [] for n in names}, {n: [] for n in names}, {n: [] for n in names}
        )


def predict_split(
    classifier: Classifier,
    dataset: Dataset,
    split: str,
    progress: Callable[[str], None] = lambda _: None,
    check: Callable[[Item], None] = lambda _: None,
) -> SplitPredictions:
    """Run a split through Session. check: called before each recording is run; may raise to refuse it.

    progress: called with every recording's name, and at the end with the readers' warnings.

    Heads that only one of bundle and dataset names are left out. Raises SettingError where they have no head in common
    or name other classes for the same head, RateError where they differ in frame rate.
    """
    bundle = classifier.bundle
    known = common_heads(bundle, dataset)
    columns = {h.name: bundle.heads.index(h) for h in bundle.heads}
    found = SplitPredictions.empty(known)
    # One recording in memory at a time: a dataset may be larger than the memory.
    for item in dataset.items(split):
        check(item)
        progress(item.recording.name)
        answers = classifier.run(item.recording)
        if told := unlike_training(bundle, item.recording, answers):
            found.unlike[item.recording.name] = told
        predictions = answers.by_frame(item.recording)
        missing = missing_share(item.recording)
        for head in known:
            if head.name not in item.labels:
                continue
            labels = item.labels[head.name].frames
            decoded = one_hot(predictions.labels[:, columns[head.name]], head)
            found.videos[head.name].append((predictions.of(head.name), labels))
            found.decoded[head.name].append((decoded, labels))
            found.missing[head.name].append(missing)
            found.names[head.name].append(item.recording.name)
    dataset.warnings.tell(progress)
    return found


def one_hot(labels: NDArray[np.int16], head: Head) -> NDArray[np.float32]:
    """Decoded labels (T,) as probabilities (T, n), of which the same scores can be taken; NaN where never answered."""
    rows = np.eye(len(head.classes), dtype=np.float32)[labels]
    rows[labels == IGNORE] = np.nan  # a restart lies behind it
    return rows


def missing_share(recording: Recording) -> NDArray[np.float64]:
    """(T,) share of a frame's keypoints that are missing, before the gap rule or features hold any point."""
    share: NDArray[np.float64] = np.isnan(recording.keypoints[..., 0]).mean(axis=(1, 2))
    return share


def evaluate(
    classifier: Classifier,
    dataset: Dataset,
    split: str = "validation",
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Scores per head and per head group by CalMS21's protocol, and per video; see `rtseg.evaluation.metrics`.

    Raw probabilities and argmax are scored; `decoded` gives the scores of the decoded labels, which are what a
    subscriber gets, beside them. `notes`: sentences about what the scores do not say.
    Per head also: intervals (`bootstrap`), calibration (`reliability`), and confusion, boundaries, missing
    and abstention (`rtseg.evaluation.breakdown`). Raises as `predict_split`.
    """
    bundle = classifier.bundle
    seen: list[str] = []
    answers = predict_split(classifier, dataset, split, progress, counting_seen(bundle, seen))
    engine, remarks = classifier.pool.engine.name, [*part_notes(dataset, [split]), *seen_notes("The bundle", seen)]
    remarks += unlike_notes("the bundle", answers.unlike)
    return score_predictions(bundle, dataset, split, answers, engine=engine, remarks=remarks)


def score_predictions(
    bundle: Bundle,
    dataset: Dataset,
    split: str,
    answers: SplitPredictions,
    *,
    engine: str,
    remarks: Sequence[str] = (),
) -> dict[str, Any]:
    """`evaluate`'s report on predictions that are there already. split, engine: what it calls them.

    remarks: what a reader must know of these recordings; they come among `notes`.
    """
    known, fps = answers.heads, dataset.fps
    scores = {h.name: score_head(h, answers.videos[h.name], fps) for h in known}
    # Decoding helps segments and may cost frames at their edges: the report holds both, the raw ones are the score.
    smoothed = {h.name: score_head(h, answers.decoded[h.name], fps) for h in known}
    details: dict[str, dict[str, Any]] = {part: {} for part in DETAILS}
    for head in known:
        name, videos = head.name, answers.videos[head.name]
        details["intervals"][name] = bootstrap(videos, head)
        details["calibration"][name] = calibration_scores(head, videos)
        details["confusion"][name] = confusion(head, videos)
        details["boundaries"][name] = boundary_errors(head, videos, fps)
        details["missing"][name] = by_missing_points(head, videos, answers.missing[name])
        details["abstention"][name] = abstention(head, videos, bundle.abstain_below.get(name))
    report = {
        "bundle": bundle.name,
        "model": bundle.hash,
        "engine": engine,
        "simulated": bundle.simulated or dataset.simulated,
        "dataset": dataset.name,
        "split": split,
        "protocol": PROTOCOL,
        "groups": group_scores(known, scores),
        "heads": {name: asdict(score) for name, score in scores.items()},
        "decoded": {name: _decoded(score) for name, score in smoothed.items()},
        "notes": _notes(known, answers.videos, remarks),
        **details,
        "videos": _per_video(answers, fps),
    }
    plain: dict[str, Any] = without_nan(report)
    return plain


def manifest_scores(report: dict[str, Any]) -> dict[str, Any]:
    """The part of a report that is stored in a bundle's manifest."""
    parts = ("protocol", "split", "out_of_fold", "groups", "heads", "decoded", "notes", *DETAILS, "videos")
    return {part: report[part] for part in parts if part in report}


def compare_bundles(
    ours: Classifier,
    theirs: Classifier,
    dataset: Dataset,
    split: str = "validation",
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Differences of one bundle's scores from another's on the same videos, per head: `bootstrap.paired_bootstrap`.

    Raises as `predict_split`, and SettingError where the two have no head in common.
    """
    seen: tuple[list[str], list[str]] = ([], [])
    one, two = (
        predict_split(classifier, dataset, split, progress, counting_seen(classifier.bundle, learnt))
        for classifier, learnt in zip((ours, theirs), seen, strict=True)
    )
    # Equal in classes too, not only in name: else the scores would be means over different classes.
    both = [head for head in one.heads if head in two.heads]
    if not both:
        raise SettingError(f"bundles {ours.bundle.name!r} and {theirs.bundle.name!r} have no head in common")
    report = {
        "ours": {"bundle": ours.bundle.name, "model": ours.bundle.hash},
        "theirs": {"bundle": theirs.bundle.name, "model": theirs.bundle.hash},
        "simulated": ours.bundle.simulated or theirs.bundle.simulated or dataset.simulated,
        "dataset": dataset.name,
        "split": split,
        "videos": {h.name: one.names[h.name] for h in both},
        "heads": {h.name: paired_bootstrap(one.videos[h.name], two.videos[h.name], h) for h in both},
        "notes": [
            *head_interval_notes({h.name: len(answered(one.videos[h.name])) for h in both}),
            *part_notes(dataset, [split]),
            *absent_notes(both, one.videos),
            *seen_notes(f"Ours, {ours.bundle.name},", seen[0]),
            *seen_notes(f"Theirs, {theirs.bundle.name},", seen[1]),
            *unlike_notes(f"ours, {ours.bundle.name},", one.unlike),
            *unlike_notes(f"theirs, {theirs.bundle.name},", two.unlike),
        ],
    }
    plain: dict[str, Any] = without_nan(report)
    return plain


def counting_seen(bundle: Bundle, seen: list[str]) -> Callable[[Item], None]:
    """A check for `predict_split` that adds the names of recordings that the bundle was trained on."""

    def check(item: Item) -> None:
        if was_trained_on(bundle, item):
            seen.append(item.recording.name)

    return check


def seen_notes(who: str, seen: Sequence[str]) -> list[str]:
    """A sentence where any recording is one that a bundle was trained on. who: the bundle, as the sentence begins."""
    return [f"{who} was trained on {', '.join(seen)}: its scores there say nothing about other videos."] if seen else []


def unlike_training(bundle: Bundle, recording: Recording, answers: Predictions) -> str:
    """In what the poses that a bundle has answered are unlike those that it was trained on; '' where they are not.

    Their size (another camera, resolution or unit), features out of training's ranges in more than MAX_OUT_OF_RANGE of
    the answers, animals that nothing but their order matches.
    """
    told = [describe_size(answers.drift.get("body_size", {}))]
    flagged = np.count_nonzero(answers.quality & Quality.OUT_OF_RANGE) / max(1, len(answers.quality))
    if flagged > MAX_OUT_OF_RANGE:
        told.append(f"{flagged:.0%} of the answers are flagged 'out of range'")
    told += [doubt.kind for doubt in recording.order_doubts(bundle.skeleton)]
    return "; ".join(filter(None, told))


def unlike_notes(who: str, unlike: Mapping[str, str]) -> list[str]:
    """A sentence where recordings are unlike training's. who: the bundle. unlike: name -> `unlike_training`."""
    if not unlike:
        return []
    listed = ". ".join(f"{name}: {told}" for name, told in list(unlike.items())[:MAX_NAMES])
    more = len(unlike) - MAX_NAMES
    listed += f"; and {more} more" if more > 0 else ""
    what = "A recording is" if len(unlike) == 1 else f"{len(unlike)} recordings are"
    return [f"{what} unlike those that {who} was trained on. {listed}."]


def part_notes(dataset: Dataset, splits: Sequence[str]) -> list[str]:
    """A sentence where recordings of the splits are parts of one video: intervals take each for a video of its own."""
    cut_from = {part: whole for split in splits for part, whole in dataset.parts(split).items()}
    n_videos = len(set(cut_from.values()))
    if len(cut_from) == n_videos:
        return []
    whole = "one video" if n_videos == 1 else f"{n_videos} videos"
    return [
        f"{len(cut_from)} of the recordings are parts of {whole}, and each counts as a video: intervals say how such "
        "parts differ, not how another animal or another day would."
    ]


def _per_video(answers: SplitPredictions, fps: float) -> dict[str, dict[str, Any]]:
    per_video: dict[str, dict[str, Any]] = {}
    for head in answers.heads:
        for name, video in zip(answers.names[head.name], answers.videos[head.name], strict=True):
            one = score_head(head, [video], fps)
            row = {"f1": one.macro_f1, "map": one.mean_average_precision, "frames": one.frames}
            per_video.setdefault(name, {})[head.name] = row
    return per_video


def common_heads(bundle: Bundle, dataset: Dataset) -> list[Head]:
    """The dataset's heads that the bundle has as well.

    Raises SettingError where there is none or one has other classes, RateError where the frame rates differ.
    """
    heads = {h.name: h for h in bundle.heads}
    known = [h for h in dataset.heads if h.name in heads]
    if not known:
        raise SettingError(
            f"dataset {dataset.name!r} labels the heads {', '.join(h.name for h in dataset.heads)}; "
            f"bundle {bundle.name!r} answers {', '.join(heads)}: they have none in common"
        )
    for head in known:
        if head.classes != heads[head.name].classes:
            raise SettingError(
                f"head {head.name!r}: the dataset has the classes {', '.join(head.classes)}, "
                f"the bundle {', '.join(heads[head.name].classes)}"
            )
    bundle.check_rate(dataset.fps, f"dataset {dataset.name!r}")
    return known


def without_nan(value: Any) -> Any:
    """The same with None for NaN, as JSON wants it, and floats rounded to six digits."""
    if isinstance(value, dict):
        return {k: without_nan(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(v) for v in value]
    # Six digits are more than any score has; without them a report would change with the order of a sum.
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 6)
    return value


def _decoded(score: HeadScore) -> dict[str, Any]:
    """Scores of decoded labels; the classes by name in each."""
    classes = score.classes.items()
    return {
        "macro_f1": score.macro_f1,
        "f1": {name: c.f1 for name, c in classes},
        "segmental_f1": score.segmental_f1,
        "edit": score.edit,
        "onset_delay_s": {name: c.onset_delay_s for name, c in classes},
        "false_starts_per_minute": {name: c.false_starts_per_minute for name, c in classes},
    }


def absent_notes(heads: Sequence[Head], videos: Mapping[str, Sequence[Video]]) -> list[str]:
    """A sentence where some scored class has no labelled frame, so that means over classes leave it out."""
    absent = []
    for head in heads:
        labels = np.concatenate([y for _, y in answered(videos[head.name])] or [np.zeros(0, np.int16)])
        absent += [f"{head.name}: {name}" for name in head.scored if not (labels == head.classes.index(name)).any()]
    if not absent:
        return []
    return [f"No frame is labelled as {', '.join(absent)}: nothing says how well that is recognized."]


def _notes(heads: Sequence[Head], videos: Mapping[str, list[Video]], remarks: Sequence[str]) -> list[str]:
    """What the scores do not say. remarks: what is known of the recordings."""
    n_videos = {head.name: len(answered(videos[head.name])) for head in heads}
    return [*head_interval_notes(n_videos), *remarks, *absent_notes(heads, videos)]
