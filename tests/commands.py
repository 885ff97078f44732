"""`rtseg WORDS` inside this process: the same `main`, its exit code and what it printed, without a child's start.

A child takes seconds to import what a command needs. What is asked about a command's words and reasons is asked here;
that it runs as a process of its own, with its signals, its warnings and its own modules, is asked of a child.
"""

from __future__ import annotations

import contextlib
import io
import logging
import subprocess
import sys
from pathlib import Path
from unittest import mock

from rtseg.cli import main

REPO = Path(__file__).parent.parent
Done = subprocess.CompletedProcess[str]


def here(*words: object, cwd: Path = REPO) -> Done:
    """What the command said and how it ended; 80 columns, no colours, the log's level as it was before."""
    arguments = ["rtseg", *map(str, words)]
    out, err, code = io.StringIO(), io.StringIO(), 0
    plain = {"COLUMNS": "80", "NO_COLOR": "1"}
    logger = logging.getLogger("rtseg")
    level = logger.level
    try:
        with (
            contextlib.chdir(cwd),
            mock.patch.object(sys, "argv", arguments),
            mock.patch.dict("os.environ", plain),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        logger.setLevel(level)
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())
