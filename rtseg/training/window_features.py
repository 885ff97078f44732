"""Statistics of features over windows: what trees are given in place of a memory. Offline only, no engine uses them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

STATISTICS = ("mean", "std", "min", "max")


def window_statistics(
    features: NDArray[np.float32], windows: Sequence[int], causal: bool
) -> NDArray[np.float32]:  # (T, F * (1 + 4 * windows))
    """Features (T, F) and beside them their mean, deviation, minimum and maximum over windows of so many frames.

    Causal: a window ends at its frame. Otherwise it is centred on it, an even length made odd by one frame more. NaN is
    left out; a window without a value gives NaN. Windows are shorter where the recording begins or ends.
    """
    import pandas as pd

    table = pd.DataFrame(features)
    columns = [features]
    for window in windows:
        length = window if causal else window + 1 - window % 2
        rolling = table.rolling(length, min_periods=1, center=not causal)
        statistics = (rolling.mean(), rolling.std(ddof=0), rolling.min(), rolling.max())
        columns += [s.to_numpy(np.float32) for s in statistics]
    return np.concatenate(columns, axis=1)
