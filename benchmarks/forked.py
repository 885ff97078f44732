"""A child process that goes on from here, with the model loaded: a round of a benchmark takes seconds."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable


def fork(run: Callable[[], None]) -> int:
    """Run a function in a child process; its process id."""
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        run()
        status = 0
    except SystemExit as error:
        status = int(error.code or 0)
    except BaseException as error:
        print(f"{run}: {error!r}", file=sys.stderr)
    finally:
        sys.stderr.flush()
        os._exit(status)
