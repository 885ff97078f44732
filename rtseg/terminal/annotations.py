"""What becomes of recordings that are annotated: a line for each as it is done, and at the end what went wrong."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from rtseg.annotation.many import Outcome
from rtseg.inference.annotate import Annotated
from rtseg.recordings.files.reading_warnings import WarningLog
from rtseg.terminal.progress import counting


def show_outcomes(outcomes: Iterable[Outcome], n_files: int) -> bool:
    """Print each recording on stdout; on stderr, at the end, the readers' warnings by kind, and which files failed.

    Returns whether none did. On a terminal a bar shows how many files are done, and how long the others may take.
    """
    log = WarningLog()
    failed: list[Outcome] = []
    sizes: list[str] = []
    n_skipped = 0
    try:
        with counting("annotating") as progress:
            progress(0, n_files)
            for number, outcome in enumerate(outcomes, start=1):
                for one in outcome.done:
                    if not isinstance(one, Annotated):
                        n_skipped += 1
                        continue
                    log.add_warnings(one.warnings)
                    sizes += [f"{one.name}: {told}" for told in one.size_warnings]
                    files = f"{one.frames_file}, {one.bouts_file.name}"
                    print(f"{one.name}: {len(one.predictions)} frames -> {files}{one.describe_range()}")
                failed += [outcome] if outcome.error else []
                progress(number, n_files)
    finally:
        # Also behind an error: what was read before it was read with these.
        for line in (*log.summary(), *sizes):
            print(f"warning: {line}", file=sys.stderr)
        if n_skipped:
            print(f"{n_skipped} recordings were done already and are left out", file=sys.stderr)
    if failed:
        print(f"{len(failed)} of {n_files} files failed:", file=sys.stderr)
    for outcome in failed:
        print(f"  {outcome.error}", file=sys.stderr)
    return not failed
