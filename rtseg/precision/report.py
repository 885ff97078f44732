"""The report on a bundle's precisions, as `precision-NAME.json` and as a page. Only words and layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rtseg.system.files import write_atomically, write_json_atomically

COLUMNS = ("head", "macro-F1", "mAP", "argmax differs", "largest", "99.9 %", "mean", "same bouts")


def write_report(report: dict[str, Any], out: Path) -> Path:
    """Write both files into `out`, made if need be; the page's path."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"precision-{report['bundle']}.md"
    write_json_atomically(path.with_suffix(".json"), report)
    write_atomically(path, report_page(report))
    return path


def report_page(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    machine = report["machine"]
    lines = [
        f"# {report['bundle']} in {' and '.join(report['precisions'])}: {report['dataset']}, {report['split']}",
        *("", "```", report["command"], "```", ""),
        f"Model {report['model'][:12]}, {len(report['videos'])} videos"
        f"{'' if report.get('notes') else ' that training never saw'}, through Session; the "
        "step in ONNX Runtime exactly as it is written for TensorRT, float32 by the numba engine.",
        f"{machine['cpu']}; {', '.join(f'{name} {version}' for name, version in report['versions'].items())}.",
    ]
    lines += [line for note in report.get("notes", ()) for line in ("", note)]
    if report["simulated"]:
        lines += ["", "**Simulated animals: the scores say nothing about real ones.**"]
    for name, entry in report["precisions"].items():
        lines += ["", f"## {name}: {'accepted' if entry['accepted'] else 'not accepted'}", "", *_summary(entry), ""]
        lines += [f"| {' | '.join(COLUMNS)} |", "| --- |" + " ---: |" * (len(COLUMNS) - 1)]
        lines += [f"| {' | '.join(row)} |" for row in head_rows(entry)]
    lines += [
        "",
        "macro-F1 and mAP: float32, then the other. Argmax: share of frames. Largest, 99.9 % of the frames, mean: how "
        "far a probability is from float32's. Same bouts: decoded ones that begin, end and are called alike, of "
        "float32's.",
    ]
    return "\n".join(lines) + "\n"


def head_rows(entry: dict[str, Any]) -> list[list[str]]:
    """A row a head, as in COLUMNS, and one for their mean."""
    found = []
    for name, head in entry["heads"].items():
        apart, bouts = head["difference"], head["bouts"]
        row = [name, _pair(head["f1"]), _pair(head["map"]), f"{head['argmax_differs']:.3%}"]
        row += [f"{apart['largest']:.4f}", f"{apart['p99.9']:.4f}", f"{apart['mean']:.5f}"]
        found.append([*row, f"{bouts['the_same']} of {bouts['float32']}"])
    return [*found, ["mean over heads", _pair(entry["f1"]), _pair(entry["map"]), "", "", "", "", ""]]


def _summary(entry: dict[str, Any]) -> list[str]:
    bounds = entry["bounds"]
    lines = [
        f"Mean F1 falls by {entry['f1_drop']:+.4f} (less than {bounds['f1_drop']:g} is allowed); the largest "
        f"difference of a probability is {entry['difference']['largest']:.4f} (bound {bounds['largest']:g}), the mean "
        f"of a head's {entry['difference']['mean']:.5f} (bound {bounds['mean']:g})."
    ]
    if "ranges" in entry:
        ranges = entry["ranges"]
        lines.append(
            f"Ranges from {ranges['frames']:,} frames of {len(ranges['videos'])} recordings of split "
            f"`{ranges['split']}`."
        )
    return lines + [f"Against it: {reason}." for reason in entry["against"]]


def _pair(values: list[float | None]) -> str:
    return " ".join("-" if value is None else f"{value:.4f}" for value in values)
