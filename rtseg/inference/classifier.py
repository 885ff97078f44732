"""What a user puts into their own loop: `rtseg.load(bundle)`, open a stream, step frames, or run a recording."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from numpy.typing import ArrayLike

from rtseg.bundle.bundle import Bundle, load_bundle
from rtseg.engine.base import Engine
from rtseg.engine.select import make_engine
from rtseg.frames.frame import Frame, checked_frame
from rtseg.frames.pose_arrays import split_pose
from rtseg.inference.predictions import Predictions
from rtseg.inference.session import Session, SessionPool
from rtseg.inference.stages import Arena
from rtseg.recordings.recording import Recording


class Classifier:
    """A loaded bundle on an engine, with room for `capacity` streams at once.

    >>> import rtseg
    >>> classifier = rtseg.load("engines/rats58")  # doctest: +SKIP
    >>> session = classifier.open("cage 1")  # doctest: +SKIP
    >>> for keypoints, confidence in camera:  # (A, K, 2) px and (A, K)  # doctest: +SKIP
    ...     for prediction in session.step(classifier.frame(keypoints, confidence, seq=seq)): ...
    """

    def __init__(
        self, bundle: Bundle, engine: str | Engine = "auto", capacity: int = 16, identity: str = "flag"
    ) -> None:
        """engine: a name (`rtseg.load`), or an engine, which has its own capacity."""
        self.bundle = bundle
        # An engine may be handed in: for precisions and settings that have no name here (`precision.measure`).
        engine = engine if isinstance(engine, Engine) else make_engine(bundle, engine, capacity)
        self.pool = SessionPool(bundle, engine, identity)

    def open(
        self,
        stream: str = "",
        arena: Arena | None = None,
        fps: float | None = None,
        px_per_mm: float | None = None,
    ) -> Session:
        """A session for one stream. arena: its box x0, y0, x1, y1 in px; None = the bundle's.

        fps: of a camera whose frames are to be resampled to the model's rate (`frames.resampling`). px_per_mm: of the
        stream; where the bundle has one too, its px are brought to training's (`features.scale`). Raises RtsegError
        when `capacity` streams are open, RateError for a camera that is too slow or too fast.
        """
        return self.pool.open(stream, arena, fps, px_per_mm)

    def frame(
        self,
        keypoints: ArrayLike,
        confidence: ArrayLike | None = None,
        *,
        seq: int,
        t_source_ns: int = 0,
        stream: str = "",
    ) -> Frame:
        """A validated frame of this model's skeleton.

        keypoints: (A, K, 2) px, NaN = missing. confidence: (A, K) in [0, 1], or None. Or both in one array (A, K, 3),
        as DeepLabCut-Live gives them; of one animal also (K, 2) and (K, 3).

        Raises FrameError naming what was expected and what came.
        """
        shape = self.bundle.skeleton.shape
        if getattr(keypoints, "shape", None) != (*shape, 2):
            keypoints, confidence = split_pose(keypoints, confidence, shape)
        return checked_frame(keypoints, confidence, shape=shape, seq=seq, t_source_ns=t_source_ns, stream=stream)

    def run(self, recording: Recording, arena: Arena | None = None, *, resample: bool = False) -> Predictions:
        """All answers about a recording, bit for bit what a live stream of its frames gets.

        Keypoints are matched by name. Raises SkeletonError where one has no counterpart, RateError for another frame
        rate than the model's; resample: it is resampled instead, and `seq` is that of the recording's frames.
        """
        # At the model's own rate nothing is resampled, and the recording goes through in chunks.
        is_resampled = resample and not self.bundle.has_rate(recording.fps)
        if not is_resampled:
            self.bundle.check_rate(recording.fps, recording.source or recording.name)
        session = self.open(recording.name, arena, recording.fps if is_resampled else None, recording.px_per_mm)
        try:
            predictions = session.run(recording.select(self.bundle.skeleton))
            return replace(predictions, drift=session.drift())
        finally:
            # Whatever happens: a recording that is refused must not cost a slot.
            session.close()


def load(
    bundle: Path | str,
    engine: str = "auto",
    capacity: int = 16,
    identity: str = "flag",
    heads: Sequence[str] = (),
) -> Classifier:
    """Load a bundle folder and put it on an engine ('auto', 'numba', 'cuda', 'tensorrt', 'onnx', 'torch').

    identity: what is done where a tracker has mixed up two animals: `flag` the answer, `swap` them back, or `reset` the
    stream. heads: the only ones that are computed (`Bundle.select_heads`); none = all. Raises BundleError for a folder
    that is no bundle or was changed, EngineError for an engine that cannot run here, SettingError for a head that the
    bundle does not have.
    """
    loaded = load_bundle(bundle)
    return Classifier(loaded.select_heads(heads) if heads else loaded, engine, capacity, identity)
