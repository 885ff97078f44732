"""Fuzzing what reads recordings: `python benchmarks/fuzz_recordings.py --json results/fuzz-recordings.json`.

A daemon records three streams and is killed. Its file is damaged in one to three places (bits turned, bytes replaced,
zeroed, removed, put in between, the end cut off), and read in every way: recover, resume, export, `replay --verify`,
and as pose files. It is checked that

- nothing but RtsegError is raised, and resuming raises nothing at all;
- every message none of whose bytes was damaged is read, and stands in the repaired copy, byte for byte and in order;
- the copy is whole: reading it finds no problem.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from random_walk import random_walk
from result_file import print_result

from rtseg.bundle.bundle import Bundle, load_bundle
from rtseg.client import Publisher
from rtseg.errors import RtsegError
from rtseg.inference.classifier import Classifier
from rtseg.playback import verify
from rtseg.playback.export import export_recording
from rtseg.recorder.reading import RecordingFile
from rtseg.recorder.recover import recover_recording
from rtseg.recordings.poses.mcap import read_mcap
from rtseg.serve.recording.resume import read_resumable_streams
from rtseg.system.machine import describe_run

STREAMS, FRAMES = 3, 40
Message = tuple[int, int, bytes]
"""Where it begins and ends in the file, and its data."""


def record(bundle: Path, folder: Path) -> Path:
    """The file of a daemon that was killed while three streams were open."""
    settings = ["--record", str(folder), "--set", "record_snapshot_s=0.3"]
    addresses = ["--frames", "tcp://127.0.0.1:*", "--predictions", "tcp://127.0.0.1:*"]
    command = [sys.executable, "-m", "rtseg", "serve", str(bundle), *addresses, *settings]
    described = load_bundle(bundle)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdout is not None
        address = json.loads(daemon.stdout.readline().removeprefix("ready "))["frames"]
        walks = [random_walk(described.skeleton, FRAMES, described.fps, seed) for seed in range(STREAMS)]
        publishers = [Publisher(address, f"s{n}", described.skeleton, described.fps) for n in range(STREAMS)]
        for seq in range(FRAMES):
            for publisher, walk in zip(publishers, walks, strict=True):
                publisher.send(walk.keypoints[seq], walk.confidence[seq], seq=seq)
            time.sleep(0.03)
        time.sleep(0.5)
        os.kill(daemon.pid, signal.SIGKILL)
    time.sleep(1.0)  # its writer closes the file
    (path,) = folder.glob("*.mcap")
    return path


def messages_of(data: bytes) -> list[Message]:
    """The messages of a whole file, parsed by hand."""
    at, found = 8, []
    while at + 9 <= len(data):
        opcode, length = struct.unpack_from("<BQ", data, at)
        stop = at + 9 + length
        if opcode == 5:
            found.append((at, stop, data[at + 9 + 22 : stop]))
        if opcode == 2:
            break
        at = stop
    return found


def damage(data: bytes, draw: random.Random) -> tuple[bytes, list[tuple[int, int]]]:
    """The damaged bytes, and which of the original ones were touched (start, stop)."""
    changed, touched = data, []
    # From behind, so that places before a change stay where they were.
    for at in sorted((draw.randrange(len(data)) for _ in range(draw.choice([1, 1, 2, 3]))), reverse=True):
        # Only as far as the change behind it: beyond, places are no longer those of the original.
        behind = touched[-1][0] if touched else len(data)
        n, kind = min(draw.choice([1, 8, 64, 512, 4096]), behind - at), draw.randrange(7)
        if n == 0:
            continue
        if kind <= 2:
            n, new = 1, bytes([changed[at] ^ 1 << draw.randrange(8)])
        elif kind == 3:
            new = draw.randbytes(n)
        elif kind == 4:
            new = bytes(n)
        elif kind == 5:
            new = b""
        elif draw.random() < 0.5:
            n, new = 0, draw.randbytes(draw.choice([1, 8, 512]))
        else:
            n, new = len(data), b""  # the end is cut off
        touched.append((at, at + n))
        changed = changed[:at] + new + changed[at + n :]
    return changed, touched


def untouched(messages: list[Message], touched: list[tuple[int, int]]) -> list[bytes]:
    """The data of the messages that lie wholly outside of what was touched."""
    return [
        data
        for start, stop, data in messages
        # What is put between two records touches neither.
        if not any((a < stop and b > start) or (a == b and start < a < stop) for a, b in touched)
    ]


def holds_in_order(found: list[bytes], wanted: list[bytes]) -> int:
    """How many of the wanted are missing from what was found, in order."""
    left = iter(found)
    return sum(not any(data == each for each in left) for data in wanted)


class Fuzzer:
    """Damages one recording again and again."""

    def __init__(self, path: Path, bundle: Bundle, folder: Path, seed: int) -> None:
        self._data, self._bundle, self._folder = path.read_bytes(), bundle, folder
        self._messages = messages_of(self._data)
        self._draw = random.Random(seed)
        self.results: Counter[str] = Counter()
        # The same bundle for all cases: loading it is another fuzzer's business.
        verify.load = lambda folder, engine, capacity, identity, heads: Classifier(bundle, "numba", 4, identity)  # type: ignore[assignment]

    def run_case(self) -> None:
        """Damage, and read in every way."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir()
        path = self._folder / "rtseg-damaged.mcap"
        changed, touched = damage(self._data, self._draw)
        path.write_bytes(changed)
        wanted = untouched(self._messages, touched)
        self._try("read", lambda: self._read(path, wanted))
        self._try("recover", lambda: self._recover(path, wanted))
        self._try("resume", lambda: self._resume())
        self._try("export", lambda: list(export_recording(path, self._folder / "out")))
        self._try("verify", lambda: verify.verify_recording(path))
        self._try("as poses", lambda: list(read_mcap(path)))

    def _try(self, what: str, do: Callable[[], Any]) -> None:
        try:
            do()
            self.results[f"{what}: done"] += 1
        except RtsegError:
            self.results[f"{what}: refused"] += 1
        except Exception as error:
            self.results[f"WRONG {what}: {type(error).__name__} {error}"[:160]] += 1

    def _read(self, path: Path, wanted: list[bytes]) -> None:
        with RecordingFile(path) as file:
            lost = holds_in_order([message.data for message in file.messages()], wanted)
        if lost:
            raise AssertionError(f"whole messages lost: {lost}")

    def _recover(self, path: Path, wanted: list[bytes]) -> None:
        done = recover_recording(path)
        copy = done.copy or path
        with RecordingFile(copy) as file:
            list(file.messages())
            if file.problem:
                raise AssertionError(f"the copy is not whole: {file.problem}")
        if lost := holds_in_order([data for _, _, data in messages_of(copy.read_bytes())], wanted):
            raise AssertionError(f"whole messages lost: {lost}")

    def _resume(self) -> None:
        try:
            found = read_resumable_streams(self._folder)
        except RtsegError as error:
            raise AssertionError(f"refused: {error}") from None
        self.results["resume: streams"] += len(found)


def main() -> None:
    """Parse the options, fuzz, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, nargs="?", default=Path("engines/rats58"))
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after so long, whatever was done")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")  # numbers that were damaged overflow
    began_s, n = time.monotonic(), 0
    with tempfile.TemporaryDirectory() as folder:
        path = record(chosen.bundle, Path(folder) / "recorded")
        fuzzer = Fuzzer(path, load_bundle(chosen.bundle), Path(folder) / "case", chosen.seed)
        while n < chosen.cases and time.monotonic() - began_s < 60 * chosen.minutes:
            fuzzer.run_case()
            n += 1
        size = path.stat().st_size
    result = {
        **describe_run(("numba", "numpy", "msgpack")),
        "seed": chosen.seed,
        "cases": n,
        "bytes": size,
        "results": dict(sorted(fuzzer.results.items())),
        "minutes": round((time.monotonic() - began_s) / 60, 1),
        "passed": not any(what.startswith("WRONG") for what in fuzzer.results),
    }
    print_result(result, chosen.json)
    sys.exit(not result["passed"])


if __name__ == "__main__":
    main()
