"""Which recordings are trained on and which are held out: whole videos, or parts of one with a margin between them.

Views of one session by several cameras are never parted: the score would be of moments that were learnt from. Of all
ways to divide, the one is taken whose two sides have every behaviour in the same proportion: rare behaviours would
otherwise all fall on one side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from math import comb

import numpy as np
from numpy.typing import NDArray

from rtseg.errors import SettingError
from rtseg.recordings.heads import Head
from rtseg.recordings.pairs import Part
from rtseg.recordings.recording import IGNORE

TRAIN, VALIDATION = "train", "validation"
SHARE = 0.3
"""Of the recordings that are held out; a quarter to a third is usual, and few videos need the larger one."""
MARGIN_S = 2.0
"""Left out between a part that is trained on and one that is held out: neighbouring frames are nearly the same."""
_BLOCKS = (6, 8, 10, 12, 14)
_TRIES = 4000
_GOOD_ENOUGH = 0.1
"""By which a behaviour's share on the held-out side may miss SHARE; finer blocks are tried until none misses more."""


@dataclass(frozen=True, eq=False)
class LabelledVideo:
    """A video's labels (T,) by head. start, stop: the frames that somebody looked at.

    session: what several cameras' views of the same moments share; by default the video stands alone.
    """

    name: str
    labels: Mapping[str, NDArray[np.int16]]
    n_frames: int
    start: int
    stop: int
    session: str = ""


@dataclass(frozen=True)
class Split:
    """train, validation: names of recordings or parts. parts: the parts among them, in the order of their frames."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    parts: tuple[Part, ...] = ()


def propose_split(videos: Sequence[LabelledVideo], heads: Sequence[Head], fps: float, share: float = SHARE) -> Split:
    """Divide videos into `train` and `validation`; views of one session stay together.

    A single video is cut into blocks. Of two or three, the one that is held out is cut in two, so that calibration has
    something to measure on. Raises SettingError where no division leaves each head a behaviour on both sides.
    """
    sessions = _sessions(videos)
    if len(sessions) == 1:
        return _split_blocks(sessions[0], heads, fps, share)
    counts = np.array([np.sum([_counts(v.labels, heads, v.start, v.stop) for v in views], 0) for views in sessions])
    chosen, _ = _best_subset(counts, max(1, round(share * len(sessions))), share, least=1)
    held_out = {view.name for i in chosen for view in sessions[i]}
    parts = [part for v in videos for part in _watched(v)]
    if len(chosen) == 1:
        parts = [part for part in parts if part.recording not in held_out] + _halves(sessions[chosen[0]], heads, fps)
    cut: dict[str, tuple[str, ...]] = {}
    for part in parts:
        cut[part.recording] = (*cut.get(part.recording, ()), part.id)
    sides: dict[bool, list[str]] = {True: [], False: []}
    for video in videos:
        sides[video.name in held_out] += cut.get(video.name, (video.name,))
    return Split(tuple(sides[False]), tuple(sides[True]), tuple(parts))


def _sessions(videos: Sequence[LabelledVideo]) -> list[list[LabelledVideo]]:
    """The views of each session, in the order of the first ones."""
    found: dict[str, list[LabelledVideo]] = {}
    for video in videos:
        found.setdefault(video.session or video.name, []).append(video)
    return list(found.values())


def _shortest(views: Sequence[LabelledVideo]) -> LabelledVideo:
    """The view by which all are cut: the others have its frames as well."""
    return min(views, key=lambda view: view.stop)


def _watched(video: LabelledVideo) -> list[Part]:
    """The stretch that was looked at as a part, where that is not the whole video."""
    if (video.start, video.stop) == (0, video.n_frames):
        return []
    return [Part(f"{video.name}-labelled", video.name, video.start, video.stop)]


def _halves(views: Sequence[LabelledVideo], heads: Sequence[Head], fps: float) -> list[Part]:
    """Two parts of each view of a session, cut at the same frames."""
    shortest = _shortest(views)
    start, middle, _ = _cuts(shortest, heads, 2)
    margin = _margin(shortest, fps, 2)
    parts: list[Part] = []
    for view in views:
        parts.append(Part(f"{view.name}-1", view.name, start, middle - margin // 2))
        parts.append(Part(f"{view.name}-2", view.name, middle + margin - margin // 2, view.stop))
    return parts


def _split_blocks(views: Sequence[LabelledVideo], heads: Sequence[Head], fps: float, share: float) -> Split:
    """Blocks of one session, cut at the same frames of every view."""
    shortest = _shortest(views)
    cuts, held_out = _choose_blocks(shortest, heads, fps, share)
    margin = _margin(shortest, fps, len(cuts) - 1)
    splits = [_parts(view.name, [*cuts[:-1], view.stop], held_out, margin) for view in views]
    return Split(
        tuple(name for one in splits for name in one.train),
        tuple(name for one in splits for name in one.validation),
        tuple(part for one in splits for part in one.parts),
    )


def _choose_blocks(
    video: LabelledVideo, heads: Sequence[Head], fps: float, share: float
) -> tuple[list[int], tuple[int, ...]]:
    """The frames at which a video is cut into blocks, and which blocks are held out. Raises as `propose_split`."""
    best: tuple[float, list[int], tuple[int, ...]] | None = None
    whole = np.array(_counts(video.labels, heads, video.start, video.stop))
    for n in _BLOCKS:
        cuts = _cuts(video, heads, n)
        margin = _margin(video, fps, n)
        if min(np.diff(cuts), default=0) <= 2 * margin:
            continue
        # Without what margins may take: a behaviour that lies there alone would be on neither side.
        sure = [(a + margin * (a > video.start), b - margin * (b < video.stop)) for a, b in pairwise(cuts)]
        counts = np.array([_counts(video.labels, heads, a, b) for a, b in sure])
        if (whole > 0)[counts.sum(axis=0) == 0].any():
            continue
        try:
            held_out, miss = _best_subset(counts, max(2, round(share * n)), share, least=2)
        except SettingError:
            continue
        if best is None or miss < best[0] - 0.02:  # more blocks cost more margins: only for a better division
            best = miss, cuts, held_out
        if best[0] <= _GOOD_ENOUGH:
            break
    if best is None:
        raise SettingError(
            f"{video.name}: the behaviours cannot be divided into blocks so that each is trained on and held out; "
            "label more of the video, leave out rare behaviours, or bring a second video"
        )
    return best[1], best[2]


def _parts(recording: str, cuts: Sequence[int], held_out: Sequence[int], margin: int) -> Split:
    """Blocks between cuts as parts: neighbours to train on are one part, held-out ones stay apart for calibration."""
    n = len(cuts) - 1
    parts: list[Part] = []
    sides: dict[bool, list[str]] = {True: [], False: []}
    block = 0
    while block < n:
        side = block in held_out
        end = block + 1
        while end < n and not side and end not in held_out:
            end += 1
        # Between neighbours of the same side nothing is lost by going on without a margin.
        before = 0 if block == 0 or (side and block - 1 in held_out) else margin - margin // 2
        behind = 0 if end == n or (side and end in held_out) else margin // 2
        name = f"{recording}-{len(parts) + 1}"
        parts.append(Part(name, recording, cuts[block] + before, cuts[end] - behind))
        sides[side].append(name)
        block = end
    return Split(tuple(sides[False]), tuple(sides[True]), tuple(parts))


def _margin(video: LabelledVideo, fps: float, n_blocks: int) -> int:
    """Frames between two parts: MARGIN_S, but no more than a tenth of a block."""
    return min(round(MARGIN_S * fps), (video.stop - video.start) // (10 * n_blocks))


def _cuts(video: LabelledVideo, heads: Sequence[Head], n: int) -> list[int]:
    """n + 1 frames between which blocks of about as many labelled frames lie, moved out of bouts where that is near."""
    labelled = np.zeros(video.n_frames, np.bool_)
    busy = np.zeros(video.n_frames, np.bool_)
    for head in heads:
        frames = video.labels[head.name]
        labelled |= frames != IGNORE
        busy |= np.isin(frames, [head.classes.index(name) for name in head.scored])
    labelled[: video.start] = labelled[video.stop :] = False
    where = np.flatnonzero(labelled)
    if len(where) < n:
        raise SettingError(f"{video.name}: {len(where)} frames carry a label, too few to train on and to test")
    reach = len(where) // (4 * n)
    cuts = [video.start]
    for i in range(1, n):
        at = int(where[len(where) * i // n])
        near = np.arange(max(at - reach, cuts[-1] + 1), min(at + reach, video.stop - 1))
        free = near[~busy[near] | ~busy[near - 1]] if len(near) else near
        cuts.append(int(free[np.argmin(np.abs(free - at))]) if len(free) else at)
    return [*cuts, video.stop]


def _counts(labels: Mapping[str, NDArray[np.int16]], heads: Sequence[Head], start: int, stop: int) -> list[int]:
    """Frames of every scored class of every head, and then of each head's other ones."""
    counts = []
    for head in heads:
        frames = labels[head.name][start:stop]
        found = np.bincount(frames[frames != IGNORE], minlength=len(head.classes))
        counts += [int(found[head.classes.index(name)]) for name in head.scored]
        counts.append(int(found.sum()) - sum(counts[-len(head.scored) :]))
    return counts


def _best_subset(counts: NDArray[np.int64], size: int, share: float, least: int) -> tuple[tuple[int, ...], float]:
    """The `size` of the rows (blocks or videos) whose share of every column is nearest to `share`, and by how much the
    worst column misses it.

    Every class must be on both sides, on the held-out side in `least` rows where it occurs in twice as many. Raises
    SettingError where no subset is so.
    """
    chosen = _subsets(len(counts), min(size, len(counts) - 1))  # (subsets, rows) of 0 and 1
    occurs = counts.any(axis=0)
    counts = counts[:, occurs]
    present = (counts > 0).astype(np.int64)
    inside = chosen @ present
    outside = present.sum(axis=0) - inside
    wanted = np.where(present.sum(axis=0) >= 2 * least, least, 1)
    valid = ((inside >= wanted) & (outside >= 1)).all(axis=1)
    if not valid.any():
        raise SettingError(
            "no division of the recordings leaves every behaviour on both sides; leave out rare behaviours "
            "or label more recordings"
        )
    missed = np.abs(chosen @ counts / counts.sum(axis=0) - share)
    worst = missed.max(axis=1)
    best = int(np.argmin(np.where(valid, worst + missed.mean(axis=1), np.inf)))
    return tuple(np.flatnonzero(chosen[best]).tolist()), float(worst[best])


def _subsets(n: int, size: int) -> NDArray[np.int64]:
    """Subsets as rows of 0 and 1: all where there are few, else some drawn at random, always the same ones."""
    if comb(n, size) <= _TRIES:
        members = np.array(list(combinations(range(n), size)))
    else:
        rng = np.random.default_rng(0)
        members = np.array([rng.choice(n, size, replace=False) for _ in range(_TRIES)])
    chosen = np.zeros((len(members), n), np.int64)
    np.put_along_axis(chosen, members, 1, axis=1)
    return chosen
