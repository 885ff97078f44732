"""What scripts/demo runs in its environment: simulate, serve, replay live, draw. Real processes, real sockets."""

from __future__ import annotations

import importlib.util
import json
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from rtseg.ethogram import draw_ethogram
from rtseg.predictions import write_predictions
from rtseg.replay import replay
from rtseg.report import print_latency, watch
from rtseg.simulate.tasks import simulate_sequence

BUNDLE = Path("engines/mice-sim")
OUT = Path("demo-output")
SECONDS, FPS, SEED = 40, 30, 2026


def main() -> int:
    OUT.mkdir(exist_ok=True)
    print("starting the daemon: rtseg serve", BUNDLE, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        addresses = ["--frames", f"ipc://{folder}/frames", "--predictions", f"ipc://{folder}/predictions"]
        daemon = subprocess.Popen(
            [sys.executable, "-m", "rtseg", "serve", str(BUNDLE), *addresses], stdout=subprocess.PIPE, text=True
        )
        try:
            print(f"simulating {SECONDS} s of two mice", flush=True)
            recording, labels = simulate_sequence(SEED, SECONDS * FPS, name="simulated mice", aggressive=True)
            assert daemon.stdout is not None
            line = daemon.stdout.readline()
            if not line.startswith("ready "):
                print("the daemon did not start", file=sys.stderr)
                return 1
            ready = json.loads(line.removeprefix("ready "))
            print(f"replaying {SECONDS} s live at {FPS} frames per second to {ready['frames']}", flush=True)
            with watch(quiet=False) as show:
                done = replay(recording, ready["frames"], speed=1.0, on_prediction=show)
        finally:
            daemon.send_signal(signal.SIGTERM)
            code = daemon.wait(timeout=30)
    if code != 0:
        print(f"the daemon ended with {code}", file=sys.stderr)
        return 1
    write_predictions(done.predictions, OUT / "predictions.csv")
    title = "Simulated mice, shipped bundle mice-sim, answered live"
    truth = labels.frames
    draw_ethogram(done.predictions, "task1", OUT / "ethogram.png", fps=FPS, truth=truth, title=title)
    guess = done.predictions.of("task1").argmax(axis=1)
    print(f"{np.mean(guess == truth):.0%} of {len(truth)} frames as labelled (simulated mice, simulated annotator)")
    print_latency(done)
    torch = importlib.util.find_spec("torch")
    print(f"torch in this environment: {'no' if torch is None else 'yes'}")
    print(f"see {OUT / 'ethogram.png'} and {OUT / 'predictions.csv'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
