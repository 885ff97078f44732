"""The commands (`rtseg ...`). They are registered in the order in which `rtseg --help` lists them.

app         What every command shares
machine     The commands about a machine
operations  The commands that keep a daemon running
paper       The command that trains and compares every system of the paper
recordings  The commands for what `rtseg serve --record` writes (docs/recording.md)
science     The commands that make models and say how good they are
serving     The commands that use a model
studies     The commands that answer what one training does not
trust       The commands about how far a bundle can be trusted
"""

from rtseg.cli import science, trust, studies, serving, recordings, operations, machine, paper  # isort: skip
from rtseg.cli.app import app, main

__all__ = ["app", "machine", "main", "operations", "paper", "recordings", "science", "serving", "studies", "trust"]
