"""The commands (`rtseg ...`). They are registered in the order in which `rtseg --help` lists them."""

from rtseg.cli import science, trust, studies, serving, paper  # isort: skip
from rtseg.cli.app import app, main

__all__ = ["app", "main", "paper", "science", "serving", "studies", "trust"]
