"""The report on the screen and as Markdown. Only words and layout: everything was computed before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from rtseg.paper.plan import LEFT_OUT, QUOTED
from rtseg.paper.systems import NOTES, TABLES

PaperReport = Mapping[str, Any]
HEADINGS = (
    *("system", "form", "sees ahead", "paper F1", "paper mAP", "F1", "F1 95 %", "mAP", "mAP 95 %", "training s"),
    *("memory MiB", "parameters", "µs/frame", "step µs"),
)
LEFT = 3
"""Columns of words; the others hold figures."""
NARROW = {"paper F1": "paper F1,\nmAP", "F1": "F1 ± spread,\n95 %", "mAP": "mAP ± spread,\n95 %"}
"""On the screen these columns hold the next one as well, a line below."""
FORMS = {"paper": "as the paper", "causal": "causal", "ours": "rtseg's"}


def print_report(report: PaperReport, console: Console | None = None) -> None:
    """All tables, the claims, notes and the machine."""
    console = console or Console()
    # Fourteen columns fit no terminal: mean and interval share one, a line each.
    for title, lines in report_tables(report):
        table = Table(title=title, box=SIMPLE, title_justify="left", padding=(0, 1, 0, 0))
        shown = [i for i, heading in enumerate(HEADINGS) if not i or HEADINGS[i - 1] not in NARROW]
        for i in shown:
            heading = NARROW.get(HEADINGS[i], HEADINGS[i].replace(" ", "\n"))
            table.add_column(heading, justify="left" if i < LEFT else "right", no_wrap=i >= LEFT)
        for line in lines:
            style = "bold" if line["form"] == "ours" else "dim" if line["absent"] else ""
            texts = row_texts(line, report["data"]["fps"])
            both = [f"{texts[i]}\n{texts[i + 1]}" if HEADINGS[i] in NARROW else texts[i] for i in shown]
            table.add_row(*(text.strip() for text in both), style=style)
        console.print(table)
        for reason in absence_reasons(lines):
            console.print(f"  {reason}", markup=False, highlight=False)
    for sentence in (*claim_sentences(report), *note_sentences(report), *origin_lines(report)):
        console.print(sentence, markup=False, highlight=False)


def markdown(report: PaperReport) -> str:
    """The same as a page."""
    out = [f"# The paper's tables on {report['data']['name']}{_mark(report)}", ""]
    for title, lines in report_tables(report):
        out += [f"## {title}", "", "| " + " | ".join(HEADINGS) + " |"]
        out += ["|" + "|".join("---" if i < LEFT else "--:" for i in range(len(HEADINGS))) + "|"]
        out += ["| " + " | ".join(row_texts(line, report["data"]["fps"])) + " |" for line in lines]
        out += ["", *(f"- {reason}" for reason in absence_reasons(lines)), ""]
    out += ["## What the paper says of them", "", *(f"- {sentence}" for sentence in claim_sentences(report)), ""]
    out += ["## Notes", "", *(f"- {sentence}" for sentence in (*note_sentences(report), *origin_lines(report))), ""]
    return "\n".join(out)


def report_tables(report: PaperReport) -> list[tuple[str, list[Mapping[str, Any]]]]:
    """(heading, rows) of every table; rows that were left out on purpose are not shown, nor tables without any other.

    A heading says which head groups the tasks are, where they go by other names.
    """
    tasks = report["data"]["tasks"]
    shown = []
    for name, table in TABLES.items():
        lines = [line for line in report["rows"] if line["table"] == name and line["absent"] != LEFT_OUT]
        # A table whose only rows are quoted from the paper holds no result of these recordings.
        if not any(line["training"] or line["absent"] != QUOTED for line in lines):
            continue
        named = [(task, tasks[str(task)]) for task in table.scored if str(task) in tasks]
        others = [f"Task {task} = {group}" for task, group in named if group != f"task{task}"]
        shown.append((table.title + (f" ({', '.join(others)})" if others else "") + _mark(report), lines))
    return shown


def row_texts(line: Mapping[str, Any], fps: float) -> list[str]:
    """One row's texts, as many as HEADINGS."""
    paper = line["paper"]
    figures = [_pair(paper[s], paper[f"{s}_spread"]) if paper else "" for s in ("f1", "map")]
    words = [line["label"], FORMS[line["form"]] if line["absent"] != QUOTED else ""]
    if "f1" not in line:
        return [
            *words,
            "quoted" if line["absent"] == QUOTED else "absent",
            *figures,
            *[""] * (len(HEADINGS) - LEFT - 2),
        ]
    scores = []
    for score in ("f1", "map"):
        scores += [_pair(line[score]["mean"], line[score]["spread"]), _range(line[score])]
    costs = [
        _figure(line.get("training_seconds"), 0),
        _figure(line.get("training_memory_mb"), 0),
        _count(line.get("parameters")),
        _figure(line.get("offline_us"), 1),
        _figure(line.get("step_us"), 1),
    ]
    return [*words, _sight(line["future_frames"], fps), *figures, *scores, *costs]


def absence_reasons(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """Why rows of a table are absent, and which seeds failed: a sentence each."""
    reasons: dict[str, list[str]] = {}
    for line in lines:
        for why in [line["absent"]] if line["absent"] else line.get("problems", []):
            labels = reasons.setdefault(why, [])
            if line["label"] not in labels:
                labels.append(line["label"])
    return [f"{', '.join(labels)}: {why}" for why, labels in reasons.items()]


def claim_sentences(report: PaperReport) -> list[str]:
    """The paper's claims beside what was measured."""
    sentences = []
    for claim in report["claims"]:
        signed = claim["unit"] == ""
        claimed = f"{claim['paper']:+.3f}" if signed else f"{claim['paper']:g}{claim['unit']}"
        if claim["measured"] is None:
            found = "not measured"
        elif signed:
            found = f"{claim['measured']:+.3f} [{_signed(claim['low'])}, {_signed(claim['high'])}]"
        else:
            found = f"{claim['measured']:.1f}{claim['unit']}"
        sentences.append(f"{claim['claim']}: paper {claimed}, here {found}")
    return sentences


def note_sentences(report: PaperReport) -> list[str]:
    """Notes for the reader, those about the data first."""
    own = [f"simulated: {report['data']['name']} says nothing about real animals"] if _mark(report) else []
    if report["settings"]["quick"]:
        own.append("--quick: networks and trainings were made small; the figures show that everything runs, no more")
    return [*own, *report["data"]["notes"], *NOTES, *(f"{k}: {v}" for k, v in report["method"].items())]


def origin_lines(report: PaperReport) -> list[str]:
    """Machine, versions and commit."""
    machine, versions = report["machine"], report["versions"]
    used = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    busy = f"load average {machine['load_average_before']} before, {machine['load_average_after']} after"
    return [
        f"{machine['cpu']}, {machine['cores_usable']} cores, {machine['os']}, {busy}",
        f"{used}; commit {report['commit']}; {report['date']}",
        f"seeds {', '.join(map(str, report['settings']['seeds']))}; data {report['data']['kind']}, "
        f"fingerprint {report['data']['fingerprint'][:12]}",
    ]


def _mark(report: PaperReport) -> str:
    return " (simulated)" if report["data"]["simulated"] else ""


def _sight(frames: int | None, fps: float) -> str:
    if frames is None:
        return "whole recording"
    return "no" if frames == 0 else f"{frames} frames, {_seconds(frames / fps)} s"


def _seconds(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def _pair(mean: float | None, spread: float | None) -> str:
    if mean is None:
        return "-"
    return f"{mean:.3f}" if spread is None else f"{mean:.3f} ± {spread:.3f}"


def _range(score: Mapping[str, float | None]) -> str:
    low, high = score["low"], score["high"]
    return "-" if low is None or high is None else f"{low:.3f}-{high:.3f}"


def _figure(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _count(value: float | None) -> str:
    return "-" if value is None else f"{value / 1000:,.0f} k"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.3f}"
