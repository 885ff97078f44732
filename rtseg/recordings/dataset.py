"""The dataset file (TOML): which recordings and labels belong together, what the heads are, and the split.

Read by training and evaluation. Nothing is opened before an item of its split is asked for.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rtseg.errors import RecordingError, RtsegError, SettingError, SkeletonError
from rtseg.frames.skeleton import Skeleton
from rtseg.recordings.files.reading_warnings import WarningLog
from rtseg.recordings.heads import Head, HeadRule, Implied, check_rules
from rtseg.recordings.pairs import PairSource, pair_sources
from rtseg.recordings.sources import Calms21Source, Context, Item
from rtseg.recordings.toml_table import Table

OTHER = "other"
"""The class of what is not the behaviour, where a head of `each` names no classes."""
PER_GROUP = "per-group"
"""In [[calms21]]: every group (annotator, behaviour) labels the head of its own name."""


@dataclass(frozen=True)
class Dataset:
    """Recordings with labels under one root folder.

    skeleton: every item is matched to it. fps: frames per second. px_per_mm: of every item; None = not known. heads: in
    the order of the file. simulated: made by `rtseg simulate`. splits: their names. warnings: of all items read so far;
    `warnings.summary()` is what to print.
    """

    name: str
    root: Path
    skeleton: Skeleton
    fps: float
    heads: tuple[Head, ...]
    simulated: bool
    splits: tuple[str, ...]
    sources: tuple[PairSource | Calms21Source, ...] = field(repr=False)
    rules: tuple[HeadRule, ...] = field(repr=False)
    px_per_mm: float | None = None
    warnings: WarningLog = field(default_factory=WarningLog, repr=False, compare=False)

    def head(self, name: str) -> Head:
        """The head of that name."""
        for head in self.heads:
            if head.name == name:
                return head
        raise SettingError(f"dataset {self.name!r} has the heads {', '.join(h.name for h in self.heads)}, not {name!r}")

    def ids(self, split: str) -> tuple[str, ...]:
        """The names of the split's recordings, in the order of `items`. Scans CalMS21 files, opens no other."""
        context = self._context(split)
        return tuple(i for source in self.sources for i in source.ids(split, context))

    def parts(self, split: str) -> dict[str, str]:
        """The split's names that are [[parts]] -> the recording that each is cut from. Opens no file."""
        context = self._context(split)
        return {name: whole for source in self.sources for name, whole in source.cut_from(split, context).items()}

    def items(self, split: str) -> Iterator[Item]:
        """The split's items, each read when asked for.

        Raises, before the first is read, SettingError for an unknown split and RecordingError that lists every
        missing file.
        """
        # All at once and before hours of work: a lab mends one list of paths, not one path after another.
        context = self._context(split)
        missing = [path for source in self.sources for path in source.missing(split, context)]
        if missing:
            listed = "\n  ".join(missing)
            problem = f"dataset {self.name!r}, split {split!r}: {len(missing)} files are missing"
            raise RecordingError(self.root, f"{problem}; name their folder with --root:\n  {listed}")
        return self._read(split, context)

    def items_or_errors(self, split: str) -> Iterator[Item | RtsegError]:
        """As `items`, with the error in the place of a recording that cannot be read; then the next one is read."""
        context = self._context(split)
        for source in self.sources:
            for alone in source.separately(split):
                try:
                    yield from replace(self, sources=(alone,))._read(split, context)
                except RtsegError as error:
                    yield error

    def _read(self, split: str, context: Context) -> Iterator[Item]:
        for source in self.sources:
            for item in source.items(split, context):
                if item.recording.simulated and not self.simulated:
                    problem = f"is simulated and dataset {self.name!r} does not say so; set simulated = true there"
                    raise RecordingError(item.recording.source, problem)
                # A split may be read several times; the log counts a file once.
                self.warnings.add_warnings(item.warnings)
                yield item

    def _context(self, split: str) -> Context:
        if split not in self.splits:
            raise SettingError(f"dataset {self.name!r} has the splits {', '.join(self.splits)}, not {split!r}")
        return Context(self.root, self.skeleton, self.fps, self.rules, self.px_per_mm)


def load_dataset(path: Path | str, root: Path | str | None = None) -> Dataset:
    """The Dataset that a TOML file describes.

    root: replaces the file's own root folder, which counts from the file's folder. The keys (engines/*.dataset.toml
    are examples): name, root, fps, simulated, px_per_mm (to which recordings are brought that have another);

    [skeleton]      animals, keypoints, axis, pairs, edges: every recording is matched to it by name
    [[recordings]]  poses, labels: paths with {id} and *; ids: a list, else every id that is found; keypoints, animals:
                    {the pose file's name = the dataset's}, or of animals a list of those that take part; tracks: {the
                    label file's track = the heads'}; observation: of a BORIS file with several, the one to read, with
                    {id}; first_frame = 1, last_included = true: of tables whose frames count from 1, or whose bouts
                    include their last frame; px_per_mm: of these, where it is not the dataset's
    [[parts]]       frames of a recording that are a recording of their own: id, its name; recording, the id of the
                    whole; from_frame (0), to_frame (all), which is not included. [split] then names the parts
    [[calms21]]     file; split; heads: one head, or "per-group"; only, without: patterns of sequence names
    [heads.NAME]    classes; scored (all); track (NAME); rename, ignore, missing = "mask", implied, unlabelled,
                    mask_where_ignored: see HeadRule; group: heads whose scores are averaged; each: a list of names
                    for as many heads alike, {each} standing for the name in track, classes (other, {each}) and scored
    [split]         split name = list of ids and parts, or "rest"

    Raises SettingError naming the key for anything unknown, missing or contradictory.
    """
    path = Path(path)
    try:
        plain = tomllib.loads(path.read_text(encoding="utf-8-sig"))  # Windows' Notepad writes a byte-order mark
    except OSError as error:
        raise SettingError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingError(f"{path}: is no TOML: {error}") from error
    try:
        return _dataset(path, plain, root)
    except SettingError as error:
        raise SettingError(f"{path}: {error}") from error


def _dataset(path: Path, plain: Mapping[str, Any], root: Path | str | None) -> Dataset:
    top = Table("", plain)
    top.only(
        "name", "root", "fps", "simulated", "px_per_mm", "skeleton", "recordings", "parts", "calms21", "heads", "split"
    )
    # Relative to the file, not to where the command runs: datasets are moved as folders.
    folder = Path(root) if root is not None else path.parent / top.text("root", ".")
    rules = tuple(rule for table in top.tables("heads") for rule in _rules(table))
    names = [rule.head.name for rule in rules]
    if not names or len(set(names)) != len(names):
        raise SettingError(f"[heads] needs heads of different names, got {', '.join(names) or 'none'}")
    check_rules(rules)
    pairs = pair_sources(top, folder)
    calms = tuple(_calms21(table, names) for table in top.array("calms21"))
    if not pairs and not calms:
        raise SettingError("expected [[recordings]] or [[calms21]], got neither")
    splits = dict.fromkeys([*(s for pair in pairs for s in pair.splits), *(source.split for source in calms)])
    return Dataset(
        name=top.text("name"),
        root=folder,
        skeleton=_skeleton(top.table("skeleton")),
        fps=top.positive("fps"),
        heads=tuple(rule.head for rule in rules),
        simulated=top.flag("simulated", False),
        splits=tuple(splits),
        sources=(*pairs, *calms),
        rules=rules,
        px_per_mm=_px_per_mm(top, pairs),
    )


def _px_per_mm(top: Table, pairs: Sequence[PairSource]) -> float | None:
    """Of the dataset: what the file says at its top, else what its first recordings have."""
    if "px_per_mm" in top.plain:
        return top.positive("px_per_mm")
    return pairs[0].px_per_mm if pairs else None


def _skeleton(table: Table) -> Skeleton:
    try:
        return Skeleton.from_dict(dict(table.plain))
    except SkeletonError as error:
        raise SettingError(f"[skeleton]: {error}") from error


def _rules(table: Table) -> list[HeadRule]:
    """One rule, or one for every name in `each`, which {each} stands for in track, classes and scored."""
    table.only(
        "track",
        "classes",
        "scored",
        "ignore",
        "rename",
        "missing",
        "implied",
        "unlabelled",
        "mask_where_ignored",
        "group",
        "each",
    )
    own = table.where.removeprefix("heads.")
    each = table.texts("each", ())
    missing = table.text("missing", "error")
    if missing not in ("error", "mask"):
        raise SettingError(f"{table.where}.missing: expected 'error' or 'mask', got {missing!r}")
    implied = None
    if "implied" in table.plain:
        source = table.table("implied")
        source.only("from", "label", "when")
        implied = Implied(source.text("from"), source.text("label"), source.texts("when"))
    rules = []
    # Behaviours that have a head each are told from everything else, unless the file says otherwise.
    default = ((OTHER, "{each}"), ("{each}",)) if each and "classes" not in table.plain else (None, None)
    for name in each or (own,):
        classes = tuple(c.replace("{each}", name) for c in table.texts("classes", default[0]))
        scored = tuple(c.replace("{each}", name) for c in table.texts("scored", default[1] or classes))
        rules.append(
            HeadRule(
                head=Head(name, classes, scored, table.text("group", own)),
                track=table.text("track", "").replace("{each}", name) or None,
                rename=table.names("rename"),
                ignore=table.texts("ignore", ()),
                missing_ok=missing == "mask",
                implied=implied,
                unlabelled=table.text("unlabelled", "") or None,
                mask_where_ignored=table.text("mask_where_ignored", "") or None,
            )
        )
    return rules


def _calms21(table: Table, heads: list[str]) -> Calms21Source:
    table.only("file", "split", "heads", "only", "without")
    head = table.text("heads")
    if head != PER_GROUP and head not in heads:
        raise SettingError(f"{table.where}.heads: expected {PER_GROUP!r} or one of {', '.join(heads)}, got {head!r}")
    return Calms21Source(
        file=table.text("file"),
        split=table.text("split"),
        heads=None if head == PER_GROUP else head,
        only=table.texts("only", ("*",)),
        without=table.texts("without", ()),
    )
