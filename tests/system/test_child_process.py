"""Modules as processes of their own: the folder that somebody stands in is no place to import from."""

from __future__ import annotations

import subprocess
from pathlib import Path

from rtseg.system.child_process import module_command, module_environment


def test_a_users_own_files_are_not_taken_for_libraries(tmp_path: Path) -> None:
    for name in ("zmq", "serial", "struct", "rtseg"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong file')\n", encoding="utf-8")
    # It complains about its arguments, so it was found, with all that it imports.
    done = subprocess.run(
        module_command("rtseg.sinks.process"),
        cwd=tmp_path,
        env=module_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "wrong file" not in done.stderr
    assert "IndexError" in done.stderr
