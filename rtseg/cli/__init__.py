"""The commands (`rtseg ...`). They are registered in the order in which `rtseg --help` lists them."""

from rtseg.cli import science, trust, studies, serving, recordings, operations, machine, paper  # isort: skip
from rtseg.cli.app import app, main

__all__ = ["app", "machine", "main", "operations", "paper", "recordings", "science", "serving", "studies", "trust"]
