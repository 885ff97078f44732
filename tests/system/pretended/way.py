"""A laboratory's way through rtseg, run by a Python that pretends another system; prints what happened as JSON.

Arguments: bundle, poses, folder to work in, and a recording that is there already or "". Everything but the daemon runs
in this process: doctor, annotate, a client with a key, what is refused, and what becomes of a recording.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zmq

from rtseg.client import Subscriber, ask_status, ask_stop
from rtseg.system.capabilities import why_no_ipc, why_no_recording, why_no_workers
from rtseg.wire.keys import KeyStore, make_key_file
from tests.commands import here

WAIT_S = 60.0


def said(*words: object) -> str:
    """What a command printed; it must have gone well."""
    done = here(*words)
    assert done.returncode == 0, (words, done.stderr)
    return done.stdout


@contextlib.contextmanager
def daemon(bundle: Path, *words: object) -> Iterator[dict[str, Any]]:
    """Its `ready` line; it is told to stop at the end, and must end well."""
    command = [sys.executable, "-m", "rtseg", "serve", str(bundle), *map(str, words)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("ready "), line
        yield json.loads(line.removeprefix("ready "))
        assert process.wait(WAIT_S) == 0
    finally:
        process.kill()
        process.communicate()


def is_cut_off(subscriber: Subscriber, store: KeyStore, name: str) -> bool:
    """Whether a subscriber whose key is revoked loses its connection."""
    events = subscriber._socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    store.revoke(name)
    return bool(events.poll(int(WAIT_S * 1000)))


def main(bundle: Path, poses: Path, folder: Path, recording: str) -> dict[str, Any]:
    found: dict[str, Any] = {"doctor": json.loads(said("doctor", "--json")), "words": said("doctor")}
    found["reasons"] = {"record": why_no_recording(), "ipc": why_no_ipc(), "workers": why_no_workers()}
    said("annotate", bundle, poses, "--out", folder / "offline")

    free = ["--frames", "tcp://127.0.0.1:*", "--predictions", "tcp://127.0.0.1:*"]
    for name, words in (
        ("record", ["--record", folder / "runs", *free]),
        ("ipc", ["--frames", f"ipc://{folder}/f", "--predictions", "tcp://127.0.0.1:*"]),
        ("workers", ["--workers", 2, *free]),
    ):
        if found["reasons"][name]:
            done = here("serve", bundle, *words)
            found[f"serve {name}"] = [done.returncode, done.stderr]

    store = KeyStore(folder / "keys")
    key, other = folder / "lab.key", folder / "other.key"
    make_key_file(store, "lab", ("publish", "subscribe", "control"), key)
    make_key_file(store, "other", ("subscribe",), other)
    words = [*free, "--keys", store.folder, "--set", 'http="127.0.0.1:0"']
    words += [] if found["reasons"]["record"] else ["--record", folder / "runs"]
    with daemon(bundle, *words) as about:
        said(
            "replay",
            poses,
            "--to",
            about["frames"],
            "--speed",
            "max",
            "--quiet",
            "--key",
            key,
            "--out",
            folder / "live.csv",
        )
        with urllib.request.urlopen(f"{about['http']}/healthz") as answer:
            found["healthz"] = answer.status
        with Subscriber(about["predictions"], key=other) as subscriber:
            found["is cut off"] = is_cut_off(subscriber, store, "other")
        found["status"] = ask_status(about["frames"], key=key)["counters"]
        ask_stop(about["frames"], key=key)
    offline = folder / "offline" / f"{poses.stem}.predictions.csv"
    found["live as offline"] = (folder / "live.csv").read_bytes() == offline.read_bytes()

    made = recording or str(next((folder / "runs").glob("*.mcap")))
    found["recording"] = made
    found["recover"] = said("recover", made)
    found["verify"] = said("replay", made, "--verify", "--bundle", bundle)
    said("export", made, "--out", folder / "exported")
    found["exported"] = sorted(path.name for path in (folder / "exported").iterdir())
    return found


if __name__ == "__main__":
    print(json.dumps(main(*map(Path, sys.argv[1:4]), sys.argv[4])))
