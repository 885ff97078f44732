"""What a recording says that more than one model has answered: compared as far as the recorded one did."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rtseg.client import Publisher, ask_arm, ask_load
from rtseg.frames.skeleton import MICE7, Skeleton
from rtseg.playback.verify import verify_recording
from tests.bundles import changed_bundle
from tests.live import Child, daemon, random_walk

TRIGGERS = """
[triggers.laser]
conditions = [{ head = "task1", behaviours = ["other"] }]
on = 0.0
off = 0.0
pulse_s = 0.0
max_on_s = 1000.0
grace_s = 60.0
never_on = ["reset"]
"""


def send_ten(child: Child, stream: str, skeleton: Skeleton = MICE7) -> None:
    """A stream of its own, opened and closed."""
    walk = random_walk(10, 55)
    with Publisher(child.frames, stream, skeleton, 30.0) as publisher:
        for t in range(10):
            publisher.send(walk.keypoints[t], walk.confidence[t])
        assert publisher.flush()


def test_streams_that_were_opened_after_a_swap_are_no_differences(tiny_bundle: Path, tmp_path: Path) -> None:
    """Their hello says nothing of the model, and decisions and states are recorded before the first answer."""
    other = changed_bundle(tiny_bundle, tmp_path / "other")
    names = {name: "snout" if name == "nose" else name for name in MICE7.keypoints}
    edges = tuple((names[a], names[b]) for a, b in MICE7.edges)
    snouts = replace(MICE7, keypoints=tuple(names.values()), edges=edges)
    renamed = changed_bundle(tiny_bundle, tmp_path / "renamed", skeleton=snouts)
    triggers = tmp_path / "triggers.toml"
    triggers.write_text(TRIGGERS, encoding="utf-8")
    record = {"record": str(tmp_path / "r"), "record_snapshot_s": 0.001}
    with daemon(tiny_bundle, triggers=str(triggers), **record) as child:
        ask_arm(child.frames)
        send_ten(child, "before")
        ask_load(child.frames, other)
        send_ten(child, "meanwhile")
        ask_load(child.frames, renamed)
        send_ten(child, "of another skeleton", snouts)
        ask_load(child.frames, tiny_bundle)
        send_ten(child, "afterwards")
    (path,) = (tmp_path / "r").glob("*.mcap")
    found = verify_recording(path, tiny_bundle)
    assert (found.differences, found.first, found.damaged, found.damage) == (0, "", 0, "")
    assert (found.predictions, found.uncompared, found.decisions) == (20, 20, 2)
