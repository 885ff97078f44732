"""rtseg: live keypoints in, behaviour probabilities out, one answer per frame, on time.

    classifier = rtseg.load("engines/rats58")
    session = classifier.open("cage 1")
    session.step(classifier.frame(keypoints, confidence, seq=0))     # live, frame after frame
    classifier.run(rtseg.read_recording("poses.csv"))                # the same answers, afterwards

Importing this does nothing; names are loaded when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rtseg.bundle.bundle import Bundle, load_bundle
    from rtseg.client import Publisher, Subscriber, TriggerSubscriber
    from rtseg.errors import RtsegError
    from rtseg.frames.frame import Frame
    from rtseg.frames.skeleton import Skeleton
    from rtseg.inference.classifier import Classifier, load
    from rtseg.inference.predictions import Prediction, Predictions, Quality
    from rtseg.inference.session import Session
    from rtseg.recordings.open import read_recording
    from rtseg.recordings.recording import Recording

__version__ = "0.1.0"

_HOME = {
    "Bundle": "bundle.bundle",
    "Classifier": "inference.classifier",
    "Frame": "frames.frame",
    "Prediction": "inference.predictions",
    "Predictions": "inference.predictions",
    "Publisher": "client",
    "Quality": "inference.predictions",
    "Recording": "recordings.recording",
    "RtsegError": "errors",
    "Session": "inference.session",
    "Skeleton": "frames.skeleton",
    "Subscriber": "client",
    "TriggerSubscriber": "client",
    "load": "inference.classifier",
    "load_bundle": "bundle.bundle",
    "read_recording": "recordings.open",
}

__all__ = [
    "Bundle",
    "Classifier",
    "Frame",
    "Prediction",
    "Predictions",
    "Publisher",
    "Quality",
    "Recording",
    "RtsegError",
    "Session",
    "Skeleton",
    "Subscriber",
    "TriggerSubscriber",
    "load",
    "load_bundle",
    "read_recording",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'rtseg' has no attribute {name!r}")
    if _HOME[name] != "client":  # which compiles nothing
        importlib.import_module("rtseg.compiled.cache_folder").ensure_cache_folder()
    return getattr(importlib.import_module(f"rtseg.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
