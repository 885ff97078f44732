"""An experiment's files in a folder, for tests."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import REPO

TRIGGERS = """
[triggers.near]
conditions = [{ head = "task1", behaviours = ["attack"] }]
on = 0.5
off = 0.4
refractory_s = 0.1
pulse_s = 0.2
grace_s = 30.0
never_on = ["reset"]
arms = { shares = { real = 0.5, sham = 0.5 }, seed = 1 }
"""


def write_experiment(folder: Path, more: str = "", triggers: str = TRIGGERS) -> Path:
    """An experiment with simulated mice's model and one camera."""
    (folder / "t.toml").write_text(triggers, encoding="utf-8")
    path = folder / "experiment.toml"
    path.write_text(
        f'bundle = "{(REPO / "engines" / "mice-sim").as_posix()}"\ntriggers = "t.toml"\nrecord = "sessions"\n{more}\n'
        '[metadata]\nsubject = "m 12/3"\nsession = "day 3"\noperator = "<b>AB</b>"\ncage = "4"\n[cameras.arena]\n',
        encoding="utf-8",
    )
    return path
