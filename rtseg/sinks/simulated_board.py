"""A simulated board with the sketch rtseg_line, at a pseudo-terminal: for trying triggers where no board is.

It runs the sketch's own logic, compiled with the system's C compiler. Nothing of a daemon uses it.
"""

from __future__ import annotations

import contextlib
import select
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from rtseg.errors import SinkError

SKETCH = Path(__file__).parent / "sketch"
"""The folder of the sketch, rtseg_line/rtseg_line.ino, and of the simulation."""


class PinChange(NamedTuple):
    """t_ns: on the monotonic clock."""

    t_ns: int
    pin: int
    level: int


class SimulatedBoard:
    """A board. port: for `[sinks.NAME] port`. slow_s: how long it takes to look at what comes.

    Raises SinkError where there is no C compiler.
    """

    def __init__(self, *, slow_s: float = 0.0) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="rtseg-board-")
        self._process = subprocess.Popen(
            [str(_compile(Path(self._folder.name))), str(round(slow_s * 1e6))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        self.port = self._process.stdout.readline().decode().strip()
        self.pid = self._process.pid
        self._text = b""
        self._ended = False

    def changes(self, timeout_s: float = 0.0) -> list[PinChange]:
        """The changes of pins since the last call; waits so long for the first one."""
        output = self._process.stdout
        assert output is not None
        while not self._ended and select.select([output], [], [], timeout_s)[0]:
            data = output.read1(65536) if hasattr(output, "read1") else b""
            self._ended = not data
            self._text += data
            timeout_s = 0.0
        *lines, self._text = self._text.split(b"\n")
        return [PinChange(*map(int, line.split())) for line in lines]

    def unplug(self) -> None:
        """End it at once, as if it were pulled out."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """End it, and remove what was compiled."""
        self.unplug()
        for end in (self._process.stdin, self._process.stdout):
            assert end is not None
            end.close()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def why_no_simulated_board() -> str:
    """Why none can be had here, "" where it can."""
    return "" if compiler() else "the simulated board needs a C compiler: install gcc or clang"


def compiler() -> str | None:
    """The system's C compiler."""
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


def _compile(folder: Path) -> Path:
    if reason := why_no_simulated_board():
        raise SinkError(reason)
    program = folder / "board"
    command = [str(compiler()), "-std=c11", "-O2", "-o", str(program), str(SKETCH / "simulated_board.c")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SinkError(f"the simulated board does not compile: {done.stderr.strip()[:500]}")
    return program


def main() -> None:
    """A board that prints its port, and what its pins do, until it is interrupted: `python -m ...simulated_board`."""
    with SimulatedBoard() as board, contextlib.suppress(KeyboardInterrupt):
        print(f"port = {board.port!r}", flush=True)
        while True:
            for change in board.changes(1.0):
                print(f"{change.t_ns / 1e9:.4f} s, pin {change.pin}: {'high' if change.level else 'low'}", flush=True)


if __name__ == "__main__":
    main()
