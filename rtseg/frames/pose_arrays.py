"""One frame's array as trackers give it, into keypoints and confidence. Needs numpy alone: clients use it as well.

DeepLabCut-Live gives (K, 3) for one animal and (A, K, 3) for several: x, y, likelihood.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from rtseg.errors import FrameError


def split_pose(
    keypoints: ArrayLike, confidence: ArrayLike | None, shape: tuple[int, int]
) -> tuple[ArrayLike, ArrayLike | None]:
    """Keypoints (A, K, 2) and confidence (A, K) or None out of (A, K, 2), or of (A, K, 3) with the confidence in it.

    shape: the (A, K) that is expected; of one animal the first axis may be left out. Anything else comes back as it is:
    whoever takes it says what is wrong with it. Raises FrameError where the confidence is given twice.
    """
    array = np.asarray(keypoints)
    animals, points = shape
    if animals == 1 and array.ndim == 2 and len(array) == points:
        array = array[np.newaxis]
        confidence = None if confidence is None else np.reshape(np.asarray(confidence), shape)
    if array.shape != (*shape, 3):
        return array, confidence
    if confidence is not None:
        raise FrameError(f"keypoints of shape {array.shape} hold the confidence already: give it once")
    return array[..., :2], array[..., 2]
