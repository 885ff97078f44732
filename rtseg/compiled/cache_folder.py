"""Where compiled kernels are kept on a machine on which numba finds no place: a container, a service account.

numba keeps them beside the code or in the user's home, and raises where it may write to neither. Called before numba
is imported; imports nothing heavy itself.
"""

from __future__ import annotations

import logging
import os
import stat
import sys
import tempfile
from pathlib import Path

CHOSEN = "NUMBA_CACHE_DIR"
log = logging.getLogger(__name__)


def ensure_cache_folder() -> Path | None:
    """Give numba a folder of this user's below the temporary one where it would find none; the folder, else None.

    Set in the environment, so that child processes keep theirs there too. Said in one line of the log.
    """
    if any(map(_can_hold_files, _own_choices())):
        return None
    folder = _private_folder()
    os.environ[CHOSEN] = str(folder)
    # Whoever imported numba before has it read the environment already.
    if "numba" in sys.modules:
        sys.modules["numba"].config.CACHE_DIR = str(folder)
    log.warning("compiled code is kept in %s: no other folder can be written to (%s chooses one)", folder, CHOSEN)
    return folder


def _own_choices() -> list[Path]:
    """The folders that numba tries, in its order."""
    chosen = os.environ.get(CHOSEN)
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folders = [chosen, Path(__file__).parent / "__pycache__", Path(cache).expanduser() / "numba"]
    return [Path(folder) for folder in folders if folder]


def _can_hold_files(folder: Path) -> bool:
    """Whether a folder, which may have to be made, can be written to. Makes nothing."""
    there = folder
    while not os.access(there, os.F_OK) and there != there.parent:  # nor may it raise where this user may not look
        there = there.parent
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def _private_folder() -> Path:
    """A folder that only this user can write to: what lies there is run. The same one in every process."""
    user = os.getuid() if hasattr(os, "getuid") else "user"
    folder = Path(tempfile.gettempdir()) / f"rtseg-kernels-{user}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        about = folder.lstat()
    except OSError:
        return Path(tempfile.mkdtemp(prefix="rtseg-kernels-"))
    is_ours = stat.S_ISDIR(about.st_mode) and (sys.platform == "win32" or about.st_uid == user)
    # Another user may have made it first, to have something run by us.
    if is_ours and (sys.platform == "win32" or not about.st_mode & 0o022):
        return folder
    return Path(tempfile.mkdtemp(prefix="rtseg-kernels-"))
