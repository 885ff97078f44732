"""The daemon of a session, as a child: its log goes to the session's folder, and it never outlives the session.

python -m rtseg.experiment.daemon_process JSON
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rtseg.config import ServeSettings, from_plain, to_plain
from rtseg.errors import RtsegError, ServeError
from rtseg.system.child_process import module_command, module_environment

_PR_SET_PDEATHSIG = 1
STOP_S = 30.0
"""How long it may take to drain; then it is killed, and its sinks let go by themselves."""


class DaemonProcess:
    """A daemon that starts. frames, predictions: its addresses, once it is ready (`wait_ready`).

    exit_code: None until it has been stopped.
    """

    def __init__(self, bundle: str, settings: ServeSettings, log: Path) -> None:
        self._log, self.frames, self.predictions = log, "", ""
        self.exit_code: int | None = None
        about = {"bundle": bundle, "settings": to_plain(settings), "parent": os.getpid()}
        command = module_command("rtseg.experiment.daemon_process", json.dumps(about))
        with log.open("ab") as file:
            # In a session of its own: Ctrl-C is for whoever ends it in order.
            self._process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
                start_new_session=True,
                env=module_environment(),
            )

    def wait_ready(self) -> None:
        """Until it serves. Raises ServeError where it does not start."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.startswith("ready "):
            self.stop()
            raise ServeError(f"the daemon did not start: {self.last_words()}")
        ready = json.loads(line.removeprefix("ready "))
        self.frames, self.predictions = str(ready["frames"]), str(ready["predictions"])

    @property
    def pid(self) -> int:
        """Of its process."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended by itself."""
        return self._process.poll() is None

    def last_words(self) -> str:
        """The last line of its log."""
        lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return f"{lines[-1]} ({self._log})" if lines else f"it said nothing ({self._log})"

    def stop(self) -> None:
        """Let it drain and end; it is killed where it takes too long."""
        if self.is_running:
            self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self.exit_code = self._process.returncode
        assert self._process.stdout is not None
        self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()


def main(text: str) -> int:
    """Serve until the session says so, or ends; 1 where the recording could not be closed, 3 for no start."""
    about: dict[str, Any] = json.loads(text)
    if sys.platform == "linux":
        # A session that is killed must not leave a daemon that fires: it disarms, drains and ends. The signal may come
        # once for each of the session's threads; a second SIGTERM would end it at once, with its end unrecorded.
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # also where the session ignores it (nohup)
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGHUP)
        if os.getppid() != about["parent"]:
            return 1  # it ended while this one began
    from rtseg.inference.classifier import load
    from rtseg.serve.daemon import ended_in_order, serve
    from rtseg.system.log_setup import background

    settings = from_plain(about["settings"], ServeSettings)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("rtseg").setLevel(logging.INFO)
    try:
        with background(settings.log_format):
            model = load(about["bundle"], settings.engine, settings.slots, settings.identity, settings.heads)
            return 0 if ended_in_order(serve(model, settings)) else 1
    except RtsegError as error:
        print(f"rtseg: {error}", file=sys.stderr)
        return 3


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
