"""Which label file belongs to which pose file, by their names, and the path patterns of a dataset file that say so.

Two names belong together where what tells one of them from the other files of its kind stands in the other as well.
Names that merely look alike are not enough: labels of another video are worse than none.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path

from rtseg.errors import SettingError
from rtseg.project.files import FoundFiles
from rtseg.recordings.naming import natural_order
from rtseg.recordings.pairs import find_recording_files

_TRACKER = re.compile(
    r"(DLC[A-Za-z0-9]*_.*|\.(analysis|predictions|tracks|recovered)|[_\-. ](pose_est_v\d+|poses?|track(s|ed|ing)?|"
    r"keypoints?|coords?|filtered|el|sk|bx|SLEAP|sleap|proofread))$"
)
_ANNOTATOR = re.compile(
    r"([_\-. ](annot(ations?|ation_information|ated)?|labels?|labell?ed|bouts?|events?|behaviou?rs?|boris|"
    r"targets_inserted|information))$",
    re.IGNORECASE,
)
_ANNOTATOR_FIRST = re.compile(r"^(boris|labels?|annotations?|events?|bouts?)[_\-. ]", re.IGNORECASE)
_PREFERRED = (".csv", ".tsv", ".h5", ".slp")


@dataclass(frozen=True)
class Pair:
    """One video. name: its id. twins: other files of the same poses, such as DeepLabCut's .h5 beside its .csv."""

    name: str
    poses: Path
    labels: Path
    twins: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Pattern:
    """What one table [[recordings]] says: paths under the root with {id}, and the ids that they stand for."""

    poses: str
    labels: str
    ids: tuple[str, ...]


@dataclass(frozen=True)
class Pairing:
    """pairs: in the order of their ids. without_labels, without_poses: files that found no partner, or several.

    undecided: poses that several label files fit, with these. contested: label files without poses whose name stands in
    those of several pose files without labels, with these.
    """

    pairs: tuple[Pair, ...]
    without_labels: tuple[Path, ...]
    without_poses: tuple[Path, ...]
    undecided: tuple[tuple[Path, tuple[Path, ...]], ...] = ()
    contested: tuple[tuple[Path, tuple[Path, ...]], ...] = ()


def pair_files(found: FoundFiles, holds_video: Callable[[Path, Path], bool] = lambda labels, poses: False) -> Pairing:
    """Pair every pose file with the one label file of its video; see the module for the rule.

    A single pose file and a single label file belong together whatever they are called. holds_video: whether a label
    file that fits no pose file by its own name holds the labels of that video among others, as BORIS projects do.
    Raises SettingError where two pose files are of one video: nothing says which of them is meant.
    """
    poses, twins = _without_twins(found.poses)
    partners = _partners(poses, found.labels)
    shared = [label for label in found.labels if not any(label in some for some in partners.values())]
    for pose in poses:
        partners[pose] = partners[pose] or [label for label in shared if holds_video(label, pose)]
    if len(poses) == len(found.labels) == 1:
        partners = {poses[0]: [found.labels[0]]}
    claims = [labels[0] for labels in partners.values() if len(labels) == 1]
    matched = {pose: labels[0] for pose, labels in partners.items() if len(labels) == 1}
    _check_tracked_once(list(matched.items()))
    ids = _ids(list(matched.items()))
    pairs = [Pair(name, p, matched[p], twins.get(p, ())) for p, name in zip(matched, ids, strict=True)]
    without_labels = tuple(pose for pose in poses if pose not in matched)
    without_poses = tuple(label for label in found.labels if label not in claims)
    return Pairing(
        tuple(sorted(pairs, key=lambda pair: natural_order(pair.name))),
        without_labels,
        without_poses,
        tuple((pose, tuple(labels)) for pose, labels in partners.items() if len(labels) > 1),
        tuple(_contested(without_labels, without_poses)),
    )


def _contested(poses: Sequence[Path], labels: Sequence[Path]) -> Iterator[tuple[Path, tuple[Path, ...]]]:
    """Label files whose words stand in the names of several pose files, as of m1 in m1_black and m1_white."""
    for label in labels:
        own = _key(label, _ANNOTATOR)
        fitting = [p for p in poses if len(own) < len(_key(p, _TRACKER)) and _is_within(own, _key(p, _TRACKER))]
        if len(fitting) > 1:
            yield label, tuple(fitting)


def _check_tracked_once(matched: Sequence[tuple[Path, Path]]) -> None:
    """Raise where two pose files of one folder differ in what the tracker added: a video that was tracked twice."""
    first: dict[tuple[Path, tuple[str, ...]], Path] = {}
    for pose, _ in matched:
        other = first.setdefault((pose.parent, _key(pose, _TRACKER)), pose)
        if other != pose:
            problem = f"{other.name} and {pose.name} are poses of one video, tracked twice; name the files to use"
            raise SettingError(f"{pose.parent}: {problem} (rtseg init FILE FILE ...), or move the others away")


def patterns_of(pairs: Sequence[Pair], root: Path) -> tuple[Pattern, ...]:
    """The tables [[recordings]] that stand for exactly these pairs.

    As few as there are ways in which folders and names are made; each pattern is checked to find its own files alone.
    Raises SettingError for names that no pattern can have.
    """
    groups: dict[tuple[Path, Path, str, str], list[Pair]] = {}
    for pair in pairs:
        key = pair.poses.parent, pair.labels.parent, pair.poses.suffix, pair.labels.suffix
        groups.setdefault(key, []).append(pair)
    patterns = []
    for group in groups.values():
        whole = _pattern(group, root)
        if whole is not None:
            patterns.append(whole)
            continue
        for pair in group:
            single = _pattern([pair], root)
            if single is None:
                problem = "no path pattern stands for these files alone; rename them without *, ?, [, ], { and }"
                raise SettingError(f"{_relative(pair.poses, root)}, {_relative(pair.labels, root)}: {problem}")
            patterns.append(single)
    return tuple(patterns)


def _without_twins(poses: Sequence[Path]) -> tuple[list[Path], dict[Path, tuple[Path, ...]]]:
    """One file of each video's poses, and for each the files that hold the same."""
    groups: dict[tuple[Path, str], list[Path]] = {}
    for pose in poses:
        # A median filter looks at frames that have not happened yet, which no camera can do live.
        stem = pose.stem.removesuffix("_filtered")
        # SLEAP's analysis stands beside the project or the predictions that it was exported from.
        stem = re.sub(r"(\.(analysis|predictions))+$", "", stem)
        groups.setdefault((pose.parent, stem), []).append(pose)
    chosen: dict[Path, tuple[Path, ...]] = {}
    for same in groups.values():
        same.sort(key=lambda p: (p.stem.endswith("_filtered"), _rank(p.suffix), p.name))
        first, kind = same[0], (same[0].suffix, same[0].stem.endswith("_filtered"))
        # Two of one kind are no copies of each other, such as predictions and what was made of them by hand.
        apart = [p for p in same[1:] if (p.suffix, p.stem.endswith("_filtered")) == kind]
        chosen |= {first: tuple(p for p in same[1:] if p not in apart), **dict.fromkeys(apart, ())}
    return sorted(chosen, key=lambda p: natural_order(p.as_posix())), {p: t for p, t in chosen.items() if t}


def _rank(suffix: str) -> int:
    return _PREFERRED.index(suffix.lower()) if suffix.lower() in _PREFERRED else len(_PREFERRED)


def _partners(poses: Sequence[Path], labels: Sequence[Path]) -> dict[Path, list[Path]]:
    """For every pose file the label files that may be its own; exactly one where there is no doubt."""
    of_pose, of_label = {p: _key(p, _TRACKER) for p in poses}, {p: _key(p, _ANNOTATOR) for p in labels}
    alike = {pose: [label for label in labels if of_label[label] == of_pose[pose]] for pose in poses}
    # Of several of one name those belong together whose folders do: cage1/m1.csv and cage1/m1_boris.csv.
    nearest = {pose: _nearest(pose, some) for pose, some in alike.items()}
    exact = {
        pose: [one for one in some if pose in _nearest(one, [p for p in poses if one in alike[p]])]
        for pose, some in nearest.items()
    }
    left = [label for label in labels if not any(label in some for some in exact.values())]
    told_poses, told_labels = _telling(of_pose), _telling(of_label)
    for pose in poses:
        if not exact[pose]:
            exact[pose] = [one for one in left if _is_within(told_poses[pose], told_labels[one])]
    # A label file that would fit several videos of this folder fits none of them for sure.
    for label in left:
        fitting = [pose for pose in poses if label in exact[pose]]
        best = max((len(told_poses[p]) for p in fitting if told_poses[p]), default=0)
        for pose in fitting:
            if len(fitting) > 1 and (
                len(told_poses[pose]) < best or sum(len(told_poses[p]) == best for p in fitting) > 1
            ):
                exact[pose].remove(label)
    return exact


def _nearest(one: Path, others: Sequence[Path]) -> list[Path]:
    """Those of some files whose folders have the most names in common with those of another file."""
    shared = {other: len(set(other.parent.parts) & set(one.parent.parts)) for other in others}
    most = max(shared.values(), default=0)
    return [other for other, n in shared.items() if n == most]


def _key(path: Path, ending: re.Pattern[str]) -> tuple[str, ...]:
    """The words and numbers of a name without what trackers and annotation programs add."""
    name, before = path.stem, ""
    while name != before:
        before, name = name, ending.sub("", name) or name
        name = (_ANNOTATOR_FIRST.sub("", name) if ending is _ANNOTATOR else name) or name
    # Letters of any language, each in one form: macOS writes ä as two characters.
    return tuple(re.findall(r"[^\W\d_]+|\d+", _nfc(name).lower()))


def _telling(keys: dict[Path, tuple[str, ...]]) -> dict[Path, tuple[str, ...]]:
    """The same keys without the words that all of them have: those tell nothing. Numbers stay: day 2 is not day 3."""
    common = set.intersection(*(set(key) for key in keys.values())) if len(keys) > 1 else set()
    return {path: tuple(w for w in key if w.isdecimal() or w not in common) for path, key in keys.items()}


def _is_within(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether all words of one of the two stand in the other, in their order."""
    short, long = sorted((one, other), key=len)
    rest = iter(long)
    return bool(short) and all(word in rest for word in short)


def _ids(pairs: Sequence[tuple[Path, Path]]) -> list[str]:
    """A short name for each: what the two file names share, else the poses' own; all different."""
    shared = [_shared(pose, label) for pose, label in pairs]
    own = [_TRACKER.sub("", _nfc(pose.stem)) or _nfc(pose.stem) for pose, _ in pairs]
    full = [_nfc(pose.stem) for pose, _ in pairs]
    for names in (shared, own, full):
        if all(names) and len({name.lower() for name in names}) == len(names):
            return names
    # The same names in several folders: with as many of the folders' names as tell them apart.
    for n in range(1, max((len(pose.parts) for pose, _ in pairs), default=1)):
        names = ["/".join((*pose.parent.parts[-n:], name)) for (pose, _), name in zip(pairs, own, strict=True)]
        if len({name.lower() for name in names}) == len(names):
            return names
    return full


def _shared(pose: Path, label: Path) -> str:
    """The longest text that both names have, without separators at its ends; '' where it cuts through a word."""
    name, other = _nfc(pose.stem), _nfc(label.stem)
    match = SequenceMatcher(None, name, other, autojunk=False).find_longest_match()
    text = name[match.a : match.a + match.size].strip("_-. ")
    if not text:
        return ""
    if any(_cuts_word(text, whole, whole.index(text)) for whole in (name, other)):
        return ""
    return text


def _cuts_word(text: str, whole: str, at: int) -> bool:
    """Whether `text`, which begins at `at`, is a piece of a longer word or number there."""
    before, behind = whole[:at][-1:], whole[at + len(text) :]
    inside_number = (before.isdigit() and text[0].isdigit()) or (behind[:1].isdigit() and text[-1].isdigit())
    # DeepLabCut puts its name behind the video's without anything between.
    goes_on = behind[:1].isalpha() and text[-1].isalpha() and not behind.startswith("DLC")
    return inside_number or (before.isalpha() and text[0].isalpha()) or goes_on


def _place_of(name: str, stem: str) -> int | None:
    """Where the id stands in a file's name: as a word of its own if it does so anywhere; None where it does not."""
    places = [at for at in range(len(stem)) if stem.startswith(name, at)]
    whole = [at for at in places if not _cuts_word(name, stem, at)]
    return next(iter(whole or places), None)


def _pattern(group: Sequence[Pair], root: Path) -> Pattern | None:
    """One pattern for all pairs of a group; None where it would find other files than theirs."""
    ids = tuple(pair.name for pair in group)
    poses = _path_pattern([(pair.name, pair.poses) for pair in group], root)
    label_files = {pair.labels for pair in group}
    labels = _path_pattern([(pair.name, pair.labels) for pair in group], root)
    if len(label_files) == 1 and labels is None:
        labels = _relative(label_files.pop(), root)  # one file of all, or of a name that has nothing of the poses'
    if poses is None or labels is None:
        return None
    for pair in group:
        if find_recording_files(root, poses, pair.name) != [root / _relative(pair.poses, root)]:
            return None
        if find_recording_files(root, labels, pair.name) != [root / _relative(pair.labels, root)]:
            return None
    return Pattern(poses, labels, ids)


def _path_pattern(files: Iterable[tuple[str, Path]], root: Path) -> str | None:
    befores, behinds = [], []
    for name, path in files:
        relative = _nfc(_relative(path, root))
        # In the file's own name: a short id such as 'v' stands in folders and in '.csv' as well.
        folder, _, own = name.rpartition("/")
        at = _place_of(own, _nfc(path.stem))
        if at is None or set(relative) & set("*?[]{}"):
            return None
        at += len(relative) - len(_nfc(path.name))
        if folder:
            at -= len(folder) + 1
            if at < 0 or not relative.startswith(f"{folder}/{own}", at) or relative[:at][-1:] not in ("", "/"):
                return None
        before, behind = relative[:at], relative[at + len(name) :]
        befores.append(before)
        behinds.append(behind)
    return f"{_generalized(befores)}{{id}}{_generalized(behinds)}"


def _generalized(texts: Sequence[str]) -> str:
    """One text, or what all begin and end with and a * between."""
    if len(set(texts)) == 1:
        return texts[0]
    start = _common_beginning(texts)
    end = _common_beginning([text[len(start) :][::-1] for text in texts])[::-1]
    return f"{start}*{end}"


def _common_beginning(texts: Sequence[str]) -> str:
    first, last = min(texts), max(texts)
    return first[: next((i for i, letter in enumerate(first) if letter != last[i : i + 1]), len(first))]


def _nfc(text: str) -> str:
    """Text with each letter in one form, as the finder of recordings' files compares it."""
    return unicodedata.normalize("NFC", text)


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()
