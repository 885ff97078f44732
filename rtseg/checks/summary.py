"""What the recordings of a dataset hold, counted one recording at a time, so that none needs to stay in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from rtseg.frames.same_frames import window_hashes
from rtseg.frames.scale import body_length
from rtseg.frames.skeleton import Skeleton
from rtseg.recordings.bouts import bouts_of
from rtseg.recordings.heads import MASKED_BECAUSE, HeadRule
from rtseg.recordings.recording import IGNORE
from rtseg.recordings.sources import Item


@dataclass(frozen=True)
class HeadCounts:
    """One head in one recording, or in several of them.

    frames, bouts: of every class, in the head's order. masked: frames by reason, in the words of MASKED_BECAUSE.
    labelled: recordings with a labelled frame. recordings: all of them.
    """

    frames: tuple[int, ...]
    bouts: tuple[int, ...]
    masked: Mapping[str, int]
    labelled: int
    recordings: int = 1

    @classmethod
    def total(cls, counts: Iterable[HeadCounts], n_classes: int) -> HeadCounts:
        """The sum over recordings; zeros where there is none."""
        some = list(counts)
        zeros = (0,) * n_classes
        masked = {why: sum(one.masked.get(why, 0) for one in some) for why in MASKED_BECAUSE}
        return cls(
            frames=tuple(map(sum, zip(zeros, *(one.frames for one in some), strict=True))),
            bouts=tuple(map(sum, zip(zeros, *(one.bouts for one in some), strict=True))),
            masked={why: n for why, n in masked.items() if n},
            labelled=sum(one.labelled for one in some),
            recordings=sum(one.recordings for one in some),
        )


@dataclass(frozen=True, eq=False)
class RecordingSummary:
    """One recording. source: its file. heads: by name. seen: (A, K), in how many frames each point was seen.

    windows: `window_hashes` of its keypoints. bout_starts: head -> first frame and class of every labelled bout.
    body_length_px: the median largest distance between two points of an animal; None where it has one, or none is seen.
    """

    name: str
    source: str
    n_frames: int
    heads: Mapping[str, HeadCounts]
    seen: NDArray[np.int64]
    windows: NDArray[np.uint64]
    bout_starts: Mapping[str, tuple[tuple[int, int], ...]] = field(default_factory=dict)
    body_length_px: float | None = None


def summarize_item(item: Item) -> RecordingSummary:
    """The counts of a recording and its labels."""
    recording = item.recording
    heads = {}
    bout_starts = {}
    for name, labels in item.labels.items():
        n_classes = len(labels.classes)
        own = [bout for bout in bouts_of(labels.frames) if bout.label != IGNORE]
        bout_starts[name] = tuple((bout.start, bout.label) for bout in own)
        bouts = [bout.label for bout in own]
        known = labels.frames[labels.frames != IGNORE]
        masked = np.bincount(labels.why[labels.why >= 0], minlength=len(MASKED_BECAUSE)).tolist()
        heads[name] = HeadCounts(
            frames=tuple(np.bincount(known, minlength=n_classes).tolist()),
            bouts=tuple(np.bincount(np.array(bouts, np.int64), minlength=n_classes).tolist()),
            masked={why: n for why, n in zip(MASKED_BECAUSE, masked, strict=True) if n},
            labelled=int(len(known) > 0),
        )
    return RecordingSummary(
        name=recording.name,
        source=recording.source,
        n_frames=len(recording),
        heads=heads,
        seen=np.isfinite(recording.keypoints).all(axis=-1).sum(axis=0),
        windows=window_hashes(recording.keypoints),
        bout_starts=bout_starts,
        body_length_px=body_length(recording.keypoints),
    )


@dataclass(frozen=True, eq=False)
class DatasetSummary:
    """The recordings of a dataset's splits.

    simulated: made by `rtseg simulate`, to try things out. training, validation: which split is trained on, and which
    chooses the checkpoint; '' = none, as in cross-validation, which divides the recordings of one split itself.
    """

    name: str
    skeleton: Skeleton
    rules: tuple[HeadRule, ...]
    splits: Mapping[str, Sequence[RecordingSummary]]
    simulated: bool = False
    training: str = "train"
    validation: str = "validation"

    def learning_from(self, splits: Sequence[str]) -> DatasetSummary:
        """The same where these splits are trained on as one; where `validation` is among them nothing is held out."""
        if tuple(splits) == (self.training,):
            return self
        training = " and ".join(splits)
        whole = [recording for split in splits for recording in self.splits.get(split, ())]
        rest = {split: some for split, some in self.splits.items() if split not in splits}
        validation = "" if self.validation in splits else self.validation
        return replace(self, splits={training: whole, **rest}, training=training, validation=validation)

    def counts(self, rule: HeadRule, split: str) -> HeadCounts:
        """A head's counts over a split."""
        some = (recording.heads[rule.head.name] for recording in self.splits.get(split, ()))
        return HeadCounts.total(some, len(rule.head.classes))
