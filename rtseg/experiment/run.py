"""A session from its beginning to its end: daemon, cameras, arming, pulses on the screen, and everything ended again.

Whatever happens on the way, what was recorded becomes a log and a page (`finish`), and the reason of the end stands in
both.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from rtseg.bundle.bundle import Bundle, load_bundle
from rtseg.client import Key, Subscriber
from rtseg.client.connection import ask_arm, ask_disarm, ask_status
from rtseg.config import ServeSettings, load_settings
from rtseg.errors import RecordingError, RtsegError, ServeError, SettingError
from rtseg.experiment.cameras import CameraWatch
from rtseg.experiment.daemon_process import DaemonProcess
from rtseg.experiment.finish import finish_session
from rtseg.experiment.replayed import ReplayedCamera
from rtseg.experiment.session_folder import ARMED, SESSION_FILE, TRIGGER_FILE, Experiment, SessionFolder
from rtseg.experiment.summary import Summary
from rtseg.recordings.recording import Recording
from rtseg.system.shutdown import stopped_by_signals
from rtseg.triggers.arms import REACHING
from rtseg.triggers.conditions import condition_arrays
from rtseg.triggers.events import FIRED
from rtseg.wire.messages import MAX_ARMED_S, PredictionMessage, StreamEvent

TURN_S, SILENT_S, SINKS_S, LAST_S, SPARE_S, KEEP_S = 0.2, 10.0, 15.0, 1.0, 5.0, 1.0
"""How often the session looks around; how long a daemon may be silent; how long sinks may take to be ready; how long
it is told at the end what was still on its way; how long after `minutes` the daemon disarms, should nobody do it; how
often at most problems are kept, should the session be killed."""
FREE_PORT = "tcp://127.0.0.1:*"
BY_HAND, TIME_OVER, PLAYED = "stopped by the operator", "its time was over", "the recording was played to its end"
Say = Callable[[str], None]


def check_experiment(experiment: Experiment, *, armed: bool = False) -> Bundle:
    """The model; raises what would keep the session from running, before anything is started. armed: whether events are
    to reach the animal, which takes a trigger with sinks.
    """
    bundle = load_bundle(experiment.bundle)
    triggers = {} if experiment.triggers is None else experiment.triggers.triggers
    if armed and not any(trigger.sinks for trigger in triggers.values()):
        raise SettingError(
            f"{experiment.path}: --armed: no trigger of the experiment names sinks, so nothing would reach the animal: "
            "leave --armed out, or give a trigger its sinks"
        )
    if experiment.triggers is not None:
        condition_arrays(experiment.triggers.triggers, bundle.heads)
        streams = list(experiment.settings.cameras)
        for name, trigger in experiment.triggers.triggers.items():
            if armed and trigger.arms.is_yoked:
                _check_yoked_session(name, experiment.beside(experiment.settings.triggers).parent / trigger.arms.yoked)
            if not any(map(trigger.applies_to, streams)):
                raise SettingError(
                    f"triggers.{name}: its streams ({', '.join(trigger.streams)}) are no camera of the experiment: "
                    f"{', '.join(streams)}"
                )
    return bundle


def _check_yoked_session(trigger: str, log: Path) -> None:
    """Raise SettingError for a session's log of events that no animal got."""
    if not (log.parent / SESSION_FILE).is_file():
        return
    mode = SessionFolder(log.parent).about["mode"]
    if mode != ARMED:
        raise SettingError(
            f"triggers.{trigger}: arms.yoked: {log} is the log of a {mode}, whose events no animal got; an armed "
            "session is yoked to one that was armed"
        )


def run_session(
    experiment: Experiment, *, armed: bool, played: Callable[[], Recording] | None = None, key: Key = None, say: Say
) -> tuple[SessionFolder, Summary, bool]:
    """Run a session until it is stopped, its time is over, or what is played has ended.

    armed: whether sinks are there and events reach the animal; else a dry run, which decides and records the same.
    played: gives what is played in the place of the first camera. key: where the daemon's settings ask for one, with
    the roles publish, subscribe and arm. say: gets a line for whatever a person should see. Returns the folder, what
    happened, and whether it ended as it should. Raises RtsegError where it cannot begin.
    """
    bundle = check_experiment(experiment, armed=armed)
    settings = _serve_settings(experiment, is_played=played is not None)
    try:
        folder = SessionFolder.create(experiment, bundle, datetime.now().astimezone(), armed=armed)
    except OSError as error:
        record = experiment.beside(experiment.settings.record)
        raise ServeError(f"{record}: a session's folder cannot be written to: {error.strerror or error}") from None
    say(f"session folder: {folder.path}")
    trigger_file = folder.path / TRIGGER_FILE
    settings = replace(
        settings, record=str(folder.path), triggers=str(trigger_file) if trigger_file.exists() else "", resume=False
    )
    expected = experiment.settings.cameras
    if played is not None:
        expected = dict(list(expected.items())[:1])
    session = _LiveSession(experiment, CameraWatch(expected), folder, armed=armed, say=say, key=key)
    say("starting the daemon (the first time on a machine it compiles for half a minute)")
    try:
        with DaemonProcess(experiment.bundle, settings, folder.path / "daemon.log") as daemon:
            # While the daemon starts: simulated mice take a second, and at first some more for compiling.
            recording = played() if played is not None else None
            daemon.wait_ready()
            with stopped_by_signals(session):
                session.run(daemon, recording)
        if daemon.exit_code:  # its recording may lack the end
            raise ServeError(f"the daemon ended with status {daemon.exit_code}: {daemon.last_words()}")
    except RtsegError as error:
        session.fail(str(error))
    except KeyboardInterrupt:  # while signals did not end a session in order yet, or no more
        session.fail("stopped by the operator while its daemon started or ended")
    try:
        _keep_end(folder, session)
        if not folder.recordings():
            raise ServeError(session.reason)
        say("writing the log and the page")
        return folder, finish_session(folder), session.is_as_it_should
    except OSError as error:
        problem = f"the session's log and page cannot be written: {error.strerror or error}; once they can, `rtseg run "
        raise RecordingError(folder.path, f"{problem}{folder.path}` writes them from its recording") from None


def _serve_settings(experiment: Experiment, *, is_played: bool) -> ServeSettings:
    name = experiment.settings.serve
    settings = load_settings(experiment.beside(name), ServeSettings) if name else ServeSettings()
    ignored = [key for key in ("triggers", "record", "resume") if getattr(settings, key)]
    if ignored:
        raise SettingError(
            f"{experiment.beside(name)}: {', '.join(ignored)}: a session's triggers and recording are those of "
            f"{experiment.path}, and it begins afresh; leave these out"
        )
    if settings.workers != 1:
        raise SettingError(f"{name}: an experiment runs one daemon with workers = 1, got {settings.workers}")
    # Beside a daemon that may be running on the usual ports.
    return replace(settings, frames=FREE_PORT, predictions=FREE_PORT) if is_played else settings


def _keep_end(folder: SessionFolder, session: _LiveSession) -> None:
    about = folder.about
    about |= {"ended": datetime.now().astimezone().isoformat(timespec="seconds"), "reason": session.reason}
    about["problems"] = session.problems
    folder.write_about(about)


class _LiveSession:
    """What runs between the daemon's start and its end. reason: why it ended; problems: what was wrong, in words."""

    def __init__(
        self,
        experiment: Experiment,
        cameras: CameraWatch,
        folder: SessionFolder,
        *,
        armed: bool,
        say: Say,
        key: Key,
    ) -> None:
        self._settings, self._has_triggers, self._folder = experiment.settings, experiment.triggers is not None, folder
        self._cameras, self._armed, self._say, self._key = cameras, armed, say, key
        self._started_s = time.monotonic()
        self._daemon: DaemonProcess | None = None
        self.reason = ""
        self._own_problems: list[str] = []
        self._n_kept, self._kept_s = 0, self._started_s

    @property
    def problems(self) -> list[str]:
        """Of cameras and of the session itself."""
        return [*self._cameras.problems, *self._own_problems]

    @property
    def is_as_it_should(self) -> bool:
        """Whether it ended for a reason that somebody wanted."""
        return self.reason in (BY_HAND, TIME_OVER, PLAYED)

    def stop(self) -> None:
        """End it in order; called from a signal handler."""
        self.reason = self.reason or BY_HAND

    def fail(self, why: str) -> None:
        """It ended for no reason that anybody wanted."""
        self.reason = why
        self._own_problems.append(why)
        self._say(f"session ends: {why}")

    def run(self, daemon: DaemonProcess, played: Recording | None) -> None:
        """Wait for cameras, arm, watch, disarm. Raises RtsegError."""
        self._daemon = daemon
        with Subscriber(daemon.predictions, key=self._key, connect_timeout_s=10.0) as subscriber:
            if played is not None:
                self._check_rates({played.name: {"declared": played.fps}})
                # Before the first frame, so that the very same is decided as by `trigger try` on the file.
                self._arm()
                is_over = self._time_over()
                self._say(f"playing {played.name} at {played.fps:g} frames per second")
                camera = ReplayedCamera(played, daemon.frames, self._key)
                self._watch(subscriber, lambda: PLAYED if camera.has_ended else is_over())
            else:
                self._say(f"cameras publish to {daemon.frames}; waiting for: {', '.join(self._cameras.missing)}")
                deadline_s = time.monotonic() + self._settings.wait_s
                self._watch(subscriber, lambda: self._waited_enough(deadline_s))
                if self.reason == "":
                    self._check_rates(ask_status(daemon.frames, key=self._key)["rates"])
                    self._arm()
                    self._watch(subscriber, self._time_over())
            self._end(subscriber)

    def _waited_enough(self, deadline_s: float) -> str:
        """ "all there", or why it is not waited any longer."""
        if not self._cameras.missing:
            return _ALL_THERE
        if time.monotonic() < deadline_s:
            return ""
        return f"no frames of {', '.join(self._cameras.missing)} within {self._settings.wait_s:g} s"

    def _watch(self, subscriber: Subscriber, is_over: Callable[[], str]) -> None:
        """Follow what is published until somebody stops it or is_over gives a reason."""
        while not self.reason:
            message = subscriber.receive(TURN_S)
            if message is not None:
                self._tell(message)
            if over := is_over():
                if over in (PLAYED, TIME_OVER):
                    self.reason = over
                elif over is not _ALL_THERE:
                    self.fail(over)
                return
            assert self._daemon is not None
            if not self._daemon.is_running:
                raise ServeError(f"the daemon ended by itself: {self._daemon.last_words()}")
            if time.monotonic() - subscriber.heard_s > SILENT_S:
                raise ServeError(f"the daemon has been silent for {SILENT_S:g} s")
            self._keep_problems()

    def _keep_problems(self) -> None:
        """Those that are new, now and then: a session that is killed keeps nothing at its end."""
        if len(self.problems) > self._n_kept and time.monotonic() - self._kept_s >= KEEP_S:
            self._n_kept, self._kept_s = len(self.problems), time.monotonic()
            self._keep({"problems": self.problems})

    def _keep(self, fields: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # of a full disk the session tells at its end
            self._folder.write_about(self._folder.about | fields)

    def _time_over(self) -> Callable[[], str]:
        """Whether the session's time is over, which begins now: TIME_OVER or ""."""
        end_s = time.monotonic() + self._settings.minutes * 60 if self._settings.minutes else float("inf")
        return lambda: TIME_OVER if time.monotonic() >= end_s else ""

    def _check_rates(self, rates: Mapping[str, Mapping[str, Any]]) -> None:
        for words in self._cameras.check_rates(rates):
            self._say(words)

    def _arm(self) -> None:
        """Arm all streams, once all sinks are ready."""
        if not self._has_triggers:
            return
        assert self._daemon is not None
        deadline_s, for_s = time.monotonic() + SINKS_S, self._settings.minutes * 60 + SPARE_S
        # A session that hangs, or was stopped by Ctrl-Z, must not be armed for longer than it was to last.
        until = for_s if self._settings.minutes and for_s <= MAX_ARMED_S else None
        while True:
            try:
                ask_arm(self._daemon.frames, for_s=until, key=self._key)
                break
            except ServeError:
                # Refused while a sink is not ready; it may need seconds, as a board that restarts.
                if time.monotonic() > deadline_s or self.reason:
                    raise
                time.sleep(TURN_S)
        self._started_s = time.monotonic()
        if self._armed:
            self._keep({"sinks": ask_status(self._daemon.frames, key=self._key)["triggers"]["sinks"]})
        self._say("ARMED: events reach the animal" if self._armed else "dry run: triggers decide, nothing is sent")

    def _end(self, subscriber: Subscriber) -> None:
        """Disarm, and say what is still on its way."""
        assert self._daemon is not None
        if self._has_triggers and self._daemon.is_running:
            ask_disarm(self._daemon.frames, key=self._key)
        deadline_s = time.monotonic() + LAST_S  # cameras do not stop because a session does
        while time.monotonic() < deadline_s and (message := subscriber.receive(TURN_S)) is not None:
            if isinstance(message, StreamEvent):
                self._tell(message)
        if self.is_as_it_should:
            self._say(f"session ends: {self.reason}")

    def _tell(self, message: PredictionMessage | StreamEvent) -> None:
        for words in self._cameras.follow(message):
            self._say(words)
        if isinstance(message, StreamEvent) and message.type in ("trigger", "trigger_end"):
            seconds = time.monotonic() - self._started_s
            self._say(f"{seconds:8.2f} s  {message.stream}: {_words(message.type, message.fields, armed=self._armed)}")
        elif isinstance(message, StreamEvent) and message.type == "arming" and not message.fields.get("armed"):
            reason = str(message.fields.get("reason", ""))
            if reason not in _EXPECTED_DISARMING and not self.reason:
                self._own_problems.append(f"{message.stream} was disarmed: {reason}")
                self._say(self._own_problems[-1])


_ALL_THERE = "all cameras are there"
_EXPECTED_DISARMING = ("closed", "asked", "stopping")


def _words(kind: str, fields: dict[str, Any], *, armed: bool) -> str:
    """An event on the screen."""
    trigger, seq = fields["trigger"], fields["seq"]
    if kind == "trigger_end":
        return f"{trigger} off, frame {fields['last_seq'] + 1}: {fields['ended']}"
    if fields["decision"] != FIRED:
        return f"{trigger} withheld at frame {seq}: {fields['decision']}"
    if fields["arm"] not in REACHING:
        return f"{trigger} control ({fields['arm']}), frame {seq}"
    if fields["t_sent_ns"] is None:
        return f"{trigger} would go on{', and has no sink' if armed else ''}, frame {seq}"
    return f"{trigger} ON, frame {seq}"
