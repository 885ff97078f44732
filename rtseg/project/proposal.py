"""From files to a project: what a dataset file and a recipe will say, with what was noticed on the way.

Everything that files say is taken from them; what they leave open is asked, and decided as proposed where nobody can
be asked. Nothing is written here (`write`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

from rtseg.errors import SettingError, SkeletonError
from rtseg.project import behaviours
from rtseg.project.behaviours import TrackSummary, Unlabelled
from rtseg.project.body import Body, propose_body
from rtseg.project.files import FoundFiles, find_files
from rtseg.project.network import Sizes, propose_sizes
from rtseg.project.pairing import Pair, Pairing, Pattern, pair_files, patterns_of
from rtseg.project.questions import Asker, Wishes
from rtseg.project.reading import Counting, Progress, ReadProject, holds_video, read_project
from rtseg.project.split import SHARE, LabelledVideo, Split, propose_split
from rtseg.recordings.bouts import Bout, bouts_of
from rtseg.recordings.heads import HeadRule, apply_rules, spelt_alike
from rtseg.recordings.labels.label_file import Tracks
from rtseg.recordings.recording import IGNORE

_MAX_LISTED = 5
_AS_YOU_SAID = "as you said"
_LEAST_SHARED_BOUTS = 2
"""Of two videos that are views of one session; one bout may begin and end alike by chance."""


@dataclass(frozen=True)
class HeadCounts:
    """Labelled frames of a head by class on both sides of the split, and the masked ones."""

    head: str
    train: Mapping[str, int]
    validation: Mapping[str, int]
    masked: int


@dataclass(frozen=True)
class Project:
    """What the two files will say.

    reasons: head -> why frames without a label mean what they mean, of the heads that have such frames. notes: what a
    person should know before training.
    """

    name: str
    root: Path
    fps: float
    fps_said: bool
    pairs: tuple[Pair, ...]
    patterns: tuple[Pattern, ...]
    track_names: Mapping[str, str]
    counting: Counting
    body: Body
    rules: tuple[HeadRule, ...]
    reasons: Mapping[str, str]
    split: Split
    counts: tuple[HeadCounts, ...]
    sizes: Sizes
    notes: tuple[str, ...]


def propose_project(paths: Sequence[Path], wishes: Wishes, ask: Asker, progress: Progress) -> Project:
    """A project of the pose and label files named by, or below, the paths.

    Raises SettingError or RecordingError where no poses or labels are found, where no label file fits a pose file, for
    files that cannot be read, and where the labels hold nothing to learn.
    """
    found = find_files(paths)
    pairing = pair_files(found, holds_video)
    _require_pairs(pairing, found)
    read = read_project(pairing.pairs, wishes, ask, progress)
    body = propose_body(read.recordings)
    if wishes.axis is not None:
        body = _with_axis(body, wishes.axis)
    rules, reasons, notes = _propose_heads(read, wishes, ask)
    rules, videos, split, masked = _propose_split(
        pairing.pairs, read, rules, SHARE if wishes.share is None else wishes.share
    )
    notes += [*masked, *_unwatched_notes(videos), *_session_notes(videos), *_spelling_notes(read.tracks)]
    notes += [f"track {own!r} is taken for {name!r}, as other files write it" for own, name in read.track_names.items()]
    counts = tuple(_count(rule, split, videos) for rule in rules)
    n_labelled = max(sum(one.train.values()) for one in counts)
    n_train = _count_frames(split.train, split, videos)
    return Project(
        name=_name(wishes, found.root, ask),
        root=found.root,
        fps=read.fps,
        fps_said=read.fps_said,
        pairs=pairing.pairs,
        patterns=patterns_of(pairing.pairs, found.root),
        track_names=read.track_names,
        counting=read.counting,
        body=body,
        rules=tuple(rules),
        reasons=reasons,
        split=split,
        counts=counts,
        sizes=propose_sizes(body.skeleton, n_labelled, n_labelled / max(n_train, 1), read.fps),
        notes=(*_pairing_notes(pairing, found.others), *read.notes, *body.notes, *notes),
    )


def _require_pairs(pairing: Pairing, found: FoundFiles) -> None:
    if pairing.pairs:
        return
    labels = found.labels
    poses = ", ".join(path.name for path in pairing.without_labels[:_MAX_LISTED])
    if not labels:
        problem = f"poses were found ({poses}) and no label file; bring labels (docs/formats.md lists what is read)"
        problem += "".join(f"\n  {path}: {reason}" for path, reason in found.others[:_MAX_LISTED])
    elif pairing.undecided or pairing.contested:
        problem = "; ".join(_undecided_lines(pairing))
    else:
        listed = ", ".join(path.name for path in labels[:_MAX_LISTED])
        problem = (
            f"no label file is named like a pose file (poses: {poses}; labels: {listed}); rename them so that both "
            "begin with their video's name, or name one pose file and one label file"
        )
    raise SettingError(problem)


def _undecided_lines(pairing: Pairing) -> list[str]:
    return [
        f"{pose.name}: several label files fit it ({', '.join(label.name for label in labels)}); leave one, or name "
        "the files to use (rtseg init FILE FILE ...)"
        for pose, labels in pairing.undecided[:_MAX_LISTED]
    ] + [
        f"{label.name} fits several pose files ({', '.join(pose.name for pose in poses[:_MAX_LISTED])}); name the "
        "one to use (rtseg init FILE FILE ...), or, where each holds one animal, put their columns into one file"
        for label, poses in pairing.contested[:_MAX_LISTED]
    ]


def _pairing_notes(pairing: Pairing, others: Sequence[tuple[Path, str]]) -> list[str]:
    notes = _undecided_lines(pairing)
    notes += [f"left out, as it is not read: {path.name}: {reason}" for path, reason in others[:_MAX_LISTED]]
    for what, files in (
        ("no label file fits these poses, which are left out", pairing.without_labels),
        ("no poses fit these label files, which are left out", pairing.without_poses),
        ("other files of the same poses are left out", [t for pair in pairing.pairs for t in pair.twins]),
    ):
        if files:
            more = f" and {len(files) - _MAX_LISTED} more" if len(files) > _MAX_LISTED else ""
            notes.append(f"{what}: {', '.join(f.name for f in files[:_MAX_LISTED])}{more}")
    return notes


def _with_axis(body: Body, axis: tuple[str, str]) -> Body:
    try:
        return replace(body, skeleton=replace(body.skeleton, axis=axis))
    except SkeletonError as error:
        raise SettingError(f"--axis: {error}") from error


def _name(wishes: Wishes, root: Path, ask: Asker) -> str:
    proposed = behaviours.ascii_name(root.name, "-").lstrip("_-") or "project"
    name = wishes.name or ask.text("Name of the project", proposed)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise SettingError(f"expected a name of letters, digits, dashes and underscores, got {name!r}")
    return name


def _propose_heads(read: ReadProject, wishes: Wishes, ask: Asker) -> tuple[list[HeadRule], dict[str, str], list[str]]:
    """The heads' rules, why frames without a label mean what they do (by head), and what was left out."""
    summaries = behaviours.summarize_tracks(read.tracks)
    chosen = _chosen_tracks(summaries, wishes, ask)
    rules: list[HeadRule] = []
    reasons: dict[str, str] = {}
    notes: list[str] = []
    for track in chosen:
        one = summaries[track]
        name = behaviours.head_name(track, [rule.head.name for rule in rules])
        unlabelled = _unlabelled(one, name, wishes, ask)
        if unlabelled is not None:
            reasons[name] = unlabelled.reason
        negatives = unlabelled is not None and unlabelled.negatives
        rule, left_out = behaviours.head_rule(one, name, negatives, len(read.tracks))
        notes += left_out
        if len(rule.head.classes) > 1 and rule.head.scored:
            rules.append(rule)
            continue
        if rule.head.scored:
            problem = f"{rule.head.scored[0]!r} alone is labelled and frames without a label are masked"
            raise SettingError(f"head {name}: {problem}, so nothing says what it is not; take them for negatives")
        notes.append(f"track {track!r} is left out: it has no behaviour that can be learnt")
    if not rules:
        found = "; ".join(notes or ["they are empty"])
        raise SettingError(
            f"the labels hold no behaviour that can be learnt: {found}. Label more bouts of it, or videos"
        )
    return rules, reasons, notes


def _chosen_tracks(summaries: Mapping[str, TrackSummary], wishes: Wishes, ask: Asker) -> list[str]:
    unknown = [track for track in wishes.tracks if track not in summaries]
    if unknown:
        raise SettingError(f"--track: the labels have no {', '.join(unknown)}; there are: {', '.join(summaries)}")
    if wishes.tracks:
        return list(wishes.tracks)
    proposed = behaviours.tracks_for_heads(summaries)
    if len(summaries) == 1 or not proposed:
        return proposed
    question = f"What to learn, of the label tracks {', '.join(summaries)} (each gets its own answer at every frame)"
    answer = ask.text(question, ", ".join(proposed))
    chosen = [name.strip() for name in answer.split(",") if name.strip()]
    return _chosen_tracks(summaries, replace(wishes, tracks=tuple(chosen)), ask) if chosen != proposed else proposed


def _unlabelled(one: TrackSummary, name: str, wishes: Wishes, ask: Asker) -> Unlabelled | None:
    """What frames without a label mean for a head; None where every frame has one."""
    proposed = behaviours.propose_unlabelled(one)
    if proposed is None:
        return None
    if wishes.unlabelled is not None:
        return Unlabelled(wishes.unlabelled, _AS_YOU_SAID)
    background = one.background or behaviours.OTHER
    options = {
        "negatives": f"nothing of it happened there: they count as {background!r}",
        "masked": "nobody looked at them: neither trained on nor scored",
    }
    share = 1 - one.n_covered / max(one.n_frames, 1)
    question = f"Head {name}: what are the {share:.0%} of the frames without a label? ({proposed.reason})"
    negatives = ask.choose(question, options, "negatives" if proposed.negatives else "masked") == "negatives"
    return proposed if negatives == proposed.negatives else Unlabelled(negatives, _AS_YOU_SAID)


def _propose_split(
    pairs: Sequence[Pair], read: ReadProject, rules: Sequence[HeadRule], share: float
) -> tuple[list[HeadRule], list[LabelledVideo], Split, list[str]]:
    """The heads' rules, the videos' labels, the split, and which behaviours had to be masked so that there is one."""
    rules, notes = list(rules), list[str]()
    while True:
        videos = _labelled_videos(pairs, read, rules)
        try:
            return rules, videos, propose_split(videos, [rule.head for rule in rules], read.fps, share), notes
        except SettingError:
            rarest = _rarest(rules, videos)
            if rarest is None:
                raise
        # All its bouts may lie close together, where no division has some of them on each side.
        at, label = rarest
        notes.append(f"head {rules[at].head.name}: {label!r} cannot be on both sides of a split: masked")
        rules[at] = behaviours.without_class(rules[at], label)


def _rarest(rules: Sequence[HeadRule], videos: Sequence[LabelledVideo]) -> tuple[int, str] | None:
    """The scored class with the fewest frames, of the heads that have another one: (index of the head, class)."""
    frames = {
        (at, label): sum(int((v.labels[rule.head.name] == rule.head.classes.index(label)).sum()) for v in videos)
        for at, rule in enumerate(rules)
        if len(rule.head.scored) > 1 and len(rule.head.classes) > 2
        for label in rule.head.scored
    }
    return min(frames, key=lambda key: frames[key]) if frames else None


def _labelled_videos(pairs: Sequence[Pair], read: ReadProject, rules: Sequence[HeadRule]) -> list[LabelledVideo]:
    videos = []
    for pair, n_frames, tracks in zip(pairs, read.lengths, read.tracks, strict=True):
        labels = {
            name: one.frames for name, one in apply_rules(tuple(rules), tracks, n_frames, str(pair.labels)).items()
        }
        starts, stops = [n_frames], [0]
        for rule in rules:
            background = rule.head.classes.index(rule.unlabelled) if rule.unlabelled else None
            # Where frames without a label are masked, those at the end are masked as well.
            start, stop = (
                behaviours.watched_frames(labels[rule.head.name], background) if rule.unlabelled else (0, n_frames)
            )
            starts.append(start)
            stops.append(stop)
        videos.append(LabelledVideo(pair.name, labels, n_frames, min(starts), max(stops)))
    return _with_sessions(pairs, videos, rules)


def _with_sessions(
    pairs: Sequence[Pair], videos: Sequence[LabelledVideo], rules: Sequence[HeadRule]
) -> list[LabelledVideo]:
    """The videos, where several take the same bouts from one label file as views of one session."""
    found: list[LabelledVideo] = []
    for pair, video in zip(pairs, videos, strict=True):
        earlier = (one for before, one in zip(pairs, found, strict=False) if before.labels == pair.labels)
        first = next((one for one in earlier if _are_views(one, video, rules)), video)
        found.append(replace(video, session=first.session or first.name))
    return found


def _are_views(one: LabelledVideo, other: LabelledVideo, rules: Sequence[HeadRule]) -> bool:
    """Whether two videos have the same scored bouts, two at least, at the same frames."""
    bouts: list[set[tuple[str, Bout]]] = []
    for video in (one, other):
        scored = {(r.head.name, r.head.classes.index(name)) for r in rules for name in r.head.scored}
        some = {(name, bout) for name, frames in video.labels.items() for bout in bouts_of(frames)}
        bouts.append({(name, bout) for name, bout in some if (name, bout.label) in scored})
    return bouts[0] == bouts[1] and len(bouts[0]) >= _LEAST_SHARED_BOUTS


def _unwatched_notes(videos: Sequence[LabelledVideo]) -> list[str]:
    return [
        f"{v.name}: frames {v.start} to {v.stop} of {v.n_frames} are used; the labels leave the rest out, as if nobody "
        "had looked at it (from_frame, to_frame)"
        for v in videos
        if (v.start, v.stop) != (0, v.n_frames)
    ]


def _session_notes(videos: Sequence[LabelledVideo]) -> list[str]:
    """Videos that stay on one side of the split together."""
    sessions: dict[str, list[str]] = {}
    for video in videos:
        sessions.setdefault(video.session, []).append(video.name)
    return [
        f"{', '.join(names)}: the same bouts at the same frames, so they are taken for views of one session by "
        "several cameras, and all are either trained on or held out"
        for names in sessions.values()
        if len(names) > 1
    ]


def _spelling_notes(files: Sequence[Tracks]) -> Iterator[str]:
    """Tracks of one file whose names differ in case and blanks alone: two animals, or one and a slip."""
    # A subject's behaviours, 'subject:behaviour', say no more than the subject.
    names = [[name for name in some if ":" not in name] for some in files]
    pairs = {pair: None for some in names for pair in combinations(some, 2) if spelt_alike(*pair)}
    for one, other in pairs:
        yield (
            f"tracks {one!r} and {other!r} stand in one label file and are taken for two; if they are one, correct "
            "the file: bouts of one are no behaviour in the other"
        )


def _count_frames(names: Sequence[str], split: Split, videos: Sequence[LabelledVideo]) -> int:
    """Frames of recordings or parts, labelled or not."""
    lengths = {video.name: video.n_frames for video in videos}
    lengths |= {part.id: (part.to_frame or 0) - part.from_frame for part in split.parts}
    return sum(lengths[name] for name in names)


def _count(rule: HeadRule, split: Split, videos: Sequence[LabelledVideo]) -> HeadCounts:
    sides: list[dict[str, int]] = []
    masked = 0
    by_name = {video.name: video for video in videos}
    parts = {part.id: part for part in split.parts}
    for names in (split.train, split.validation):
        counts = dict.fromkeys(rule.head.classes, 0)
        for name in names:
            part = parts.get(name)
            frames = by_name[part.recording if part else name].labels[rule.head.name]
            frames = frames[part.from_frame : part.to_frame] if part else frames
            masked += int((frames == IGNORE).sum())
            for code, label in enumerate(rule.head.classes):
                counts[label] += int((frames == code).sum())
        sides.append(counts)
    return HeadCounts(rule.head.name, sides[0], sides[1], masked)
