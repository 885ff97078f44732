"""What `rtseg inspect` found in a file, on the screen. Only words and layout."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rich.console import Console

from rtseg.terminal.layout import plain_console, result_table

if TYPE_CHECKING:
    from rtseg.inspection.files import FileReport
    from rtseg.inspection.labels import TrackReport
    from rtseg.inspection.poses import PoseReport


def print_file_report(report: FileReport) -> None:
    """Format, what it holds, and what looks odd; on stderr why it can't be read. Fits 80 columns."""
    if report.problem:
        print(f"rtseg: {report.problem}", file=sys.stderr)
        return
    console = plain_console()
    console.print(f"{report.path}: {report.format}", soft_wrap=True)
    for poses in report.poses:
        _print_poses(console, poses)
    if report.tracks:
        over = f"over the {report.tracks[0].frames} frames of {report.video}" if report.video else "by themselves"
        console.print(f"labels {over}, at {report.fps:g} fps", soft_wrap=True)
        _print_tracks(console, report.tracks)
    odd = dict.fromkeys([o for one in report.poses for o in one.odd] + [o for one in report.tracks for o in one.odd])
    for text in odd:
        console.print(f"odd: {text}", soft_wrap=True)
    if not odd:
        console.print("nothing looks odd")


def _print_poses(console: Console, poses: PoseReport) -> None:
    seconds = poses.frames / poses.fps
    console.print(f"{poses.name}: {poses.frames} frames at {poses.fps:g} fps ({seconds:.1f} s)", soft_wrap=True)
    length = "one point each, so no length" if poses.body_length_px is None else f"{poses.body_length_px:.0f} px long"
    console.print(f"animals: {', '.join(poses.animals)}; {length}", soft_wrap=True)
    if poses.box is not None:
        console.print(
            "all points lie in x {:.0f} to {:.0f}, y {:.0f} to {:.0f} px".format(*poses.box[::2], *poses.box[1::2])
        )
    console.print(f"jumps of a point: {poses.jumps}; frames in which animals seem to trade names: {poses.swaps}")
    table = result_table(("animal", "keypoint", "missing", "median\nlikelihood", "below\n0.3"), n_names=2)
    for point in poses.points:
        likelihood = "-" if point.likelihood is None else f"{point.likelihood:.2f}"
        table.add_row(point.animal, point.keypoint, f"{point.missing:.1%}", likelihood, f"{point.low:.1%}")
    console.print(table)


def _print_tracks(console: Console, tracks: tuple[TrackReport, ...]) -> None:
    table = result_table(("track, behaviour", "bouts", "frames", "share", "median\nbout, s"))
    for track in tracks:
        whole = max(track.frames, 1)
        table.add_row(track.track, "", str(track.frames), "", "", style="bold")
        for one in track.behaviours:
            median = "-" if one.median_s is None else f"{one.median_s:.2f}"
            table.add_row(f"  {one.name}", str(one.bouts), str(one.frames), f"{one.frames / whole:.1%}", median)
        table.add_row("  (without a label)", "", str(track.unlabelled), f"{track.unlabelled / whole:.1%}", "")
        if track.masked:
            table.add_row("  (two at once)", "", str(track.masked), f"{track.masked / whole:.1%}", "")
    console.print(table)
