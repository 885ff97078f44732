"""Counts of a recording: frames and bouts by class, and every masked frame with its reason."""

from __future__ import annotations

import numpy as np

from rtseg.checks.summary import HeadCounts, summarize_item
from rtseg.recordings.heads import MASKED_BECAUSE, Head, HeadRule
from tests.checks.scenes import N_FRAMES, item, summary, walk

TWO = HeadRule(Head("act", ("groom", "rear"), ("groom", "rear"), "act"), ignore=("sleep",))
FAR = HeadRule(Head("far", ("no", "yes"), ("yes",), "far"), missing_ok=True)
BOUTS = {"groom": [(0, 10), (20, 30)], "rear": [(25, 40)], "sleep": [(100, 110)]}


def test_frames_bouts_and_why_others_are_masked() -> None:
    counts = summarize_item(item("x", BOUTS, rules=(TWO, FAR))).heads
    act = counts["act"]
    assert act.frames == (15, 10)
    assert act.bouts == (2, 1)
    no_label, twice, ignored, no_track, _ = MASKED_BECAUSE
    assert act.masked == {no_label: N_FRAMES - 40, twice: 5, ignored: 10}
    assert sum(act.frames) + sum(act.masked.values()) == N_FRAMES
    assert (act.labelled, act.recordings) == (1, 1)
    assert counts["far"] == HeadCounts((0, 0), (0, 0), {no_track: N_FRAMES}, 0)


def test_frames_that_another_head_masks() -> None:
    inner = HeadRule(Head("in", ("no", "yes"), ("yes",), "in"), track="act", rename={"groom": "yes", "rear": "no"},
                     ignore=("sleep",), unlabelled="no", mask_where_ignored="act")  # fmt: skip
    counts = summarize_item(item("x", BOUTS, rules=(TWO, inner))).heads["in"]
    assert counts.frames == (10, 15)
    assert counts.masked == {MASKED_BECAUSE[1]: 5, MASKED_BECAUSE[2]: 10, MASKED_BECAUSE[4]: N_FRAMES - 40}


def test_seen_points_and_totals() -> None:
    points = walk(1)
    points[:100, 1] = np.nan
    points[:, 0, 1, 0] = np.nan
    one = summarize_item(item("x", {"groom": [(0, 10)]}, keypoints=points))
    assert one.seen.tolist() == [[N_FRAMES, 0], [20, 20]]
    both = summary([item("x", {"groom": [(0, 10)]}), item("y", {})], [])
    total = both.counts(both.rules[0], "train")
    assert (total.frames, total.bouts) == ((2 * N_FRAMES - 10, 10), (2, 1))
    assert (total.labelled, total.recordings) == (2, 2)
    assert both.counts(both.rules[0], "validation") == HeadCounts((0, 0), (0, 0), {}, 0, 0)
