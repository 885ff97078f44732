"""Faults at random moments while a line is on: `python benchmarks/failoff.py --rounds 1000 --json FILE`.

In a round a camera process sends frames to a daemon whose trigger has turned a line on: the pin of a simulated board at
a pseudo-terminal, which runs the shipped sketch's own logic, or a topic of the ZeroMQ sink, which another process
follows. At a random moment something is broken. Then it is measured how long the line stays on: from the fault, or from
the last frame where frames stop, it may be on for one frame interval and 5 ms. Besides,

- nothing goes on again in that bout, and nothing at all while disarmed, nor when a daemon that was killed is back;
- over all recordings no event has happened twice;
- `rtseg replay --verify` finds every decision in every recording again.

A round in which the line went off before the fault (the machine itself was late by more than the grace) is repeated,
and counted.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from failoff_parts import GAP, JUMP, PAUSE, PIN, BoardLine, Camera, Change, TopicLine, children_of, end, stopped
from forked import fork
from random_walk import random_walk

from rtseg.client import Subscriber, ask_arm, ask_disarm, ask_load, ask_status
from rtseg.config import ServeSettings
from rtseg.errors import ServeError
from rtseg.inference.classifier import load
from rtseg.playback.trigger_log import read_trigger_log
from rtseg.playback.verify import verify_recording
from rtseg.serve.daemon import serve
from rtseg.system.machine import describe_run
from rtseg.wire.messages import StreamEvent

MARGIN_MS = 5.0
FAULTS = (
    *("gap", "stale", "client killed", "sink killed", "sink stopped, queue full", "unplugged"),
    *("daemon stopped", "daemon killed", "bundle swapped", "disarmed", "clock jump"),
)
TRIGGERS = """
[triggers.{sink}]
conditions = [{{ head = "{head}", behaviours = ["{behaviour}"] }}]
on = 0.0
off = 0.0
pulse_s = 0.0
max_on_s = 60.0
never_on = ["gap_filled", "reset", "identity_jump", "frozen"]
streams = ["{sink}*"]
sinks = ["{sink}"]
line = {pin}
"""


class Laboratory:
    """A daemon with its sinks, started again where it was killed. folder: of recordings and everything else."""

    def __init__(self, bundle: Path, folder: Path, seed: int) -> None:
        self.bundle, self.folder, self.random = bundle, folder, random.Random(seed)
        self.classifier = load(bundle, capacity=64)
        model = self.classifier.bundle
        self.walk, self.fps = random_walk(model.skeleton, 300, model.fps, seed), model.fps
        topic, acks = f"ipc://{folder}/lines", f"ipc://{folder}/acks"
        about = {"head": model.heads[0].name, "behaviour": model.heads[0].classes[0], "pin": PIN}
        self.triggers = folder / "triggers.toml"
        text = "".join(TRIGGERS.format(sink=sink, **about) for sink in ("board", "topic"))
        text += f'[sinks.board]\nkind = "serial"\nport = "{folder}/board"\n'
        text += f'[sinks.topic]\nkind = "zmq"\naddress = "{topic}"\nacknowledgements = "{acks}"\n'
        self.triggers.write_text(text, encoding="utf-8")
        self.settings = ServeSettings(
            *(f"ipc://{folder}/frames", f"ipc://{folder}/predictions"),
            capacity=64,
            idle_timeout_s=5.0,
            record=str(folder / "recordings"),
            resume=True,
            triggers=str(self.triggers),
            record_snapshot_s=0.5,
        )
        self.lines: dict[str, BoardLine | TopicLine] = {"board": BoardLine(folder / "board"), "topic": TopicLine(topic)}
        self.start_daemon()

    def start_daemon(self) -> None:
        """Start it, and wait until its sinks are ready: disarmed."""

        def run() -> None:
            sys.stderr = sys.stdout = (self.folder / "daemon.log").open("a")
            serve(self.classifier, self.settings)

        self.daemon = fork(run)
        assert not self.wait_ready()["armed"], "a daemon that starts armed"

    def wait_ready(self) -> dict[str, Any]:
        """Wait until all sinks are ready; the status of the triggers."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with contextlib.suppress(ServeError):
                triggers: dict[str, Any] = ask_status(self.settings.frames)["triggers"]
                if all(sink["state"] == "ready" for sink in triggers["sinks"].values()):
                    return triggers
            time.sleep(0.05)
        raise TimeoutError("the sinks are not ready")

    def close(self) -> None:
        """End everything."""
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(self.daemon, signal.SIGCONT)
            os.kill(self.daemon, signal.SIGTERM)
            os.waitpid(self.daemon, 0)
        for line in self.lines.values():
            line.close()


class Round:
    """One fault. sink: which line. name: of its stream."""

    is_on = False
    line: BoardLine | TopicLine
    events: Subscriber

    def __init__(self, laboratory: Laboratory, fault: str, number: int) -> None:
        self.lab, self.fault = laboratory, fault
        # Only a board can be pulled out.
        self.sink = "board" if fault == "unplugged" else laboratory.random.choice(("board", "topic"))
        self.name = f"{self.sink}-{number}"
        self.line = laboratory.lines[self.sink]
        self.interval_ms = 1000 / laboratory.fps

    def run(self) -> dict[str, Any]:
        """How long the line stayed on in ms (`late_ms`, beyond the last frame or the fault), and what was wrong."""
        lab = self.lab
        try:
            ask_arm(lab.settings.frames)
        except ServeError as error:  # a sink that was stopped for long is found to hang a moment after it is back
            lab.wait_ready()
            return {"invalid": str(error).partition("refused ")[2]}
        self._look(0.0)  # of the round before
        self.is_on = False
        with Subscriber(lab.settings.predictions, self.name) as self.events:
            camera = Camera(lab.settings.frames, self.name, lab.walk)
            try:
                if not self._wait(is_on=True, timeout_s=20.0):
                    return {"invalid": "the line did not go on"}
                self._look_for(lab.random.uniform(0.05, 0.3))
                if not self.is_on:
                    return {"invalid": "the line went off before the fault"}
                return self._break(camera)
            finally:
                camera.close()
                self._mend()

    def _break(self, camera: Camera) -> dict[str, Any]:
        with contextlib.ExitStack() as until_then:
            at_ns = self._inject(camera, until_then)
            if not at_ns:
                return {"invalid": "the camera was killed while it sent"}
            off = self._wait(is_on=False, timeout_s=3.0) if self.fault != "unplugged" else self._ended()
            if not off:
                return {"wrong": "the line stayed on", "daemon": self._told()}
            if self.fault == "bundle swapped":
                at_ns = self._ended("bundle changed")
                if not at_ns:
                    return {"invalid": "the line went off before the fault"}
            if off < at_ns - 1_000_000:
                return {"invalid": "the line went off before the fault"}
            goes_on = self.fault != "unplugged" and self._goes_on(0.1)
        wrong = "the line went on again" if goes_on else self._after()
        return {"late_ms": (off - at_ns) / 1e6, **({"wrong": wrong} if wrong else {})}

    def _inject(self, camera: Camera, until_then: contextlib.ExitStack) -> int:
        """Break something; since when the line may be on for another interval and the margin."""
        lab, fault, address = self.lab, self.fault, self.lab.settings.frames
        if fault in ("gap", "clock jump"):
            return camera.tell(GAP if fault == "gap" else JUMP)
        if fault == "stale":
            camera.tell(PAUSE)
            return camera.last_ns
        if fault == "client killed":
            camera.kill()
            return 0 if camera.is_sending else camera.last_ns
        at_ns = time.monotonic_ns()
        if fault in ("sink killed", "sink stopped, queue full"):
            (process,) = (p for p in children_of(lab.daemon, "rtseg.sinks") if f'"name": "{self.sink}"' in command(p))
            at_ns = time.monotonic_ns()  # to look for it takes some milliseconds
            if fault == "sink killed":
                os.kill(process, signal.SIGKILL)
                return at_ns
            return until_then.enter_context(stopped(process))
        if fault == "unplugged":
            assert isinstance(self.line, BoardLine)
            self.line.unplug()
        elif fault == "daemon stopped":
            return until_then.enter_context(stopped(lab.daemon))
        elif fault == "daemon killed":
            end(lab.daemon)
        elif fault == "bundle swapped":
            ask_load(address, lab.bundle)
        else:
            ask_disarm(address)
        return at_ns

    def _after(self) -> str:
        """What was wrong after the line had gone off, "" for nothing."""
        lab = self.lab
        if self.fault == "daemon stopped" and self._goes_on(0.3):
            return "the line went on again when the daemon went on"
        if self.fault == "daemon killed":
            lab.start_daemon()
            deadline = time.monotonic() + 10  # the camera comes back by itself
            while self.name not in ask_status(lab.settings.frames)["streams"]:
                if time.monotonic() > deadline:
                    return "the camera did not come back"
                time.sleep(0.05)
            if self._goes_on(0.3):
                return "the line went on while disarmed, after a restart"
            ask_arm(lab.settings.frames)
            if self._goes_on(0.3):
                return "the bout from before the restart fired again"
        if self.fault == "disarmed":
            other = Camera(lab.settings.frames, f"{self.name}-disarmed", lab.walk)
            went_on = self._goes_on(0.5)
            other.close()
            if went_on:
                return "a line went on while disarmed"
        return ""

    def _goes_on(self, within_s: float) -> bool:
        """Whether the line goes on within this time."""
        return self._look_for(within_s)

    def _mend(self) -> None:
        if isinstance(self.line, BoardLine) and self.line.is_unplugged:
            self.line.plug_in()
        self.lab.wait_ready()
        ask_disarm(self.lab.settings.frames)

    def _wait(self, *, is_on: bool, timeout_s: float) -> int:
        """When the line went on, or off; 0 = it did not."""
        deadline = time.monotonic() + timeout_s
        while (left_s := deadline - time.monotonic()) > 0:
            # All that came is looked at: it may have gone on and off again meanwhile.
            found = [change.t_ns for change in self._look(left_s) if change.is_on == is_on]
            if found:
                return found[-1]
        return 0

    def _look(self, timeout_s: float) -> list[Change]:
        """What has changed, as soon as anything does."""
        changes = self.line.changes(timeout_s)
        self.is_on = changes[-1].is_on if changes else self.is_on
        return changes

    def _look_for(self, seconds: float) -> bool:
        """Look all the time; whether the line went on."""
        deadline, went_on = time.monotonic() + seconds, False
        while (left_s := deadline - time.monotonic()) > 0:
            went_on |= any(change.is_on for change in self._look(left_s))
        return went_on

    def _told(self) -> list[str]:
        """What the daemon said of the event."""
        said = []
        while (message := self.events.receive(0.2)) is not None:
            if isinstance(message, StreamEvent) and message.type.startswith("trigger"):
                said.append(str(message.fields))
        return said

    def _ended(self, why: str = "") -> int:
        """When the daemon ended the event, 0 = it did not, or for another reason."""
        while (message := self.events.receive(3.0)) is not None:
            if isinstance(message, StreamEvent) and message.type == "trigger_end":
                return int(message.fields["t_decided_ns"]) if why in ("", message.fields["ended"]) else 0
        return 0


def command(process: int) -> str:
    """Its command line."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/cmdline").read_text().replace("\0", " ")
    return ""


def check_recordings(laboratory: Laboratory) -> dict[str, Any]:
    """Whether any event happened twice over all recordings, and whether they verify."""
    fired: Counter[tuple[str, str, int]] = Counter()
    found: dict[str, Any] = {"recordings": 0, "events": 0, "decisions verified": 0, "differences": []}
    for path in sorted(Path(laboratory.settings.record).glob("*.mcap")):
        found["recordings"] += 1
        for name, log in read_trigger_log(path).items():
            fired.update((name, e.trigger, e.seq) for e in log.events() if e.fired and e.ended != "restart")
        verified = verify_recording(path, laboratory.bundle)
        found["decisions verified"] += verified.decisions
        found["differences"] += [f"{path.name}: {verified.first}"] if verified.first else []
    found["events"] = len(fired)
    found["happened twice"] = [list(event) for event, times in fired.items() if times > 1]
    return found


def table(result: dict[str, Any]) -> str:
    """The result in Markdown."""
    lines = [
        f"# Fail-off: {result['tries']} faults at random moments",
        "",
        f"A line may be on for one frame interval ({result['interval_ms']:.1f} ms) and {MARGIN_MS:g} ms after a fault, "
        "or after the last frame.",
        "",
        "| fault | tries | median, ms | worst, ms | too late | wrong |",
        "|---|---|---|---|---|---|",
    ]
    for fault, of in result["faults"].items():
        if of["tries"]:
            about = (of["tries"], f"{of['median_ms']:.1f}", f"{of['worst_ms']:.1f}", of["too_late"], len(of["wrong"]))
            lines.append(f"| {fault} | {' | '.join(map(str, about))} |")
    checked = result["recordings"]
    lines += [
        "",
        f"Rounds repeated because the line was off before the fault, or never on: {result['repeated']}. Events in all "
        f"recordings: {checked['events']}; happened twice: {len(checked['happened twice'])}. Decisions verified: "
        f"{checked['decisions verified']}; recordings that differ: {len(checked['differences'])}.",
    ]
    return "\n".join(lines) + "\n"


def run_rounds(bundle: Path, rounds: int, seed: int, faults: list[str]) -> dict[str, Any]:
    """Faults in turn in a laboratory of its own; what came of them."""
    late_ms: dict[str, list[float]] = defaultdict(list)
    wrong: dict[str, list[str]] = defaultdict(list)
    repeated = Counter[str]()
    with tempfile.TemporaryDirectory(prefix="rtseg-failoff-") as name:
        laboratory = Laboratory(bundle, Path(name), seed)
        try:
            number = done = 0
            while done < rounds:
                fault = faults[done % len(faults)]
                number += 1
                found_by = Round(laboratory, fault, number)
                found = found_by.run()
                if "invalid" in found:
                    repeated[found["invalid"]] += 1
                    print(f"repeated: {fault}: {found['invalid']}", flush=True)
                    assert repeated.total() < 100 + 3 * rounds, f"too many rounds came to nothing: {repeated}"
                    continue
                done += 1
                if "late_ms" in found:
                    late_ms[fault].append(found["late_ms"])
                if "wrong" in found:
                    wrong[fault].append(found["wrong"])
                print(
                    f"seed {seed}: {done}/{rounds} {fault}, {found_by.sink} ({laboratory.fps:g} fps): {found}",
                    flush=True,
                )
        finally:
            laboratory.close()
        recordings = check_recordings(laboratory)
    return {
        "fps": laboratory.fps,
        "tries": done,
        "late_ms": dict(late_ms),
        "wrong": dict(wrong),
        "repeated": dict(repeated),
        "recordings": recordings,
    }


def summary(found: list[dict[str, Any]], faults: list[str]) -> dict[str, Any]:
    """What came of all laboratories."""
    interval_ms = 1000 / found[0]["fps"]
    by_fault = {}
    for fault in faults:
        late_ms = sorted(ms for of in found for ms in of["late_ms"].get(fault, []))
        wrong = [why for of in found for why in of["wrong"].get(fault, [])]
        by_fault[fault] = {
            "tries": len(late_ms) + sum("stayed on" in why for why in wrong),
            "median_ms": late_ms[len(late_ms) // 2] if late_ms else 0.0,
            "worst_ms": late_ms[-1] if late_ms else 0.0,
            "too_late": sum(ms > interval_ms + MARGIN_MS for ms in late_ms),
            "wrong": wrong,
        }
    repeated = sum((Counter[str](of["repeated"]) for of in found), Counter[str]())
    checked = [of["recordings"] for of in found]
    recordings = {name: sum((of[name] for of in checked[1:]), checked[0][name]) for name in checked[0]}
    return {
        "tries": sum(of["tries"] for of in found),
        "interval_ms": interval_ms,
        "faults": by_fault,
        "repeated": repeated.total(),
        "repeated_because": dict(repeated),
        "recordings": recordings,
    }


def main() -> None:
    """Run the rounds, and write what came of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, default=Path(__file__).parent.parent / "engines" / "mice-sim")
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--laboratories", type=int, default=1, help="so many daemons at once, each with its share")
    parser.add_argument("--seed", type=int, default=1, help="of the first laboratory; the others follow")
    parser.add_argument("--faults", nargs="*", default=list(FAULTS))
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    n = given.laboratories
    shares = [given.rounds // n + (i < given.rounds % n) for i in range(n)]
    with concurrent.futures.ProcessPoolExecutor(n, multiprocessing.get_context("spawn")) as pool:
        seeds = range(given.seed, given.seed + n)
        found = list(pool.map(run_rounds, [given.bundle] * n, shares, seeds, [given.faults] * n))
    result = describe_run(("numpy", "numba", "pyzmq", "pyserial")) | {
        "seed": given.seed,
        "laboratories": n,
        "bundle": given.bundle.name,
        **summary(found, given.faults),
    }
    print(table(result))
    if given.json:
        given.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        given.json.with_suffix(".md").write_text(table(result), encoding="utf-8")
    faults = result["faults"].values()
    checked = result["recordings"]
    if any(of["too_late"] or of["wrong"] for of in faults) or checked["happened twice"] or checked["differences"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
