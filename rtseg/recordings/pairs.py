"""Pose files beside label files: `[[recordings]]` and `[[parts]]` of a dataset file.

Which files belong together is found by their names; nothing is opened before an item of its split is asked for.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

from rtseg.errors import RecordingError, SettingError
from rtseg.recordings.files.reading_warnings import with_file
from rtseg.recordings.heads import apply_rules
from rtseg.recordings.naming import NameMap
from rtseg.recordings.sources import Context, Item
from rtseg.recordings.toml_table import Table

REST = "rest"
"""In [split]: every recording, or part of one, that no other split lists."""
_PAIR_KEYS = (
    *("poses", "labels", "ids", "keypoints", "animals", "tracks"),
    *("observation", "first_frame", "last_included", "px_per_mm"),
)


@dataclass(frozen=True)
class Part:
    """Frames of a recording that stand in the dataset as a recording of their own: `[[parts]]`.

    id: its name. recording: the id of the whole. from_frame, to_frame: 0-based, the end not included; None = to the
    last. Nothing of the frames before it is seen: it is a stream that starts there, without any history.
    """

    id: str
    recording: str
    from_frame: int = 0
    to_frame: int | None = None

    def of(self, whole: Item) -> Item:
        """These frames of the whole recording and of its labels, cut alike. Raises RecordingError beyond its end."""
        n_frames = len(whole.recording)
        stop = n_frames if self.to_frame is None else self.to_frame
        if not self.from_frame < stop <= n_frames:
            problem = f"part {self.id!r} wants frames {self.from_frame} to {stop}, and there are {n_frames}"
            raise RecordingError(whole.recording.source, f"{problem}; correct from_frame or to_frame in the dataset")
        labels = {head: one.part(self.from_frame, stop) for head, one in whole.labels.items()}
        return Item(whole.recording.part(self.id, self.from_frame, stop), labels)


@dataclass(frozen=True)
class PairSource:
    """Pose files beside label files: `[[recordings]]`.

    poses, labels: paths under the root, with {id} for the recording's id and * for any other part. splits: split
    -> names of recordings or parts. parts: name -> part. names: the file's animals and keypoints, as the dataset calls
    them. tracks: a label file's name of a track -> the heads'. observation: of a BORIS file with several, the one to
    read, with {id}; '' = the one that is named like the poses. first_frame, last_included: how label tables count
    frames. px_per_mm: of these recordings; None = the dataset's. recordings: the ids of all, of every split.
    """

    poses: str
    labels: str
    splits: Mapping[str, tuple[str, ...]]
    parts: Mapping[str, Part] = field(default_factory=dict)
    names: NameMap = field(default_factory=NameMap)
    tracks: Mapping[str, str] = field(default_factory=dict)
    observation: str = ""
    first_frame: int = 0
    last_included: bool = False
    px_per_mm: float | None = None
    recordings: tuple[str, ...] = ()

    def ids(self, split: str, context: Context) -> tuple[str, ...]:
        """The names of the split's recordings and parts, in order."""
        return self.splits.get(split, ())

    def cut_from(self, split: str, context: Context) -> dict[str, str]:
        """The split's names that are parts -> the recording that each is cut from."""
        return {name: self.parts[name].recording for name in self.ids(split, context) if name in self.parts}

    def separately(self, split: str) -> list[PairSource]:
        """A source for each of the split's files, so that one that cannot be read does not hide the others."""
        by_file: dict[str, list[str]] = {}
        for name in self.splits.get(split, ()):
            by_file.setdefault(self._file_id(name), []).append(name)
        return [replace(self, splits={split: tuple(names)}) for names in by_file.values()]

    def missing(self, split: str, context: Context) -> list[str]:
        """The files of the split that are not there, as paths."""
        files = dict.fromkeys(self._file_id(name) for name in self.ids(split, context))
        patterns = [(pattern, i) for i in files for pattern in (self.poses, self.labels)]
        return [
            str(context.root / p.replace("{id}", i))
            for p, i in patterns
            if not find_recording_files(context.root, p, i)
        ]

    def items(self, split: str, context: Context) -> Iterator[Item]:
        """The split's items, each read when asked for; parts of one recording that follow each other read it once."""
        whole: tuple[str, Item] | None = None
        for name in self.ids(split, context):
            part = self.parts.get(name)
            if part is None:
                yield self._read(name, context)
                continue
            if whole is None or whole[0] != part.recording:
                whole = part.recording, self._read(part.recording, context)
            yield part.of(whole[1])

    def _file_id(self, name: str) -> str:
        return self.parts[name].recording if name in self.parts else name

    def _read(self, name: str, context: Context) -> Item:
        from rtseg.recordings.labels.label_file import Video
        from rtseg.recordings.open import read_recording, read_video_labels

        poses = _one(context.root, self.poses, name)
        labels = _one(context.root, self.labels, name)
        # The poses first: their length and name are what the labels must fit.
        recording = self.names.rename(read_recording(poses, fps=context.fps, name=name))
        recording = context.brought_to_scale(recording, self.px_per_mm).select(context.skeleton)
        observation = self.observation.replace("{id}", name)
        called = poses.name, name
        others = tuple(other for other in self.recordings if other != name)
        counting = self.first_frame, self.last_included
        video = replace(
            Video(len(recording), context.fps, called, observation, *counting),
            n_tracked=len(recording.came),
            other_names=others,
        )
        tracks = read_video_labels(labels, video).renamed(labels, self.tracks)
        heads = apply_rules(context.rules, tracks, len(recording), str(labels))
        heads = {head: replace(one, warnings=with_file(one.warnings, labels)) for head, one in heads.items()}
        return Item(recording, heads)


def pair_sources(top: Table, root: Path) -> tuple[PairSource, ...]:
    """The [[recordings]] of a dataset file, with their ids and [[parts]] sorted into the splits of [split].

    Raises SettingError naming the key for anything unknown, missing or contradictory.
    """
    tables = top.array("recordings")
    if not tables:
        if "split" in top.plain or "parts" in top.plain:
            raise SettingError(
                "[split] and [[parts]] divide [[recordings]] and there are none; a [[calms21]] file names its own split"
            )
        return ()
    split = top.table("split")
    lists = {name: split.texts(name) for name in split.plain if split.plain[name] != REST}
    rest = [name for name in split.plain if name not in lists]
    if len(rest) > 1:
        raise SettingError(f"[split]: only one can be {REST!r}, got {', '.join(rest)}")
    ids: list[tuple[str, ...]] = []
    for table in tables:
        table.only(*_PAIR_KEYS)
        for key in ("poses", "labels"):
            check_pattern(f"{table.where}.{key}", table.text(key))
        ids.append(table.texts("ids", ()) or found_ids(root, table.text("poses"), table.text("labels")))
    twice = [i for some in ids for i in some]
    if len(set(twice)) != len(twice):
        raise SettingError(
            f"recordings: these ids come twice: {', '.join(sorted({i for i in twice if twice.count(i) > 1}))}"
        )
    parts = _parts(top.array("parts"), twice)
    cut = _parts_of(parts)
    names = [tuple(name for i in some for name in cut.get(i, (i,))) for some in ids]
    _check_split([name for some in names for name in some], lists, cut)
    _check_scales(top, tables)
    return tuple(_pair(table, own, parts, split, lists) for table, own in zip(tables, names, strict=True))


def _pair(
    table: Table, own: Sequence[str], parts: Mapping[str, Part], split: Table, lists: Mapping[str, tuple[str, ...]]
) -> PairSource:
    """One [[recordings]]. own: its recordings and parts. lists: split -> the names that it lists."""
    listed = {name for some in lists.values() for name in some}
    return PairSource(
        poses=table.text("poses"),
        labels=table.text("labels"),
        # In the order of the file; what is not in `lists` is the rest.
        splits={
            name: tuple(i for i in own if (i in lists[name] if name in lists else i not in listed))
            for name in split.plain
        },
        parts={name: parts[name] for name in own if name in parts},
        names=NameMap.from_plain(table),
        tracks=table.names("tracks"),
        observation=table.text("observation", ""),
        first_frame=table.whole("first_frame", 0),
        last_included=table.flag("last_included", False),
        px_per_mm=table.positive("px_per_mm") if "px_per_mm" in table.plain else None,
        recordings=tuple(dict.fromkeys(parts[name].recording if name in parts else name for name in own)),
    )


def _check_scales(top: Table, tables: Sequence[Table]) -> None:
    """Raise where only some recordings say how many px are a mm, and the dataset does not."""
    said = [table for table in tables if "px_per_mm" in table.plain]
    if said and "px_per_mm" not in top.plain and (len(said) < len(tables) or "calms21" in top.plain):
        problem = "says how many px of some recordings are a mm; say at the top of the file, too, to how many all are"
        raise SettingError(f"{said[0].key('px_per_mm')} {problem} brought (px_per_mm = ...)")


def _parts(tables: Sequence[Table], known: Sequence[str]) -> dict[str, Part]:
    """The [[parts]] by name. Raises SettingError for names that are taken, and for parts that share frames."""
    parts: dict[str, Part] = {}
    for table in tables:
        table.only("id", "recording", "from_frame", "to_frame")
        name, whole = table.text("id"), table.text("recording")
        if name in parts or name in known:
            raise SettingError(f"{table.key('id')}: {name!r} is the id of another part or recording; choose another")
        if whole not in known:
            raise SettingError(f"{table.key('recording')}: no recording has the id {whole!r}; {', '.join(known)} have")
        stop = table.whole("to_frame", 0) if "to_frame" in table.plain else None
        part = parts[name] = Part(name, whole, table.whole("from_frame", 0), stop)
        if stop is not None and stop <= part.from_frame:
            problem = f"expected more than from_frame ({part.from_frame}), got {stop}; the end is not included"
            raise SettingError(f"{table.key('to_frame')}: {problem}")
    for names in _parts_of(parts).values():
        some = sorted((parts[name] for name in names), key=lambda part: part.from_frame)
        for before, after in pairwise(some):
            # Frames that are trained on must not be scored as well, nor be counted twice.
            if before.to_frame is None or before.to_frame > after.from_frame:
                raise SettingError(f"parts: {before.id!r} and {after.id!r} share frames of {after.recording!r}")
    return parts


def _parts_of(parts: Mapping[str, Part]) -> dict[str, tuple[str, ...]]:
    """Recording -> the names of its parts, in the order of the file."""
    found: dict[str, tuple[str, ...]] = {}
    for name, part in parts.items():
        found[part.recording] = (*found.get(part.recording, ()), name)
    return found


def _check_split(
    known: Sequence[str], lists: Mapping[str, tuple[str, ...]], cut: Mapping[str, tuple[str, ...]]
) -> None:
    """Raise for a name that is in two splits, that only a split names, or that of a recording cut into parts."""
    split_of: dict[str, str] = {}
    for name, some in lists.items():
        for whole in (i for i in some if i in cut):
            raise SettingError(f"split.{name}: {whole!r} is cut into parts; name those: {', '.join(cut[whole])}")
        unknown = [i for i in some if i not in known]
        if unknown:
            raise SettingError(
                f"split.{name}: no recording has the id {', '.join(unknown)}; there are: {', '.join(known)}"
            )
        for i in some:
            if split_of.setdefault(i, name) != name:
                raise SettingError(
                    f"split: {i!r} is in both {split_of[i]!r} and {name!r}; a recording belongs to one split"
                )


def found_ids(root: Path, poses: str, labels: str) -> tuple[str, ...]:
    """The ids of the files that match two patterns with {id}, sorted.

    Ids come from the pattern of the poses. Where a * stands beside its {id}, as for DeepLabCut's file names, nothing
    says where the id ends, and they come from the pattern of the labels. Raises SettingError where that is no better,
    and where no file matches.
    """
    with_id = [pattern for pattern in (poses, labels) if "{id}" in pattern]
    telling = [pattern for pattern in with_id if "{id}*" not in pattern and "*{id}" not in pattern]
    if not telling:
        problem = f"{poses!r} and {labels!r} have a * beside {{id}}, so that nothing says where an id ends"
        raise SettingError(f"recordings: {problem}; list the ids (ids = [...])")
    pattern = _nfc(telling[0])
    matches = re.compile(_regex(pattern, "(?P<id>[^/]+?)")).fullmatch
    names = (_nfc(p.relative_to(root).as_posix()) for p in root.glob(_glob(pattern, "*")))
    ids = sorted({m["id"] for m in map(matches, names) if m})
    if not ids:
        raise SettingError(f"recordings: no file under {root} matches {pattern!r}; correct the pattern or the root")
    return tuple(ids)


def _regex(pattern: str, name: str) -> str:
    """A path pattern as a regular expression, `name` standing for {id}."""
    parts = re.split(r"(\{id\}|\*)", pattern)
    return "".join(name if p == "{id}" else "[^/]*" if p == "*" else re.escape(p) for p in parts)


def check_pattern(where: str, pattern: str) -> None:
    """Raise SettingError unless {id} stands once in the pattern (of labels, at most once) and it is under the root."""
    # One label file may serve many recordings: a BORIS project holds an observation of each.
    if pattern.count("{id}") != 1 and not (where.endswith("labels") and "{id}" not in pattern):
        raise SettingError(f"{where}: expected {{id}} once, as in 'poses/{{id}}.csv', got {pattern!r}")
    if set(pattern) & set("?[]") or "**" in pattern:
        raise SettingError(f"{where}: only {{id}} and single * stand for something, got {pattern!r}")
    if Path(pattern).is_absolute() or ".." in Path(pattern).parts:
        raise SettingError(f"{where}: expected a path under the root folder, got {pattern!r}; set 'root' instead")


def find_recording_files(root: Path, pattern: str, name: str) -> list[Path]:
    """The files of a recording. Beside a *, id 'v1' is not taken for the beginning of 'v10'.

    An id may name folders as well: 'cage1/m1' of '{id}DLC_*.csv'.
    """
    pattern, name = _nfc(pattern), _nfc(name)
    # Ids that end in a digit are numbers: 1 is not the beginning of 10, while "a" may well be that of "a_left".
    start, end = ("(?<![0-9])" if name[:1].isdecimal() else ""), ("(?![0-9])" if name[-1:].isdecimal() else "")
    matches = re.compile(_regex(pattern, f"{start}{re.escape(name)}{end}")).fullmatch
    found = root.glob(_glob(pattern, "/".join("*" * (name.count("/") + 1))))
    return sorted(path for path in found if matches(_nfc(path.relative_to(root).as_posix())))


def _glob(pattern: str, name: str) -> str:
    """A path pattern as a shell's, `name` standing for {id}; it may find more than the regular expression."""
    # Letters beyond ASCII have two forms on disk, of which a shell's pattern would find one.
    return re.sub(r"\*+", "*", re.sub(r"[^\x00-\x7f]+", "*", pattern.replace("{id}", name)))


def _nfc(text: str) -> str:
    """Text with each letter in one form: macOS writes ä as two characters."""
    return unicodedata.normalize("NFC", text)


def _one(root: Path, pattern: str, name: str) -> Path:
    found = find_recording_files(root, pattern, name)
    if not found:
        where = "there is no such folder" if not root.is_dir() else "nothing there is called so"
        mend = "correct the id or the pattern, or name another folder (root, --root)"
        raise RecordingError(root, f"expected one file for {pattern.replace('{id}', name)!r}, and {where}; {mend}")
    if len(found) > 1:
        names = ", ".join(p.name for p in found)
        problem = f"expected one file for {pattern.replace('{id}', name)!r}, found {names}; make the pattern stricter"
        raise RecordingError(root, problem)
    return found[0]
