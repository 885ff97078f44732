"""Killing processes (kill -9) at random moments: `python benchmarks/chaos.py --rounds 200 --json results/chaos.json`.

In a round a client process sends a stream of frames to a daemon that records, and a subscriber process receives the
predictions. At a random moment one or two processes are killed and started again: the daemon, the process that writes
its recording, both, the client, or the subscriber. With `--workers 2` the daemon is a front with workers, and one
worker, all of them, the front (whose workers end with it), the client or the subscriber is killed. Then it is checked
that

- every recording can be read as it is or after `rtseg recover`, by rtseg and by the library `mcap`;
- every prediction that a subscriber received is in a recording with the same probabilities, time of publishing and
  flags, whenever the kill came; and none was received twice;
- the stream's answers have, frame by frame, the same bits as in one run without interruption;
- `rtseg replay --verify` finds no difference in any file, snapshots included.

The processes are forked from this one, which has the model loaded, so that a round takes seconds.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from forked import fork
from mcap.reader import make_reader
from random_walk import random_walk

from rtseg.client import Publisher, Subscriber, ask_status
from rtseg.config import ServeSettings
from rtseg.errors import RecordingError, ServeError
from rtseg.inference.classifier import Classifier, load
from rtseg.playback.verify import verify_recording
from rtseg.recorder.reading import RecordingFile, unpacked
from rtseg.recorder.recover import recover_recording
from rtseg.recordings.recording import Recording
from rtseg.serve.daemon import serve
from rtseg.serve.front import serve_with_workers
from rtseg.system.machine import describe_run
from rtseg.wire.messages import PredictionMessage, parse_published

STREAM = "cage"
VICTIMS = ("daemon", "writer", "daemon and writer", "client", "subscriber")
VICTIMS_OF_WORKERS = ("worker", "all workers", "daemon", "client", "subscriber")
ROUND_S = 60.0
LAST_WORDS_S = 2.0
"""How long to wait for a subscriber that may have missed the stream's end; then it is stopped."""
HEARD = struct.Struct("<QQ32s")
"""A line of the subscriber's log: sequence number, time of publishing, and `digest_of` the prediction."""


class Round:
    """One round in a folder of its own."""

    def __init__(
        self, classifier: Classifier, walk: Recording, expected: list[bytes], rate: float, seed: int, workers: int
    ) -> None:
        self.classifier, self.walk, self.expected, self.rate = classifier, walk, expected, rate
        self.random = random.Random(seed)
        self.folder = Path(tempfile.mkdtemp(prefix="chaos-"))
        self.settings = ServeSettings(
            frames=f"ipc://{self.folder}/frames",
            predictions=f"ipc://{self.folder}/predictions",
            capacity=classifier.pool.capacity,
            record=str(self.folder),
            resume=True,
            record_buffer_mb=4,
            record_snapshot_s=0.3,
            workers=workers,
            worker_snapshot_s=0.5,
            control=False,
        )
        self.kills = 0
        self.notes: Counter[str] = Counter()

    def run(self, victim: str) -> dict[str, Any]:
        """Run the round; its results."""
        daemon, client, subscriber = self._daemon(), self._client(), self._subscriber()
        try:
            # At any frame of the stream, first and last included.
            self._wait_for(self.random.randrange(len(self.walk)))
            if "worker" in victim:
                workers = children(daemon)
                self._kill(workers if "all" in victim else [self.random.choice(workers)])
            elif "daemon" in victim or victim == "writer":
                doomed = [daemon] if "daemon" in victim else []
                doomed += children(daemon) if "writer" in victim else []
                self._kill(doomed)
                if "daemon" in victim:
                    os.waitpid(daemon, 0)
                    if "writer" in victim:
                        self._recover_what_is_there()
                    daemon = self._daemon()
            elif victim == "client":
                self._kill([client])
                os.waitpid(client, 0)
                client = self._client()
            else:
                self._kill([subscriber])
                os.waitpid(subscriber, 0)
                subscriber = self._subscriber()
            ended = wait_for_end(client, ROUND_S)
            retry(lambda: ask_status(self.settings.frames, timeout_s=2.0))  # while it starts, SIGTERM has no handler
            os.kill(daemon, signal.SIGTERM)
            stopped = wait_for_end(daemon, ROUND_S)
            wait_for_end(subscriber, LAST_WORDS_S)
        finally:
            for process in (daemon, client, subscriber):
                stop(process)
        return {"victim": victim, "client": ended, "daemon": stopped, **self.check()}

    def check(self) -> dict[str, Any]:
        """Read everything that was written, and compare it with what was received and expected."""
        found: dict[str, Any] = {"unreadable": [], "verify": [], "kills": self.kills}
        recorded: dict[int, set[bytes]] = {}
        exact: set[bytes] = set()
        for path in sorted(self.folder.glob("rtseg-*.mcap")):
            if path.name.endswith(".recovered.mcap"):
                continue
            try:
                self._read(path, recorded, exact)
                found["verify"] += [verified] if (verified := self._verify(path)) else []
            except Exception as error:
                found["unreadable"].append(f"{path.name}: {error!r}")
        heard = [HEARD.unpack(line) for path in sorted(self.folder.glob("heard-*")) for line in lines(path)]
        found["heard"] = len(heard)
        found["missing"] = sum(digest not in exact for _, _, digest in heard)
        found["heard twice"] = len(heard) - len({seq for seq, _, _ in heard})
        found["different"] = sum(
            answers != {expected} for seq, expected in enumerate(self.expected) if (answers := recorded.get(seq))
        )
        found["unanswered"] = sum(seq not in recorded for seq in range(len(self.expected)))
        found["identical"] = not found["different"] and not found["unanswered"]
        return found | dict(self.notes)

    def _read(self, path: Path, recorded: dict[int, set[bytes]], exact: set[bytes]) -> None:
        done = recover_recording(path)
        if done.copy is not None:
            self.notes["recovered at the end"] += 1
            path = done.copy
        with path.open("rb") as file:
            library = Counter(channel.topic for _, channel, _ in make_reader(file).iter_messages())
        with RecordingFile(path) as recording:
            ours: Counter[str] = Counter()
            for told in recording.messages():
                ours[told.topic] += 1
                if told.topic == "predictions":
                    answer = parse_published(unpacked(path, told.data))
                    assert isinstance(answer, PredictionMessage)
                    recorded.setdefault(answer.seq, set()).add(probs_of(answer))
                    exact.add(digest_of(answer))
            assert ours == library, f"the library mcap finds {library}, and we find {ours}"
            assert not recording.problem, recording.problem

    def _verify(self, path: Path) -> str:
        verified = verify_recording(path, self.bundle)
        self.notes["frames verified"] += verified.frames
        self.notes["snapshots verified"] += verified.snapshots
        return verified.first

    def _recover_what_is_there(self) -> None:
        """Recover the files after daemon and writer were killed: cut off, with some records in memory only."""
        for path in self.folder.glob("rtseg-*.mcap"):
            done = retry(
                partial(recover_recording, path, path.with_suffix(".torn.recovered.mcap"))
            )  # a killed writer dies
            assert done.copy is not None, "a file whose writer was killed cannot be whole"
            self.notes["bytes recovered from memory"] += done.from_memory
            self.notes["torn files recovered"] += 1
            first = verify_recording(done.copy, self.bundle).first
            assert not first, first

    def _kill(self, processes: list[int]) -> None:
        for process in processes:
            os.kill(process, signal.SIGKILL)
        self.kills += 1

    def _wait_for(self, frames: int) -> None:
        deadline = time.monotonic() + ROUND_S
        while self._heard() < frames and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(self.random.uniform(0, 1 / self.rate))

    def _heard(self) -> int:
        return sum(path.stat().st_size // HEARD.size for path in self.folder.glob("heard-*"))

    @property
    def bundle(self) -> str:
        return os.environ["CHAOS_BUNDLE"]

    def _daemon(self) -> int:
        def run() -> None:
            sys.stderr = sys.stdout = (self.folder / "daemon.log").open("a")
            if self.settings.workers > 1:
                serve_with_workers(Path(self.bundle), self.settings)
            else:
                serve(self.classifier, self.settings)

        return fork(run)

    def _client(self) -> int:
        return fork(self._publish)

    def _subscriber(self) -> int:
        return fork(self._listen)

    def _publisher(self) -> Publisher:
        walk, address = self.walk, self.settings.frames
        made = retry(lambda: Publisher(address, STREAM, walk.skeleton, walk.fps, resume=True, timeout_s=2.0))
        assert isinstance(made, Publisher)
        return made

    def _publish(self) -> None:
        """Send the frames that the daemon does not have yet, at a camera's rate."""
        walk, publisher = self.walk, self._publisher()
        first = 0 if publisher.resumed is None else publisher.resumed + 1
        started = time.monotonic()
        for t in range(first, len(walk)):
            time.sleep(max(0.0, started + (t - first) / self.rate - time.monotonic()))
            publisher.send(walk.keypoints[t], walk.confidence[t], seq=t, t_source_ns=t * 1_000_000)
        assert publisher.flush(ROUND_S), "the daemon does not come back"
        while not publisher.close():  # killed between the last frame and the goodbye
            publisher = self._publisher()

    def _listen(self) -> None:
        """Receive everything that is published, and log each prediction at once."""
        log = os.open(self.folder / f"heard-{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        with retry(lambda: Subscriber(self.settings.predictions, STREAM, connect_timeout_s=2.0)) as subscriber:
            while (message := subscriber.receive(ROUND_S)) is not None:
                if isinstance(message, PredictionMessage):
                    os.write(log, HEARD.pack(message.seq, message.t_pub_ns, digest_of(message)))
                elif message.type == "closed" and message.fields["reason"] == "bye":
                    return


def retry(make: Callable[[], Any]) -> Any:
    """Try until it works: the daemon may not be up yet, or not know yet that the previous client is gone."""
    deadline = time.monotonic() + ROUND_S
    while True:
        try:
            return make()
        except (ServeError, RecordingError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def probs_of(answer: PredictionMessage) -> bytes:
    """The probabilities of all heads as bytes, which are compared."""
    return np.concatenate(list(answer.probs.values())).tobytes()


def digest_of(answer: PredictionMessage) -> bytes:
    """SHA-256 of a published prediction: its number, its time, its flags and its probabilities."""
    said = struct.pack("<QQH", answer.seq, answer.t_pub_ns, answer.quality)
    return hashlib.sha256(said + probs_of(answer)).digest()


def lines(path: Path) -> list[bytes]:
    """The whole lines of a subscriber's log."""
    data = path.read_bytes()
    return [data[at : at + HEARD.size] for at in range(0, len(data) - HEARD.size + 1, HEARD.size)]


def children(process: int) -> list[int]:
    """The ids of the processes that a process has started (Linux)."""
    found = []
    for task in Path(f"/proc/{process}/task").iterdir():
        found += [int(child) for child in (task / "children").read_text().split()]
    return found


def wait_for_end(process: int, timeout_s: float) -> int | None:
    """Exit status; None where it does not end in time."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    return None


def stop(process: int) -> None:
    """Kill a process, if it still runs, and wait for it."""
    try:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
    except (ProcessLookupError, ChildProcessError):
        pass


def main() -> int:
    """Run the rounds, print and write what came out; exit status 1 where anything was lost or changed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", default="engines/rats58")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--frames", type=int, default=300, help="of the stream in each round")
    parser.add_argument("--rate", type=float, default=300.0, help="frames per second")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    os.environ["CHAOS_BUNDLE"] = chosen.bundle
    classifier = load(chosen.bundle, capacity=4)
    walk = random_walk(classifier.bundle.skeleton, chosen.frames, classifier.bundle.fps, seed=1, name=STREAM)
    expected = [row.tobytes() for row in classifier.run(walk).probs]
    results, failed, started = [], [], time.monotonic()
    for number in range(chosen.rounds):
        victims = VICTIMS if chosen.workers == 1 else VICTIMS_OF_WORKERS
        victim = victims[number % len(victims)]
        this = Round(classifier, walk, expected, chosen.rate, chosen.seed + number, chosen.workers)
        found = this.run(victim)
        wrong = ("missing", "heard twice", "unreadable", "verify")
        good = found["identical"] and not any(found[what] for what in wrong)
        good = good and found["client"] == 0 and found["daemon"] == 0
        print(f"{number + 1:4d} {victim:18s} {'good' if good else 'BAD'} {found}", flush=True)
        results.append(found)
        if good:
            remove(this.folder)
        else:
            failed.append({"round": number, "folder": str(this.folder.name), **found})
    total: Counter[str] = Counter()
    for found in results:
        total.update(
            {key: value for key, value in found.items() if type(value) is int and key not in ("client", "daemon")}
        )
    summary = {
        "rounds": chosen.rounds,
        "workers": chosen.workers,
        "by victim": dict(Counter(found["victim"] for found in results)),
        "bit-identical streams": sum(found["identical"] for found in results),
        "unreadable files": sum(len(found["unreadable"]) for found in results),
        "files that differ when verified": sum(len(found["verify"]) for found in results),
        "totals": dict(total),
        "failed": failed,
        "bundle": classifier.bundle.name,
        "model": classifier.bundle.hash,
        "frames": chosen.frames,
        "rate": chosen.rate,
        "seed": chosen.seed,
        "seconds": round(time.monotonic() - started, 1),
        "machine": describe_run(("numpy", "numba", "pyzmq", "msgpack", "mcap")),
    }
    print(json.dumps({key: value for key, value in summary.items() if key != "machine"}, indent=1))
    if chosen.json:
        chosen.json.parent.mkdir(parents=True, exist_ok=True)
        chosen.json.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    return 1 if failed else 0


def remove(folder: Path) -> None:
    """Delete a round's folder."""
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


if __name__ == "__main__":
    sys.exit(main())
