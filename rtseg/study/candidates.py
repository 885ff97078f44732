"""Every setting of the serving decoder tried on every video of one head, and the choice among these candidates.

All candidates are causal: they are settings of `rtseg.inference.decoding`, and nothing here decodes in another way.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rtseg.config import DecodingSettings
from rtseg.evaluation.metrics import Video, confusions, f1_scores, macro_mean, segmental_counts, segmental_f1_of
from rtseg.inference.decoding import Decoder
from rtseg.recordings.heads import Head
from rtseg.recordings.recording import IGNORE

OVERLAP = 0.5
MARGINS = tuple(round(0.05 * i, 2) for i in range(13))
MIN_BOUTS = (1, 2, 3, 5, 8, 12, 20)
MERGE_GAPS = (0, 10, 40)
SETTLE_MARGINS = (0.1, 0.2, 0.3, 0.4, 0.6)
SETTLE_FRAMES = (60, 120, 240, 480)
_STEADY = itertools.product(MARGINS, MIN_BOUTS, MERGE_GAPS)
# Crossed in full, the two settings of the settling margin would make 5,460 candidates in place of 300.
_SETTLING = itertools.product(MARGINS[:5], MIN_BOUTS[:3], (0,), SETTLE_MARGINS, SETTLE_FRAMES)
GRID = tuple(DecodingSettings(*values) for values in (*_STEADY, *_SETTLING))
Track = NDArray[np.int16]


@dataclass(frozen=True, eq=False)
class CandidateTable:
    """What every candidate setting does on every video of one head; counts add up over videos.

    settings: S of them. videos: V, each (probabilities (T, n), labels (T,)). frame_counts: (S, V, 3, classes), as
    `confusions` counts. bout_counts: (S, V, 3), as `segmental_counts` does. argmax_counts: (V, 3, classes), of the
    most probable class.
    """

    head: Head
    settings: Sequence[DecodingSettings]
    videos: Sequence[Video]
    frame_counts: NDArray[np.float64]
    bout_counts: NDArray[np.float64]
    argmax_counts: NDArray[np.float64]

    def decoded(self, setting: int, video: int) -> Track:
        """Labels (T,) that one candidate gives one video."""
        return decode(self.videos[video][0], self.settings[setting])

    def f1_lost(self, videos: Sequence[int]) -> NDArray[np.float64]:
        """Frame macro-F1 that every candidate loses against argmax over these videos, (S,)."""
        columns = [self.head.classes.index(name) for name in self.head.scored]
        argmax = macro_mean(f1_scores(self.argmax_counts[videos].sum(axis=0))[columns])
        scores = f1_scores(self.frame_counts[:, videos].sum(axis=1))[:, columns]
        return np.array([argmax - macro_mean(row) for row in scores])

    def segmental_f1(self, videos: Sequence[int]) -> NDArray[np.float64]:
        """Segmental F1@50 of every candidate over these videos, (S,)."""
        return np.array([segmental_f1_of(row) for row in self.bout_counts[:, videos].sum(axis=1)])


def candidate_table(head: Head, videos: Sequence[Video], grid: Sequence[DecodingSettings]) -> CandidateTable:
    """The serving decoder with every setting of a grid, counted on every video.

    As everywhere, frames without a label are taken out before bouts are counted.
    """
    labelled = [y != IGNORE for _, y in videos]
    truths = [y[mask] for (_, y), mask in zip(videos, labelled, strict=True)]
    scored = [head.classes.index(name) for name in head.scored]
    n_classes = len(head.classes)
    frames, bouts = [], []
    for setting in grid:
        guesses = [decode(p, setting)[mask] for (p, _), mask in zip(videos, labelled, strict=True)]
        frames.append(confusions(one_hot(head, guesses, truths), n_classes))
        bouts.append([segmental_counts(g, y, scored, OVERLAP) for g, y in zip(guesses, truths, strict=True)])
    argmax = confusions([(p[mask], y[mask]) for (p, y), mask in zip(videos, labelled, strict=True)], n_classes)
    return CandidateTable(head, grid, videos, np.array(frames), np.array(bouts, float), argmax)


def choose_setting(tables: Sequence[CandidateTable], videos: Sequence[int], max_loss: float) -> int:
    """The candidate with the highest segmental F1@50, mean over the heads, that costs no head more than `max_loss`.

    The first of equals; where every one costs more, the cheapest.
    """
    # A head without a scored frame in these videos has no F1 and loses nothing.
    losses = np.max([np.nan_to_num(table.f1_lost(videos)) for table in tables], axis=0)
    scores = np.mean([table.segmental_f1(videos) for table in tables], axis=0)
    # A loss equal to the bound is allowed, whatever rounding makes of it.
    allowed = losses <= max_loss + 1e-12
    return int(np.where(allowed, scores, -1.0).argmax()) if allowed.any() else int(losses.argmin())


def decode(probs: NDArray[np.float32], settings: DecodingSettings) -> Track:
    """Labels (T,) of one head's probabilities (T, n), by the decoder that serves."""
    decoder = Decoder((0, probs.shape[1]), settings)
    labels, events = np.empty((len(probs), 1), np.int16), np.empty((len(probs), 1), np.bool_)
    decoder.step(np.ascontiguousarray(probs), np.zeros(len(probs), np.int32), decoder.init_state(1), labels, events)
    return labels[:, 0]


def one_hot(head: Head, tracks: Sequence[Track], truths: Sequence[Track]) -> list[Video]:
    """Decoded labels as the probabilities that the metrics take."""
    rows = np.eye(len(head.classes), dtype=np.float32)
    return [(rows[track], truth) for track, truth in zip(tracks, truths, strict=True)]
