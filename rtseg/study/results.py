"""The files of a study: NAME.json (every number), NAME.md (the tables) and NAME.png (the plot).

Each carries the command, the commit, the machine and the versions that made it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtseg.evaluation.bootstrap import head_interval_notes, interval_notes
from rtseg.evaluation.evaluate import without_nan
from rtseg.recordings.heads import Head
from rtseg.system import machine
from rtseg.system.files import replace_atomically, write_atomically, write_json_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCHEMA = 1
PACKAGES = ("rtseg", "numpy", "numba", "scikit-learn", "torch", "xgboost-cpu")
READING = "Mean ± deviation over seeds; intervals: 95 %, bootstrap over videos."
SCORE_COLUMNS = ("system", "macro-F1", "interval", "mAP", "interval", "segmental F1@50")
SIMULATED = "These recordings or labels are simulated: the numbers say nothing about real animals."


def preamble(
    kind: str, command: str, dataset: str, simulated: bool, n_videos: int | Mapping[str, int]
) -> dict[str, Any]:
    """The first fields of a result: the command, its data, and the commit, machine and versions that made it.

    n_videos: those that the intervals are over, or head -> those of its own; where they are few, `notes` say so.
    """
    about = machine.describe_run(PACKAGES)
    notes = interval_notes(n_videos) if isinstance(n_videos, int) else head_interval_notes(n_videos)
    data = {"dataset": dataset, "simulated": simulated, "notes": notes}
    return {"schema": SCHEMA, "kind": kind, "command": command, **data, **about}


def count_videos(heads: Sequence[Head], videos: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """Head -> how many of the videos have scores of it. videos: those of `compare.score_system`."""
    return {head.name: sum(head.name in scores for scores in videos.values()) for head in heads}


def write_study(out: Path, name: str, result: dict[str, Any], parts: Sequence[str], figure: Figure) -> dict[str, Any]:
    """Write the three files into `out`, made if need be, each by a rename; the result as it stands in the JSON file.

    parts: paragraphs and tables of the Markdown page, below a heading that the result's own head gives.
    """
    result = without_nan(result)
    out.mkdir(parents=True, exist_ok=True)
    page = "\n\n".join([*_opening(result), *parts]) + "\n"
    write_json_atomically(out / f"{name}.json", result)
    write_atomically(out / f"{name}.md", page)
    with replace_atomically(out / f"{name}.png") as part:
        figure.savefig(part, dpi=120, format="png")
    return result


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table: the first column aligned left, the numbers after it right."""
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def number(value: float | None, digits: int = 3) -> str:
    """`0.776`; a dash for what does not exist."""
    # Only NaN differs from itself.
    return "-" if value is None or value != value else f"{value:.{digits}f}"


def spread(score: dict[str, float]) -> str:
    """The mean, and with several seeds the standard deviation."""
    deviation = score["sd"]
    return number(score["mean"]) + ("" if deviation is None or deviation != deviation else f" ± {deviation:.3f}")


def interval(score: dict[str, float], key: str = "value") -> str:
    """`0.776 [0.741, 0.809]`; a difference carries its sign."""
    if score[key] is None or score[key] != score[key]:
        return "-"
    sign = "+" if key == "difference" else ""
    return f"{score[key]:{sign}.3f} [{score['low']:{sign}.3f}, {score['high']:{sign}.3f}]"


def score_row(name: str, head: Mapping[str, Any]) -> list[str]:
    """A system's row of a head's table."""
    f1, precision = (interval(head["interval"][key]) for key in ("f1", "map"))
    return [
        name,
        spread(head["f1"]),
        f1,
        spread(head["map"]),
        precision,
        number(head["segmental_f1_50"]["mean"], 1),
    ]


def _opening(result: dict[str, Any]) -> list[str]:
    where, versions = result["machine"], result["versions"]
    used = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    lines = [f"# {result['kind']}: {result['dataset']}"]
    if result["simulated"]:
        lines.append(f"**{SIMULATED}**")
    if result["command"]:
        lines.append(f"```\n{result['command']}\n```")
    lines.append(
        f"{result['date']}, commit {result['commit'] or '-'}, {where['cpu']}, {where['cores_usable']} cores; {used}."
    )
    return [*lines, *result["notes"]]
