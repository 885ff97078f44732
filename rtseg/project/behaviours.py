"""What the label files say: which tracks become heads, with which classes, and what a frame without a label means.

A frame that nobody labelled is a negative only where the annotators wrote down everything that happened. Where they
labelled samples, taking the rest for negatives would teach a model that most of the behaviour is none.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from rtseg.recordings.bouts import bouts_of
from rtseg.recordings.heads import Head, HeadRule, spelt_alike
from rtseg.recordings.labels.label_file import Tracks
from rtseg.recordings.recording import IGNORE

OTHER = "other"
"""The class of frames in which nothing of a head happens, where the labels have no name for it."""
MIN_BOUTS = 4
"""A behaviour that happened less often cannot be both learnt and tested."""
_BACKGROUND = (
    *("other", "others", "none", "background", "nothing", "nobehaviour", "nobehavior", "no", "normal", "baseline"),
    *("neutral", "undefined", "unlabelled", "unlabeled", "negative", "rest", "bg", "null", "noevent", "base"),
)
_UNNAMED = ("labels", "nofocalsubject", "behaviour", "behavior", "label", "annotation", "ch1")
_LETTERS = str.maketrans(
    {"ß": "ss", "æ": "ae", "Æ": "Ae", "ø": "o", "Ø": "O", "œ": "oe", "Œ": "Oe", "ł": "l", "Ł": "L"}
)
"""Letters of the Latin alphabet that Unicode does not take for a letter with a mark."""
_WHOLE = 0.99
_ADJOINING = 0.3
"""Share of bouts that begin where the last one ended, from which on the labels are stretches and not events."""
_OVERLAP = 0.02
"""Share of labelled frames with two behaviours at once, from which on each behaviour gets a head of its own."""


@dataclass
class TrackSummary:
    """One track over all label files. frames, bouts, videos: per class, in the order in which classes were met.

    spellings: how some files write a class otherwise, in case and blanks -> the class.
    """

    name: str
    spellings: dict[str, str] = field(default_factory=dict)
    frames: dict[str, int] = field(default_factory=dict)
    bouts: dict[str, int] = field(default_factory=dict)
    videos: dict[str, int] = field(default_factory=dict)
    n_files: int = 0
    n_frames: int = 0
    n_covered: int = 0
    n_twice: int = 0
    n_gaps: int = 0
    n_adjoining: int = 0
    lists_events: bool = False

    @property
    def background(self) -> str | None:
        """The class that is named like nothing of interest."""
        return next((name for name in self.frames if is_background(name)), None)

    @property
    def covers_everything(self) -> bool:
        """Whether practically every frame has a label."""
        return self.n_covered >= _WHOLE * self.n_frames


def is_background(name: str) -> bool:
    """Whether a behaviour's name says that nothing of interest happens."""
    return _plain(name) in _BACKGROUND


def summarize_tracks(files: Sequence[Tracks]) -> dict[str, TrackSummary]:
    """Every track of the files by its name, in the order in which they were met."""
    found: dict[str, TrackSummary] = {}
    for tracks in files:
        for name, track in tracks.items():
            one = found.setdefault(name, TrackSummary(name))
            one.n_files += 1
            one.n_frames += len(track.frames)
            one.n_covered += int(track.covered.sum())
            one.n_twice += int((track.covered & (track.frames == IGNORE)).sum())
            one.lists_events |= tracks.lists_events
            labelled = [bout for bout in bouts_of(track.frames) if bout.label != IGNORE]
            for before, after in pairwise(labelled):
                one.n_gaps += 1
                one.n_adjoining += after.start - before.stop <= 1
            for code, written in enumerate(track.classes):
                label = _first_spelling(one, written)
                own = [bout for bout in labelled if bout.label == code]
                one.frames[label] = one.frames.get(label, 0) + sum(b.stop - b.start for b in own)
                one.bouts[label] = one.bouts.get(label, 0) + len(own)
                one.videos[label] = one.videos.get(label, 0) + bool(own)
    return found


def _first_spelling(one: TrackSummary, written: str) -> str:
    """The class that a file means by what it writes: of names that differ in case and blanks, the first one met."""
    if written in one.frames:
        return written
    label = next((own for own in one.frames if spelt_alike(own, written)), written)
    if label != written:
        one.spellings[written] = label
    return label


def tracks_for_heads(summaries: Mapping[str, TrackSummary]) -> list[str]:
    """The tracks that become heads: each subject or column, or each of its behaviours where several go on at once."""
    chosen = []
    for name, one in summaries.items():
        parts = [other for other in summaries if other.startswith(f"{name}:")]
        owner = name.rpartition(":")[0]
        if ":" in name and owner in summaries:
            continue  # a behaviour of a subject: chosen with the subject, or in its place
        if is_background(name):
            continue  # a column that says that nothing happens is what the others leave
        if len(parts) > 1 and one.n_twice > _OVERLAP * max(one.n_covered, 1):
            chosen += parts
        elif any(one.frames.values()):
            chosen.append(name)
    return chosen


@dataclass(frozen=True)
class Unlabelled:
    """What frames without a label mean for a head. negatives: they are taken for the background. reason: why."""

    negatives: bool
    reason: str


def propose_unlabelled(one: TrackSummary) -> Unlabelled | None:
    """What a frame without a label most likely means; None where there is none, or too few to matter."""
    if one.covers_everything:
        return None
    behaviours = [name for name, n in one.frames.items() if n and not is_background(name)]
    if one.background is not None and one.frames[one.background]:
        return Unlabelled(
            False, f"{one.background!r} is labelled by itself, so a frame without a label was not looked at"
        )
    if len(behaviours) < 2:
        return Unlabelled(True, "the labels name one behaviour, and a list of events leaves out what is none")
    if one.n_adjoining >= _ADJOINING * max(one.n_gaps, 1):
        return Unlabelled(
            False, "bouts follow each other without a gap, so the labels are stretches that were looked at"
        )
    return Unlabelled(True, "the labels list events of several behaviours with time between them")


def ascii_name(text: str, filler: str) -> str:
    """Letters without their marks (Größe: Grosse), digits, - and _; anything else becomes the filler. Perhaps ''."""
    without_marks = unicodedata.normalize("NFKD", text.translate(_LETTERS))
    bare = "".join(c for c in without_marks if not unicodedata.combining(c))
    return re.sub(r"[^A-Za-z0-9_-]+", filler, bare).strip(filler)


def head_name(track: str, taken: Sequence[str]) -> str:
    """A head's name: that of the behaviour or subject, without what a TOML key cannot have, and not one of `taken`."""
    subject, _, behaviour = track.rpartition(":")
    plain = behaviour or subject
    if _plain(plain) in _UNNAMED:
        plain = "behaviour"
    plain = ascii_name(plain, "_") or "behaviour"
    whole = plain if plain not in taken else ascii_name(track, "_")
    return whole if whole not in taken else f"{whole}_{len(taken) + 1}"


def head_rule(one: TrackSummary, name: str, negatives: bool, n_files: int) -> tuple[HeadRule, list[str]]:
    """The rule of one head, and what was left out with the reason.

    negatives: whether frames without a label are the background's. n_files: of the whole dataset; behaviours seen in
    one video of several, or less than MIN_BOUTS times, are masked: no score of them would mean anything.
    """
    notes, ignored = [], []
    for written, label in one.spellings.items():
        notes.append(f"head {name}: {written!r} is taken for {label!r}, which some files write so (rename)")
    for label in one.frames:
        if is_background(label):
            continue
        if one.bouts[label] < MIN_BOUTS:
            ignored.append(label)
            bouts = f"{one.bouts[label]} bout{'s' * (one.bouts[label] != 1)}"
            notes.append(
                f"head {name}: {label!r} is labelled in {bouts}, and needs {MIN_BOUTS} to be learnt and tested: masked"
            )
        elif n_files > 1 and one.videos[label] < 2:
            ignored.append(label)
            notes.append(f"head {name}: {label!r} happens in one video only, so none is left to test it: masked")
    classes = [label for label in one.frames if label not in ignored]
    background = one.background
    if negatives and background is None:
        background = OTHER
        classes.insert(0, OTHER)
    # The background first, as in every head of rtseg.
    classes.sort(key=lambda label: label != background)
    scored = tuple(label for label in classes if label != background)
    rule = HeadRule(
        head=Head(name, tuple(classes), scored, name),
        track=one.name,
        rename={written: label for written, label in one.spellings.items() if label not in ignored},
        ignore=(*ignored, *(written for written, label in one.spellings.items() if label in ignored)),
        missing_ok=one.n_files < n_files and not (one.lists_events and negatives),
        unlabelled=background if negatives else None,
    )
    return rule, notes


def without_class(rule: HeadRule, label: str) -> HeadRule:
    """The same rule with one behaviour less: its frames are masked."""
    head = rule.head
    kept, scored = (tuple(name for name in names if name != label) for names in (head.classes, head.scored))
    spelt = [written for written, name in rule.rename.items() if name == label]
    rename = {written: name for written, name in rule.rename.items() if name != label}
    head = replace(head, classes=kept, scored=scored)
    return replace(rule, head=head, rename=rename, ignore=(*rule.ignore, label, *spelt))


def watched_frames(frames: NDArray[np.int16], background: int | None) -> tuple[int, int]:
    """The stretch of a video that somebody seems to have labelled, by a head's labels (T,).

    The whole video, but for an end or a beginning without any behaviour that is longer than a fifth of the video and
    than three times the longest pause between two bouts.
    """
    n_frames = len(frames)
    marked = [b for b in bouts_of(frames) if b.label != IGNORE and b.label != background]
    if not marked:
        return 0, n_frames
    pauses = [after.start - before.stop for before, after in pairwise(marked)]
    longest = max(0.2 * n_frames, 3 * max(pauses, default=0))
    first, last = marked[0].start, marked[-1].stop
    return first if first > longest else 0, last if n_frames - last > longest else n_frames


def _plain(name: str) -> str:
    return re.sub(r"[\s._\-]+", "", name).lower()
