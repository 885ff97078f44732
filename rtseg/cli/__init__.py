"""The commands (`rtseg ...`). They are registered in the order in which `rtseg --help` lists them.

app         The app, the options that several commands take, exit codes: `app`, `main`
machine     The commands about a machine: doctor, build
operations  The commands that keep a daemon running: keys, status, load
paper       The command that trains and compares every system of the paper
recordings  The commands about files: init, inspect, recover, export
science     The commands that make models and score them: simulate, check, train, evaluate
serving     The commands that use a model: annotate, serve, replay, listen, bench
sources     The commands that bring keypoints of other programs to a daemon: source osc, zmq, lsl, csv
studies     The commands that answer what one training does not: crossvalidate, study
triggers    The commands for behaviour triggers: trigger try
trust       The commands about how far a bundle can be trusted: calibrate, compare, step, card
"""

from rtseg.cli import science, trust, studies, serving, sources, triggers, recordings, operations, machine, paper  # isort: skip
from rtseg.cli.app import app, main

__all__ = [
    "app",
    "machine",
    "main",
    "operations",
    "paper",
    "recordings",
    "science",
    "serving",
    "sources",
    "studies",
    "triggers",
    "trust",
]
