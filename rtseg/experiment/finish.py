"""From a session's recording to its logs and its page: at its end, and after a crash as well."""

from __future__ import annotations

from pathlib import Path

from rtseg.config import TriggerFile, load_settings
from rtseg.errors import RecordingError
from rtseg.experiment.session_folder import TRIGGER_FILE, SessionFolder
from rtseg.experiment.summary import Summary, summarise
from rtseg.experiment.summary_page import page_of
from rtseg.playback.trigger_log import write_event_times
from rtseg.serve.recording.resume import finish_recordings
from rtseg.system.files import write_atomically
from rtseg.triggers.events import write_events


def finish_session(folder: SessionFolder) -> Summary:
    """Write triggers.csv, trigger_times.csv and summary.html from what was recorded; what is there is written again.

    Raises RecordingError where nothing was recorded.
    """
    about, recordings = folder.about, folder.recordings()
    if not recordings:
        raise RecordingError(folder.path, "has no recording: its daemon did not start")
    # Of a daemon that was killed the last events may still be in memory, or on their way into the file.
    finish_recordings(folder.path)
    trigger_file, text = folder.path / TRIGGER_FILE, ""
    triggers: tuple[str, ...] = ()
    if trigger_file.exists():
        triggers, text = tuple(load_settings(trigger_file, TriggerFile).triggers), trigger_file.read_text("utf-8")
    summary, logs = summarise(recordings, triggers)
    if triggers:
        write_events((event for log in logs for event in log.events()), folder.path / "triggers.csv")
        write_event_times(logs, folder.path / "trigger_times.csv")
    write_atomically(folder.path / "summary.html", page_of(about, summary, text))
    return summary


def finish_folder(path: Path) -> Summary:
    """The same of a folder by its path."""
    return finish_session(SessionFolder(path))
