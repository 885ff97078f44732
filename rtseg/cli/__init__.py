"""The commands (`rtseg ...`). They are registered in the order in which `rtseg --help` lists them."""

from rtseg.cli import science, serving
from rtseg.cli.app import app, main

__all__ = ["app", "main", "science", "serving"]
