"""What scripts/demo runs in its environment: simulate, serve, replay live, draw. Real processes, real sockets."""

from __future__ import annotations

import importlib.util
import json
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from rtseg.bundle.bundle import load_bundle
from rtseg.evaluation.ethogram import draw_ethogram
from rtseg.inference.predictions import write_predictions
from rtseg.playback.replay import replay
from rtseg.simulate.tasks import simulate_sequence
from rtseg.terminal.tables import print_latency, watch

BUNDLE = Path("engines/mice-sim")
OUT = Path("demo-output")
LOG = OUT / "daemon.log"
SECONDS, FPS, SEED = 30, 30, 2028
"""A scene with attacks, chosen by its labels and not by the model's answers."""
START_S = time.monotonic()


def say(text: str) -> None:
    print(f"[{time.monotonic() - START_S:5.1f} s] {text}", flush=True)


def main() -> int:
    OUT.mkdir(exist_ok=True)
    say(f"starting the daemon: rtseg serve {BUNDLE}")
    with tempfile.TemporaryDirectory() as folder:
        addresses = ["--frames", f"ipc://{folder}/frames", "--predictions", f"ipc://{folder}/predictions"]
        command = [sys.executable, "-m", "rtseg", "serve", str(BUNDLE), *addresses]
        # The daemon logs to a file, for the live picture has the screen.
        with LOG.open("w") as log:
            daemon = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            say(f"simulating {SECONDS} s of two mice")
            recording, labels = simulate_sequence(SEED, SECONDS * FPS, name="simulated mice", aggressive=True)
            say("waiting for the daemon (it compiles its kernels on first use)")
            assert daemon.stdout is not None
            line = daemon.stdout.readline()
            if not line.startswith("ready "):
                print(f"the daemon did not start; see {LOG}: {LOG.read_text()}", file=sys.stderr)
                return 1
            ready = json.loads(line.removeprefix("ready "))
            say(f"replaying {SECONDS} s live at {FPS} frames per second to {ready['frames']}")
            with watch(quiet=False) as show:
                done = replay(recording, ready["frames"], speed=1.0, on_prediction=show)
        finally:
            daemon.send_signal(signal.SIGTERM)
            code = daemon.wait(timeout=30)
    if code != 0:
        print(f"the daemon ended with {code}; see {LOG}", file=sys.stderr)
        return 1
    say("drawing")
    # The wire does not say which classes are scored; the bundle does.
    predictions = replace(done.predictions, heads=load_bundle(BUNDLE).heads)
    write_predictions(predictions, OUT / "predictions.csv", FPS)
    title = "Simulated mice, shipped bundle mice-sim, answered live"
    truth = labels.frames
    draw_ethogram(predictions, "task1", OUT / "ethogram.png", fps=FPS, truth=truth, title=title)
    guess = predictions.of("task1").argmax(axis=1)
    print(f"{np.mean(guess == truth):.0%} of {len(truth)} frames as labelled (simulated mice, simulated annotator)")
    print_latency(done)
    torch = importlib.util.find_spec("torch")
    print(f"torch in this environment: {'no' if torch is None else 'yes'}")
    say(f"done: see {OUT / 'ethogram.png'} and {OUT / 'predictions.csv'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
