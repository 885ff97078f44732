"""A recording in a camera's place, played in real time while the session watches: for a dry run without animals."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

from rtseg.errors import RtsegError
from rtseg.playback.replay import replay
from rtseg.recordings.open import read_recording
from rtseg.recordings.recording import Recording
from rtseg.simulate.tasks import simulate_sequence

SIMULATED = "simulated"
"""In the place of a file: twenty seconds of two simulated mice, in the keypoints of the shipped mice-sim."""
_SECONDS, _FPS, _SEED = 20, 30, 8


def recording_for(source: str, stream: str, fps: float | None) -> Recording:
    """What is played: a pose file, or SIMULATED. stream: what it is called in the session. Raises RecordingError."""
    if source == SIMULATED:
        recording, _ = simulate_sequence(_SEED, _SECONDS * _FPS, name=stream, aggressive=True)
        return recording
    return replace(read_recording(Path(source), fps=fps), name=stream)


class ReplayedCamera:
    """Plays a recording to a daemon in a thread, at its own rate."""

    def __init__(self, recording: Recording, frames_address: str) -> None:
        self._recording, self._address = recording, frames_address
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
            replay(self._recording, self._address)
        except RtsegError as error:
            self._error = error
