"""Ways of decoding one head's probabilities, every setting of each tried on every video, and the choice among them.

Two families, both causal: the bundle's own hysteresis, and a hidden Markov model.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg import config
from rtseg.config import DecodingSettings
from rtseg.evaluation.metrics import Video, confusions, f1_scores, macro_mean, segmental_counts, segmental_f1_of
from rtseg.inference.decoding import Decoder
from rtseg.recordings.heads import Head
from rtseg.recordings.recording import IGNORE
from rtseg.study import hmm

OVERLAP = 0.5
MARGINS = tuple(round(0.05 * i, 2) for i in range(13))
MIN_BOUTS = (1, 2, 3, 5, 8, 12, 20)
MERGE_GAPS = (0, 10, 40)
SETTLE_MARGINS = (0.1, 0.2, 0.3, 0.4, 0.6)
SETTLE_FRAMES = (60, 120, 240, 480)
_STEADY = itertools.product(MARGINS, MIN_BOUTS, MERGE_GAPS)
_SETTLING = itertools.product(MARGINS[:5], MIN_BOUTS[:3], (0,), SETTLE_MARGINS, SETTLE_FRAMES)
GRID = tuple(DecodingSettings(*values) for values in (*_STEADY, *_SETTLING))
HMM_GRID = tuple(itertools.product((0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0), (0.0, 0.5, 1.0)))
"""(weight, prior_power) of `hmm.filtered`."""
Track = NDArray[np.int16]


@dataclass(frozen=True, eq=False)
class Table:
    """What every candidate does on every video of one head; counts add up over videos.

    settings: S of them. decoded: (s, v) -> the labels (T,) that setting s gives video v. frames: (S, V, 3, classes).
    bouts: (S, V, 3). raw_frames: (V, 3, classes), of plain argmax.
    """

    head: Head
    settings: list[dict[str, Any]]
    decoded: Callable[[int, int], Track]
    frames: NDArray[np.float64]
    bouts: NDArray[np.float64]
    raw_frames: NDArray[np.float64]

    def loss(self, videos: Sequence[int]) -> NDArray[np.float64]:
        """Frame macro-F1 that every candidate loses against argmax over these videos, (S,)."""
        columns = [self.head.classes.index(name) for name in self.head.scored]
        raw = macro_mean(f1_scores(self.raw_frames[videos].sum(axis=0))[columns])
        return np.array([raw - macro_mean(row) for row in f1_scores(self.frames[:, videos].sum(axis=1))[:, columns]])

    def segmental(self, videos: Sequence[int]) -> NDArray[np.float64]:
        """Segmental F1@50 of every candidate over these videos, (S,)."""
        return np.array([segmental_f1_of(row) for row in self.bouts[:, videos].sum(axis=1)])


def choose(tables: Sequence[Table], videos: Sequence[int], max_loss: float) -> int:
    """The candidate with the highest segmental F1@50, mean over the heads, that costs no head more than `max_loss`.

    The first of equals; where every one costs more, the cheapest.
    """
    losses = np.max([np.nan_to_num(table.loss(videos)) for table in tables], axis=0)
    scores = np.mean([table.segmental(videos) for table in tables], axis=0)
    allowed = losses <= max_loss + 1e-12
    return int(np.where(allowed, scores, -1.0).argmax()) if allowed.any() else int(losses.argmin())


def hysteresis_table(head: Head, videos: Sequence[Video], grid: Sequence[DecodingSettings]) -> Table:
    """The bundle's own decoder with every setting of a grid."""
    settings = [config.to_plain(setting) for setting in grid]
    return _table(head, videos, settings, lambda s, v: decode(videos[v][0], grid[s]))


def decode(probs: NDArray[np.float32], settings: DecodingSettings) -> Track:
    """Labels (T,) of one head's probabilities (T, n), by the decoder that serves."""
    decoder = Decoder((0, probs.shape[1]), settings)
    labels, events = np.empty((len(probs), 1), np.int16), np.empty((len(probs), 1), np.bool_)
    decoder.step(np.ascontiguousarray(probs), np.zeros(len(probs), np.int32), decoder.init_state(1), labels, events)
    return labels[:, 0]


def hmm_table(head: Head, videos: Sequence[Video], markov: hmm.Markov) -> Table:
    """The forward filter of a hidden Markov model with every weight of the evidence."""
    settings = [{"weight": weight, "prior_power": power} for weight, power in HMM_GRID]
    probs = [p for p, _ in videos]
    tracks = [
        [states.argmax(axis=1).astype(np.int16) for states in hmm.filtered(probs, markov, weight, power)]
        for weight, power in HMM_GRID
    ]
    return _table(head, videos, settings, lambda s, v: tracks[s][v])


def _table(
    head: Head, videos: Sequence[Video], settings: list[dict[str, Any]], decoded: Callable[[int, int], Track]
) -> Table:
    """As everywhere, frames without a label are taken out before bouts are counted."""
    kept = [y != IGNORE for _, y in videos]
    truths = [y[k] for (_, y), k in zip(videos, kept, strict=True)]
    scored = [head.classes.index(name) for name in head.scored]
    frames, bouts = [], []
    for s in range(len(settings)):
        guesses = [decoded(s, v)[k] for v, k in enumerate(kept)]
        frames.append(confusions(one_hot(head, guesses, truths), len(head.classes)))
        bouts.append([segmental_counts(g, y, scored, OVERLAP) for g, y in zip(guesses, truths, strict=True)])
    raw = confusions([(p[k], y[k]) for (p, y), k in zip(videos, kept, strict=True)], len(head.classes))
    return Table(head, settings, decoded, np.array(frames), np.array(bouts, float), raw)


def one_hot(head: Head, tracks: Sequence[Track], truths: Sequence[Track]) -> list[Video]:
    """Decoded labels as the probabilities that the metrics take."""
    rows = np.eye(len(head.classes), dtype=np.float32)
    return [(rows[g], y) for g, y in zip(tracks, truths, strict=True)]
