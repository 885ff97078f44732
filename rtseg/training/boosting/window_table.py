"""Recordings to rows of window statistics, and to those of them that trees learn from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rtseg.bundle.trees import Trees, TreesSpec
from rtseg.engine.cpu.window_statistics import causal_statistics
from rtseg.errors import SettingError
from rtseg.recordings.recording import IGNORE
from rtseg.training.task import F32, Example, TrainingTask, features_of


class Sample(NamedTuple):
    """Labelled frames. rows: (N, columns). labels: (N, H). owners: the number of each one's example (N,).

    frames: theirs within it (N,).
    """

    rows: F32
    labels: NDArray[np.int16]
    owners: NDArray[np.int32]
    frames: NDArray[np.int64]


class WindowTable:
    """Recordings to rows of window statistics; with a lookahead of k, row t is what is known at t + k."""

    def __init__(self, task: TrainingTask) -> None:
        recipe = task.recipe
        self._recipe, self._extractor, self._heads = recipe, task.feature_extractor(), task.heads
        self._windows = [max(1, round(seconds * task.fps)) for seconds in recipe.boosting.windows_s]
        self.lookahead = recipe.model.lookahead_frames

    def spec(self, trees: Sequence[Trees]) -> TreesSpec:
        """Of trees with these sizes, head by head."""
        return TreesSpec(self._extractor.n_features, tuple(self._windows), self._heads, tuple(trees))

    def rows(self, example: Example) -> F32:
        """(T - lookahead, columns), NaN where nothing is known."""
        features = features_of(example, self._extractor, self._recipe)
        return window_statistics(features, self._windows, self._recipe.model.causal)[self.lookahead :]

    @property
    def longest(self) -> int:
        """Frames of the longest window."""
        return max(self._windows, default=1)

    def sample(self, examples: Sequence[Example], limit: int) -> Sample:
        """Every n-th labelled frame, n such that about `limit` are left. Raises SettingError where there is none."""
        labelled = sum(int((e.labels != IGNORE).any(axis=1).sum()) for e in examples)
        every = max(1, -(-labelled // limit))  # rounded up, so that never more than the limit are left
        rows, labels, owners, frames = [], [], [], []
        for number, example in enumerate(examples):
            known = example.labels[: len(example) - self.lookahead]
            taken = np.flatnonzero((known != IGNORE).any(axis=1))[::every]
            if len(taken):
                rows.append(self.rows(example)[taken])
                labels.append(known[taken])
                owners.append(np.full(len(taken), number, np.int32))
                frames.append(taken)
        if not rows:
            raise SettingError("no frame of the recordings carries a label; look at the dataset file's heads and split")
        return Sample(np.concatenate(rows), np.concatenate(labels), np.concatenate(owners), np.concatenate(frames))


def window_statistics(
    features: NDArray[np.float32], windows: Sequence[int], causal: bool
) -> NDArray[np.float32]:  # (T, F * (1 + 4 * windows))
    """Features (T, F) and beside them their mean, deviation, minimum and maximum over windows of these lengths.

    Causal: a window ends at its frame. Otherwise it is centred on it, an even length made odd by one frame more. NaN is
    left out; a window without a value gives NaN. Windows are shorter where the recording begins or ends.
    """
    if causal:
        return causal_statistics(features, windows)  # what a stream's frames get
    import pandas as pd

    # pandas' rolling statistics skip NaN and cost the same for any length of window.
    table = pd.DataFrame(features)
    columns = [features]
    for window in windows:
        # min_periods = 1: a window at the beginning has the frames that there are.
        rolling = table.rolling(window + 1 - window % 2, min_periods=1, center=True)
        statistics = (rolling.mean(), rolling.std(ddof=0), rolling.min(), rolling.max())
        columns += [s.to_numpy(np.float32) for s in statistics]
    return np.concatenate(columns, axis=1)
