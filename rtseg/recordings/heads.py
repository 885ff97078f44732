"""From the label tracks of a file to the heads of a model: renaming, masking, and labels implied by another head.

The rules are declared in the dataset file; this is the one place that applies them. It reads no file.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from rtseg.errors import RecordingError, SettingError
from rtseg.recordings.files.reading_warnings import ReadingWarning
from rtseg.recordings.labels.label_file import WITHOUT_LABEL, Track, Tracks, empty_track
from rtseg.recordings.recording import IGNORE, Labels


@dataclass(frozen=True)
class Head:
    """What one head of a model answers.

    classes: names, index = label. scored: the classes whose mean is the head's score. group: heads of one group are
    averaged ('task2': over annotators; 'task3': over behaviours); a head of its own is its own group.
    """

    name: str
    classes: tuple[str, ...]
    scored: tuple[str, ...]
    group: str


def output_offsets(heads: Iterable[Head]) -> tuple[int, ...]:
    """Where each head begins in the outputs of all heads side by side, and their number P at the end. Length H + 1."""
    return tuple(accumulate((len(head.classes) for head in heads), initial=0))


NO_LABEL, LABELLED_TWICE, IGNORED_CLASS, NO_TRACK, OTHER_HEAD = range(5)
MASKED_BECAUSE = (
    "no label",
    "two behaviours at once",
    "class in 'ignore'",
    "no such track in the file",
    "masked in another head",
)
"""Why frames are neither trained on nor scored; indices of `HeadLabels.why`."""
_NOT_MASKED = -1


@dataclass(frozen=True, eq=False)
class HeadLabels(Labels):
    """The labels of a head over a recording. why: (T,) int8, an index of MASKED_BECAUSE where a frame is IGNORE,
    -1 elsewhere.
    """

    why: NDArray[np.int8] = field(kw_only=True)

    def part(self, start: int, stop: int) -> HeadLabels:
        """The labels of frames start <= t < stop, copied."""
        return replace(self, frames=self.frames[start:stop].copy(), why=self.why[start:stop].copy())


@dataclass(frozen=True)
class Implied:
    """Where another head has one of the labels `when`, an unlabelled frame of this one is `label`."""

    head: str
    label: str
    when: tuple[str, ...]


@dataclass(frozen=True)
class HeadRule:
    """How a head gets its labels.

    track: the label track; None = a track of the head's own name. rename: track class -> head class. ignore: track
    classes whose frames are masked. missing_ok: a file without the track masks its frames and is no error. implied: a
    source for frames that no label covers. unlabelled: the class of the other frames that no label of a track covers
    (None = masked), for annotators who record bouts only. mask_where_ignored: a head whose masked frames are
    masked here as well.
    """

    head: Head
    track: str | None = None
    rename: Mapping[str, str] = field(default_factory=dict)
    ignore: tuple[str, ...] = ()
    missing_ok: bool = False
    implied: Implied | None = None
    unlabelled: str | None = None
    mask_where_ignored: str | None = None


def check_rules(rules: tuple[HeadRule, ...]) -> None:
    """Raise SettingError unless every name that a rule uses exists, and other heads come before those that use them."""
    # apply_rules works through the heads in this order, so a rule may only use heads that are labelled already.
    earlier: dict[str, Head] = {}
    for rule in rules:
        head, where = rule.head, f"heads.{rule.head.name}"
        if len(set(head.classes)) != len(head.classes) or len(head.classes) < 2:
            raise SettingError(f"{where}.classes needs two or more different names, got {', '.join(head.classes)}")
        _known(where + ".scored", head.scored, head.classes)
        _known(where + ".rename", rule.rename.values(), head.classes)
        clash = sorted(set(rule.ignore) & (set(head.classes) | set(rule.rename)))
        if clash:
            raise SettingError(f"{where}.ignore: {', '.join(clash)} cannot be both masked and a class")
        if rule.unlabelled is not None:
            _known(where + ".unlabelled", [rule.unlabelled], head.classes)
        if rule.mask_where_ignored is not None:
            _known(where + ".mask_where_ignored", [rule.mask_where_ignored], earlier)
        if rule.implied is not None:
            _known(where + ".implied.from", [rule.implied.head], earlier)
            _known(where + ".implied.label", [rule.implied.label], head.classes)
            _known(where + ".implied.when", rule.implied.when, earlier[rule.implied.head].classes)
        earlier[head.name] = head


def _known(where: str, names: Iterable[str], accepted: Iterable[str]) -> None:
    accepted = list(accepted)
    unknown = [n for n in names if n not in accepted]
    if unknown:
        raise SettingError(f"{where}: {', '.join(map(repr, unknown))} is none of {', '.join(accepted) or '(nothing)'}")


def apply_rules(
    rules: tuple[HeadRule, ...], tracks: Mapping[str, Labels], n_frames: int, source: str
) -> dict[str, HeadLabels]:
    """Labels (T,) for every head from the tracks of one file; IGNORE for all of a head that has no track here.

    Where the file lists events alone and the head has a class for unlabelled frames, a track that it does not name is
    one without events. Raises RecordingError where another track is absent that must be there, or holds a behaviour
    that the head does not know.
    """
    labels: dict[str, HeadLabels] = {}
    wanted = {rule.track or rule.head.name for rule in rules}
    for rule in rules:
        head = rule.head
        track = _track_of(rule, tracks, n_frames, source, wanted)
        if track is None:
            frames = np.full(n_frames, IGNORE, np.int16)
            uncovered = np.ones(n_frames, np.bool_)
            why = np.full(n_frames, NO_TRACK, np.int8)
            warnings: tuple[ReadingWarning, ...] = ()
        else:
            frames = rename_frames(rule, track, source)
            uncovered = ~track.covered if isinstance(track, Track) else track.frames == IGNORE
            why = np.where(track.frames == IGNORE, LABELLED_TWICE, IGNORED_CLASS).astype(np.int8)
            why[uncovered] = NO_LABEL
            warnings = track.warnings
        if rule.implied is not None:
            other = labels[rule.implied.head]
            codes = [other.classes.index(c) for c in rule.implied.when]
            # Only frames that no label covers: where this head was labelled, its own label counts.
            implied = uncovered & np.isin(other.frames, codes)
            frames[implied] = head.classes.index(rule.implied.label)
            uncovered &= ~implied
        # A file without the track was not annotated for this head at all; that says nothing about its frames.
        if rule.unlabelled is not None and track is not None:
            frames[uncovered] = head.classes.index(rule.unlabelled)
            warnings = tuple(w for w in warnings if w.kind != WITHOUT_LABEL)  # they have one now
        if rule.mask_where_ignored is not None:
            masked = (labels[rule.mask_where_ignored].frames == IGNORE) & (frames != IGNORE)
            frames[masked], why[masked] = IGNORE, OTHER_HEAD
        why[frames != IGNORE] = _NOT_MASKED
        labels[head.name] = HeadLabels(head.name, head.classes, frames, warnings, why=why)
    return labels


def _track_of(
    rule: HeadRule, tracks: Mapping[str, Labels], n_frames: int, source: str, wanted: Collection[str]
) -> Labels | None:
    """The track of a head; None where its frames are masked, RecordingError where it must be there and is not.

    wanted: the tracks of all heads.
    """
    name = rule.track or rule.head.name
    # Spelt otherwise it would be a track in which nothing ever happened, and beside the head's own one frames of it
    # would count as the behaviour's absence.
    alike = next((other for other in tracks if other != name and spelt_alike(other, name)), None)
    if name in tracks:
        if alike is not None and alike not in wanted:
            problem = f"has the tracks {name!r} and {alike!r}, of which head {rule.head.name!r} needs the first"
            raise RecordingError(source, f"{problem}; correct the spelling there, or give the other a head of its own")
        return tracks[name]
    if alike is not None:
        problem = f"head {rule.head.name!r} needs the track {name!r}, and the file spells it {alike!r}"
        mend = f"say tracks = {{ {json.dumps(alike, ensure_ascii=False)} = {json.dumps(name, ensure_ascii=False)} }}"
        raise RecordingError(source, f"{problem}; {mend} under [[recordings]], or correct the labels")
    # Before missing_ok: what a list of events does not mention did not happen, and is no missing annotation.
    if rule.unlabelled is not None and isinstance(tracks, Tracks) and tracks.lists_events:
        return empty_track(name, n_frames)
    if rule.missing_ok:
        return None
    problem = f"head {rule.head.name!r} needs the track {name!r}; the file has: {', '.join(tracks) or 'none'}"
    raise RecordingError(source, f"{problem}. Correct 'track', or set missing = 'mask'")


def spelt_alike(one: str, other: str) -> bool:
    """Whether two names of tracks or behaviours differ in case, blanks and underscores alone; -1 and 1 are two.

    Letters of any language are the same in either form of Unicode, and so are blanks of any width.
    """
    return _plain(one) == _plain(other)


def _plain(name: str) -> str:
    # NFKC: macOS writes ä as two characters; a spreadsheet's blank may be a no-break space.
    return re.sub(r"[\s_]+", "", unicodedata.normalize("NFKC", name)).casefold()


def rename_frames(rule: HeadRule, track: Labels, source: str) -> NDArray[np.int16]:
    """The track's labels (T,) int16 as labels of the head."""
    table = np.full(len(track.classes) + 1, IGNORE, np.int16)  # the last row stands for IGNORE = -1
    used = np.unique(track.frames)
    for i, name in enumerate(track.classes):
        renamed = rule.rename.get(name, name)
        if renamed in rule.head.classes:
            table[i] = rule.head.classes.index(renamed)
        elif name not in rule.ignore and i in used:
            frame = int(np.argmax(track.frames == i))
            problem = (
                f"track {track.track!r}, frame {frame} (from 0): behaviour {name!r} is no class of head "
                f"{rule.head.name!r} ({', '.join(rule.head.classes)}); add it there to classes, rename or ignore"
            )
            raise RecordingError(source, problem)
    return table[track.frames]
