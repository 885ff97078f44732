"""A recording in a camera's place, played in real time while the session watches: for a dry run without animals."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from rtseg.client import Key
from rtseg.errors import RtsegError, SettingError
from rtseg.playback.replay import replay
from rtseg.recordings.open import read_recording
from rtseg.recordings.recording import Recording
from rtseg.simulate.tasks import simulate_sequence

SIMULATED = "simulated"
"""In the place of a file: twelve seconds of two simulated mice, in the keypoints of the shipped mice-sim: a scene
with events of each kind, that is given and withheld, real and sham."""
_SECONDS, _FPS, _SEED = 12, 30, 94


def recording_for(source: str, stream: str, fps: float | None) -> Callable[[], Recording]:
    """What gives the recording that is played: a pose file's, read at once, or SIMULATED, made when it is asked for.

    stream: what it is called in the session. fps: of a file that does not say its own. Raises RecordingError, and
    SettingError for a rate of the simulated ones, which have theirs.
    """
    if source == SIMULATED:
        if fps is not None:
            raise SettingError(f"--fps {fps:g}: the simulated recording has {_FPS} frames per second; leave it out")
        return partial(_simulated, stream)
    recording = replace(read_recording(Path(source), fps=fps), name=stream)
    return lambda: recording


def _simulated(stream: str) -> Recording:
    # Its random numbers depend on its name: the scene must be this one, whatever the stream is called.
    recording, _ = simulate_sequence(_SEED, _SECONDS * _FPS, name="arena", aggressive=True)
    return replace(recording, name=stream)


class ReplayedCamera:
    """Plays a recording to a daemon in a thread, at its own rate. key: with the roles publish and subscribe, where the
    daemon asks for one.
    """

    def __init__(self, recording: Recording, frames_address: str, key: Key = None) -> None:
        self._recording, self._address, self._key = recording, frames_address, key
        self._error: RtsegError | None = None
        self._thread = threading.Thread(target=self._play, name="replayed camera", daemon=True)
        self._thread.start()

    @property
    def has_ended(self) -> bool:
        """Whether nothing more comes. Raises what went wrong."""
        if self._error is not None:
            raise self._error
        return not self._thread.is_alive()

    def _play(self) -> None:
        try:
            replay(self._recording, self._address, key=self._key)
        except RtsegError as error:
            self._error = error
