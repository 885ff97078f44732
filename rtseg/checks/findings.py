"""What the counts of a dataset say against training on it: one list of checks, for `rtseg check` and before training.

An error is what makes a model say something that its labels never said, or a score that measures nothing: training
refuses it. A warning is what a person should know and may have meant. Where recordings are simulated, for trying things
out, a class that they lack is a warning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal

import numpy as np

from rtseg.checks.summary import DatasetSummary, HeadCounts, RecordingSummary
from rtseg.errors import SettingError
from rtseg.frames.same_frames import shared_frames
from rtseg.recordings.heads import LABELLED_TWICE, MASKED_BECAUSE, NO_LABEL, NO_TRACK, HeadRule

MAX_SCALE_RATIO = 1.5
"""By which animals of one dataset differ in length at most; half the resolution is more."""
MAX_UNIT_RATIO = 10.0
"""No two cameras of one dataset differ by more; px, mm and fractions of the picture do."""
LEAST_BOUTS_ALIKE = 10
"""Bouts that begin at the same frames in two recordings are no chance from so many on."""
MAX_NAMES = 3
"""Recordings that a finding names before it says how many more there are."""


@dataclass(frozen=True)
class Finding:
    """Something that speaks against a dataset, in one line."""

    severity: Literal["error", "warning"]
    text: str


def find_problems(summary: DatasetSummary) -> list[Finding]:
    """What all checks find, errors first."""
    found = [finding for check in CHECKS for finding in check(summary)]
    return sorted(found, key=lambda finding: finding.severity != "error")


def require_trainable(findings: Iterable[Finding], name: str) -> None:
    """Raise SettingError with every error that was found. name: of the dataset."""
    errors = [finding.text for finding in findings if finding.severity == "error"]
    if errors:
        listed = "".join(f"\n  {text}" for text in errors)
        raise SettingError(f"dataset {name!r} cannot be trained on ('rtseg check' shows the counts):{listed}")


def empty_splits(summary: DatasetSummary) -> Iterator[Finding]:
    """Nothing to train on, or nothing to choose a checkpoint by."""
    for split in _used(summary):
        if split not in summary.splits:
            there = ", ".join(summary.splits) or "none"
            yield Finding("error", f"[split] has no {split!r}, which training needs; it has: {there}")
        elif not summary.splits[split]:
            yield Finding("error", f"split {split!r} has no recordings")


def recordings_in_two_splits(summary: DatasetSummary) -> Iterator[Finding]:
    """Frames that two recordings share: across splits they make a score of what was learnt by heart."""
    where = [(split, recording) for split, some in summary.splits.items() for recording in some]
    for first, second, frames in shared_frames([recording.windows for _, recording in where]):
        (split, one), (other_split, other) = where[first], where[second]
        pair = f"{one.name!r} (split {split!r}) and {other.name!r} (split {other_split!r})"
        shared = f"recordings {pair} share {frames:,} frames or more"
        if split != other_split:
            yield Finding("error", f"{shared}: what is measured on one was learnt from the other; leave one out")
        elif not summary.validation:
            yield Finding(
                "error",
                f"{shared}: one fold of a cross-validation would be tested on what another learnt; leave one out",
            )
        else:
            yield Finding("warning", f"{shared}, which count twice")


def labels_of_another(summary: DatasetSummary) -> Iterator[Finding]:
    """The same labels, bout for bout, of recordings whose poses differ: a file that was copied under another name."""
    alike: dict[tuple[str, tuple[tuple[int, int], ...]], list[RecordingSummary]] = {}
    for recording in (one for some in summary.splits.values() for one in some):
        for head, starts in recording.bout_starts.items():
            if len(starts) >= LEAST_BOUTS_ALIKE:
                alike.setdefault((head, starts), []).append(recording)
    told: set[str] = set()
    for (head, starts), some in alike.items():
        names = _names(some)
        if len(some) > 1 and names not in told:
            told.add(names)
            text = f"{names} have the same labels of head {head!r}, all {len(starts)} bouts: are their files copies?"
            yield Finding("warning", text)


def missing_poses(summary: DatasetSummary) -> Iterator[Finding]:
    """Recordings, animals and keypoints without a single point."""
    animals, keypoints = summary.skeleton.animals, summary.skeleton.keypoints
    for split, recordings in summary.splits.items():
        empty = [recording for recording in recordings if not recording.seen.any()]
        if empty:
            text = f"split {split!r}: every point of every frame is missing in {_names(empty)}"
            yield Finding("error", f"{text}; track the video again, or leave it out")
        for a, animal in enumerate(animals):
            without = [r for r in recordings if r.seen.any() and not r.seen[a].any()]
            if without and split == summary.training and len(without) + len(empty) == len(recordings):
                text = f"split {split!r}: animal {animal!r} is never seen, in none of its {len(recordings)} recordings"
                yield Finding("error", f"{text}; correct the names in [skeleton], or leave it out there")
            elif without:
                yield Finding("warning", f"split {split!r}: animal {animal!r} is never seen in {_names(without)}")
    training = summary.splits.get(summary.training, ())
    seen = np.sum([r.seen.sum(axis=0) for r in training], axis=0, initial=0)
    never = [name for name, n in zip(keypoints, np.broadcast_to(seen, len(keypoints)), strict=True) if n == 0]
    if 0 < len(never) < len(keypoints):
        text = f"split {summary.training!r}: keypoint {', '.join(never)} is never seen"
        yield Finding("warning", f"{text}; leave it out of [skeleton]")


def other_scales(summary: DatasetSummary) -> Iterator[Finding]:
    """Recordings whose animals are far longer or shorter than the others': another camera, resolution or unit."""
    known = {r.name: r for some in summary.splits.values() for r in some if r.body_length_px}
    lengths = {name: r.body_length_px or 0.0 for name, r in known.items()}
    usual = float(np.median(list(lengths.values()))) if lengths else 0.0
    for severity, least, most in (("error", MAX_UNIT_RATIO, np.inf), ("warning", MAX_SCALE_RATIO, MAX_UNIT_RATIO)):
        others = [known[name] for name, n in lengths.items() if least < max(n / usual, usual / n) <= most]
        if not others:
            continue
        one = lengths[others[0].name]
        text = f"animals are {one:.3g} long in {_names(others)} and {usual:.3g} px in most recordings"
        if severity == "error":
            yield Finding("error", f"{text}: these coordinates are no px; bring all to one unit")
        else:
            mend = "say px_per_mm of each where these are of another camera or resolution (docs/scale.md)"
            yield Finding("warning", f"{text}; {mend}")


def filtered_poses(summary: DatasetSummary) -> Iterator[Finding]:
    """Poses that DeepLabCut smoothed after tracking: its filters are centred, so each frame knows later ones."""
    every = [recording for some in summary.splits.values() for recording in some]
    found = [recording for recording in every if PurePath(recording.source).stem.endswith("_filtered")]
    if found:
        text = f"poses of {len(found)} of {len(every)} recordings were filtered after tracking: {_names(found)}"
        mend = "for a model that runs live, train on the tracker's own output"
        yield Finding("warning", f"{text}; a live tracker has not seen the frames that a filter used, so {mend}")


def masked_heads(summary: DatasetSummary) -> Iterator[Finding]:
    """Heads without a labelled frame."""
    for split in _used(summary):
        all_counts = [(rule, summary.counts(rule, split)) for rule in summary.rules]
        # One head without validation labels is left out of the choice; without any there is nothing to choose by.
        hopeless = split == summary.training or not any(counts.labelled for _, counts in all_counts)
        for rule, counts in all_counts:
            if counts.labelled or not counts.recordings:
                continue
            text = f"head {rule.head.name!r}: every frame of split {split!r} is masked ({_reasons(counts)})"
            if hopeless:
                yield Finding("error", f"{text}; {_advice(rule, counts, rule.head.classes)}")
            else:
                yield Finding("warning", f"{text}: nothing says there how good it is")


def absent_classes(summary: DatasetSummary) -> Iterator[Finding]:
    """Classes that training never shows: the model would answer the others in their place."""
    for rule in summary.rules:
        counts = summary.counts(rule, summary.training)
        classes = rule.head.classes
        absent = [name for name, n in zip(classes, counts.frames, strict=True) if n == 0]
        if not absent or not counts.labelled:
            continue
        where = f"head {rule.head.name!r}, split {summary.training!r}"
        advice = _advice(rule, counts, absent)
        if len(absent) == len(classes) - 1:
            present = next(name for name in classes if name not in absent)
            text = f"{where}: all {sum(counts.frames):,} labelled frames are {present!r}, none is {_or(absent)}"
            yield Finding("error", f"{text}: the model would answer {present!r} always; {advice}")
        else:
            # One annotator's lack is no mistake of the dataset's, nor is chance in what was simulated.
            is_error = set(absent) & _absent_everywhere(summary, rule) and not summary.simulated
            text = f"{where}: no frame is {_or(absent)}, which the model could never answer; {advice}"
            yield Finding("error" if is_error else "warning", text)


def unmeasured_classes(summary: DatasetSummary) -> Iterator[Finding]:
    """Scored classes that validation never shows: nothing tells how well they are recognized."""
    if not summary.validation:
        return
    absent: dict[str, list[str]] = {}
    n_scored = 0
    for rule in summary.rules:
        counts = summary.counts(rule, summary.validation)
        of_class = dict(zip(rule.head.classes, counts.frames, strict=True))
        n_scored += len(rule.head.scored)
        if names := [name for name in rule.head.scored if of_class[name] == 0]:
            absent[rule.head.name] = names
    if sum(map(len, absent.values())) == n_scored:
        if any(summary.counts(rule, summary.validation).labelled for rule in summary.rules):
            text = f"split {summary.validation!r}: no frame of any scored class, so nothing chooses the checkpoint"
            yield Finding("error", f"{text}; move recordings that show them from {summary.training!r}")
        return
    for head, names in absent.items():
        text = f"head {head!r}, split {summary.validation!r}: no frame is {_or(names)}, which stays without a score"
        yield Finding("warning", text)


CHECKS: tuple[Callable[[DatasetSummary], Iterator[Finding]], ...] = (
    empty_splits,
    recordings_in_two_splits,
    labels_of_another,
    missing_poses,
    other_scales,
    filtered_poses,
    masked_heads,
    absent_classes,
    unmeasured_classes,
)
"""All checks, in the order in which their findings are told."""


def _used(summary: DatasetSummary) -> list[str]:
    return [split for split in (summary.training, summary.validation) if split]


def _absent_everywhere(summary: DatasetSummary, rule: HeadRule) -> set[str]:
    """The classes that no head of the same group has in training: not one annotator's lack, but the dataset's."""
    group = [other for other in summary.rules if other.head.group == rule.head.group]
    present = set[str]()
    for other in group:
        counts = summary.counts(other, summary.training)
        present |= {name for name, n in zip(other.head.classes, counts.frames, strict=True) if n}
    return set(rule.head.classes) - present


def _advice(rule: HeadRule, counts: HeadCounts, absent: Sequence[str]) -> str:
    """What to do where classes have no frames, by why frames are masked."""
    where, masked = f"[heads.{rule.head.name}]", counts.masked
    advice = []
    if (n := masked.get(MASKED_BECAUSE[NO_LABEL], 0)) and rule.unlabelled is None:
        # Nothing tells which class is meant by silence; the first that is missing is the likeliest.
        background = absent[0]
        advice.append(
            f'{n:,} frames have no label: where those are {background!r}, set unlabelled = "{background}" in {where}'
        )
    if n := masked.get(MASKED_BECAUSE[LABELLED_TWICE], 0):
        own = f"{rule.track or rule.head.name}:{absent[-1]}"
        advice.append(
            f"{n:,} frames have two behaviours at once in one track and are masked: give each behaviour a head with a "
            f'track of its own, as track = "{own}", which BORIS and BENTO files have'
        )
    if not counts.labelled and (n := masked.get(MASKED_BECAUSE[NO_TRACK], 0)):
        advice.append(f"{n:,} frames are of files without the track: correct 'track' in {where}")
    return "; ".join(advice or ["add recordings that show it, or take the class out of " + where])


def _reasons(counts: HeadCounts) -> str:
    return ", ".join(f"{n:,} frames: {why}" for why, n in counts.masked.items()) or "no frames"


def _names(recordings: Sequence[RecordingSummary]) -> str:
    listed = ", ".join(f"{r.name} ({r.source})" if r.source else r.name for r in recordings[:MAX_NAMES])
    more = len(recordings) - MAX_NAMES
    return listed + (f" and {more} more" if more > 0 else "")


def _or(names: Sequence[str]) -> str:
    return " or ".join(map(repr, names))
