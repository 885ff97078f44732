"""A worker: `python -m rtseg.serve.worker JSON`, a daemon behind a front (`front`), started by it and for it only.

JSON: bundle, settings, place (its place, `config.WorkerPlace`). Ends with its front.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys

from rtseg import config
from rtseg.config import ServeSettings, WorkerPlace
from rtseg.errors import RtsegError
from rtseg.inference.classifier import load
from rtseg.serve.daemon import serve
from rtseg.system.log_setup import background

_PR_SET_PDEATHSIG = 1


def main(text: str) -> int:
    """Serve until the front says stop or ends."""
    about = json.loads(text)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != about["place"]["front_pid"]:
        return 1  # it ended while this one began
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # ^C and service managers reach all; the front tells its workers itself
    settings = config.from_plain(about["settings"], ServeSettings)
    try:
        with background(settings.log_format):
            classifier = load(about["bundle"], settings.engine, settings.slots, settings.identity, settings.heads)
            serve(classifier, settings, worker_place=WorkerPlace(**about["place"]))
    except RtsegError as error:
        print(f"rtseg worker: {error}", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    status = main(sys.argv[1])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # the front waits, and taking the interpreter apart takes seconds on a busy machine
