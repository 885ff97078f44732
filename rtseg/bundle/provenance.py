"""Which recordings a bundle was trained on, by their content: a file that was renamed or moved is still known.

Written by training, read by all that must not score or calibrate on recordings that the model was trained on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rtseg.bundle.bundle import Bundle
from rtseg.errors import SettingError
from rtseg.frames.same_frames import anchors, window_hashes
from rtseg.recordings.heads import Head
from rtseg.recordings.recording import IGNORE
from rtseg.recordings.sources import Item

DIGITS = 16


def content_hash(keypoints: NDArray[np.float32], labels: NDArray[np.int16]) -> str:
    """Of keypoints (T, A, K, 2) and labels (T, H); the first digits of a sha256."""
    return hashlib.sha256(keypoints.tobytes() + labels.tobytes()).hexdigest()[:DIGITS]


def poses_hash(keypoints: NDArray[np.float32]) -> str:
    """Of keypoints alone: the same recording is known whatever labels are laid beside it."""
    return hashlib.sha256(keypoints.tobytes()).hexdigest()[:DIGITS]


def poses_anchors(keypoints: NDArray[np.float32]) -> str:
    """Hashes of some windows of keypoints (T, A, K, 2), 16 hexadecimal digits each, by which parts are known again."""
    return " ".join(f"{one:016x}" for one in anchors(keypoints).tolist())


def check_unseen(bundle: Bundle, item: Item) -> str:
    """The `poses_hash` of a recording that the bundle was not trained on. Raises SettingError, naming it, otherwise.

    Older bundles hold no hashes of poses alone, only of poses with labels: there, other labels hide a recording. A
    bundle that says nothing about its training recordings is refused as well.
    """
    if not bundle.provenance.get("training"):
        raise SettingError(
            f"bundle {bundle.name!r} does not say what it was trained on, so nothing tells whether it has seen "
            f"{item.recording.name}; make it with 'rtseg train'"
        )
    if was_trained_on(bundle, item):
        advice = "Name a split that training never saw"
        if learnt_from_all(bundle):
            advice = "It has learnt from all recordings: take answers out of fold (--out-of-fold)"
        raise SettingError(
            f"{item.recording.name}: bundle {bundle.name!r} was trained on this recording or on frames of it; what it "
            f"says there is no measure of what it says elsewhere. {advice}"
        )
    return poses_hash(item.recording.select(bundle.skeleton).keypoints)


def learnt_from_all(bundle: Bundle) -> bool:
    """Whether nothing was held out when the bundle was trained, so that no recording of its data set is unseen."""
    held_out = bundle.provenance.get("validation")
    # Older bundles say nothing of what was held out.
    return bool(bundle.provenance.get("training")) and held_out is not None and not held_out


def was_trained_on(bundle: Bundle, item: Item) -> bool:
    """Whether the bundle says that it was trained on a recording, or on a stretch of it (`frames.same_frames.anchors`).

    Older bundles know whole recordings alone, and still older ones those with their labels.
    """
    recording, provenance = item.recording.select(bundle.skeleton), bundle.provenance
    # As training hashed them: keypoints in the model's order, labels in the order of its heads.
    whole = content_hash(recording.keypoints, label_table(item, bundle.heads))
    known = provenance.get("training", {}).values()
    if whole in known or poses_hash(recording.keypoints) in provenance.get("training_poses", ()):
        return True
    learnt = [int(one, 16) for some in provenance.get("training_anchors", ()) for one in some.split()]
    return bool(np.isin(window_hashes(recording.keypoints), np.array(learnt, np.uint64)).any())


def label_table(item: Item, heads: Sequence[Head]) -> NDArray[np.int16]:
    """Labels (T, H) of an item in the order of the heads; IGNORE for those it does not label."""
    table = np.full((len(item.recording), len(heads)), IGNORE, np.int16)
    for column, head in enumerate(heads):
        if head.name in item.labels:
            table[:, column] = item.labels[head.name].frames
    return table
