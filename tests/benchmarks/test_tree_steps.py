"""A step of trees beside a network's: every case is timed, and the page says what was compared."""

from __future__ import annotations

from pathlib import Path

from tree_steps import measure, page

from rtseg.bundle.bundle import load_bundle
from tests.trees import with_trees


def test_every_case_is_timed_and_on_the_page(tiny_bundle: Path) -> None:
    network = load_bundle(tiny_bundle)
    bundles = {"network": network, "trees": with_trees(network)}
    steps = measure(bundles, 0.05)
    assert len(steps) == 6
    assert all(row["count"] > 0 < row["p50_us"] <= row["max_us"] for row in steps.values())
    sizes = {kind: {"name": bundle.name, "size": bundle.architecture.size} for kind, bundle in bundles.items()}
    text = page(
        {"date": "today", "commit": "1", "machine": {"cpu": "x"}, "command": "c", "bundles": sizes, "steps": steps}
    )
    assert text.count("\n| ") == 8
    assert "rounds of boosting" in text
