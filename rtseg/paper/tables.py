"""The report on the screen and as Markdown. Only words and layout: everything was computed before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from rtseg.paper.plan import LEFT_OUT, QUOTED
from rtseg.paper.report import SCORES
from rtseg.paper.runs import TO_COME
from rtseg.paper.systems import NOTES, TABLES

PaperReport = Mapping[str, Any]
HEADINGS = (
    *("system", "form", "sees ahead", "paper F1", "paper mAP", "F1", "F1 95 %", "mAP", "mAP 95 %", "batches"),
    *("CPU s", "memory MiB", "parameters", "µs/frame", "step µs"),
)
SEARCHED = (
    "Chosen per system by the held-out recordings, before its rows were trained: the same grid, seed and number of "
    "batches for all networks (trees: learning rate and the least weight of a leaf). Its causal form and other tables "
    "take the same."
)
LEFT = 3
"""Columns of words; the others hold figures."""
NARROW = {"paper F1": "paper F1,\nmAP", "F1": "F1 ± spread,\n95 %", "mAP": "mAP ± spread,\n95 %"}
"""On the screen these columns hold the next one as well, a line below."""
ABSENT = {QUOTED: "quoted", TO_COME: "to come"}
FORMS = {
    "paper": "as the paper",
    "causal": "causal",
    "extra": "one change",
    "ours": "rtseg's",
    "constant": "nothing learnt",
}


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
        for task in dict.fromkeys(line["task"] for line in lines):
            console.print(what_it_says(lines, task), markup=False, highlight=False)
    for sentence in (
        *claim_sentences(report),
        *search_sentences(report),
        *note_sentences(report),
        *origin_lines(report),
    ):
        console.print(sentence, markup=False, highlight=False)


def markdown(report: PaperReport) -> str:
    """The same as a page."""
    out = [f"# The paper's tables on {report['data']['name']}{_mark(report)}", ""]
    for title, lines in report_tables(report):
        out += [f"## {title}", "", "| " + " | ".join(HEADINGS) + " |"]
        out += ["|" + "|".join("---" if i < LEFT else "--:" for i in range(len(HEADINGS))) + "|"]
        out += ["| " + " | ".join(row_texts(line, report["data"]["fps"])) + " |" for line in lines]
        out += ["", *(f"- {reason}" for reason in absence_reasons(lines)), ""]
        for task in dict.fromkeys(line["task"] for line in lines):
            out += [text, ""] if (text := what_it_says(lines, task)) else []
    out += ["## What the paper says of them", "", *(f"- {sentence}" for sentence in claim_sentences(report)), ""]
    if search := search_sentences(report):
        out += ["## Learning rate and weight decay", "", SEARCHED, "", *(f"- {sentence}" for sentence in search), ""]
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
    figures = [_pair(paper[s], paper[f"{s}_spread"]) if paper else "" for s in SCORES]
    words = [line["label"], FORMS[line["form"]] if line["absent"] != QUOTED else ""]
    if "f1" not in line:
        return [
            *words,
            ABSENT.get(line["absent"], "absent"),
            *figures,
            *[""] * (len(HEADINGS) - LEFT - 2),
        ]
    scores = []
    for score in SCORES:
        scores += [_pair(line[score]["mean"], line[score]["spread"]), _range(line[score])]
    if line["form"] == "constant":
        return [*words, "no", *figures, *scores, *[""] * (len(HEADINGS) - LEFT - 2 - len(scores))]
    costs = [
        _batches(line),
        _figure(line.get("training_cpu_seconds"), 0),
        _figure(line.get("training_memory_mb"), 0),
        _count(line.get("parameters")),
        _figure(line.get("offline_us"), 1),
        _figure(line.get("step_us"), 1),
    ]
    return [*words, _sight(line["future_frames"], fps), *figures, *scores, *costs]


def what_it_says(lines: Sequence[Mapping[str, Any]], task: int) -> str:
    """A table's figures about one task in words: what leads, and what the future and single changes bring.

    Of the rows that are there alone; '' without any.
    """
    rows = {r["training"]: r for r in lines if r["task"] == task and r["training"] and "f1" in r}
    if not rows:
        return ""
    words = []
    for score, name in SCORES.items():
        known = [row for row in rows.values() if row[score]["mean"] is not None]
        if known:
            best = max(known, key=lambda row: row[score]["mean"])
            words.append(f"Highest {name}: {_named(best)}, {best[score]['mean']:.3f} ({_range(best[score])}).")
    changes = [row for row in rows.values() if row["beside"]]
    causal = [f"{row['label']} {_change(row)}" for row in changes if row["training"].endswith("-causal")]
    if causal:
        words.append(f"Without any future frame instead of with it: {'; '.join(causal)}.")
    for row in (row for row in changes if not row["training"].endswith("-causal")):
        words.append(f"{row['label']} instead of {row['beside']['label']}: {_change(row)}.")
    orders = [
        " > ".join(row["label"] for row in sorted(both, key=key, reverse=True))
        for key in (_paper_f1, _our_f1)
        if len(both := [row for row in rows.values() if row["paper"] and row["f1"]["mean"] is not None]) > 1
    ]
    if orders:
        words.append(f"By F1 the paper has {orders[0]}; here {orders[1]}.")
    missing = [_full_label(row) for row in lines if row["task"] == task and row["absent"] == TO_COME]
    if missing:
        words.append(f"Still to come, so that this may change: {'; '.join(dict.fromkeys(missing))}.")
    return " ".join(words)


def _paper_f1(row: Mapping[str, Any]) -> float:
    figure: float = row["paper"]["f1"]
    return figure


def _our_f1(row: Mapping[str, Any]) -> float:
    figure: float = row["f1"]["mean"]
    return figure


def _full_label(line: Mapping[str, Any]) -> str:
    """A row's label, apart from that of the same system in its other form."""
    return f"{line['label']} (causal)" if (line["training"] or "").endswith("-causal") else str(line["label"])


def _named(row: Mapping[str, Any]) -> str:
    return f"{row['label']} ({'causal' if row['future_frames'] == 0 else 'sees ahead'})"


def _change(row: Mapping[str, Any]) -> str:
    """F1 and mAP of a row less those of the one that it is a change of."""
    return " / ".join(_signed_range(row["beside"][score]) for score in SCORES)


def absence_reasons(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """Why rows of a table are absent, and which seeds failed: a sentence each."""
    reasons: dict[str, list[str]] = {}
    for line in lines:
        for why in [line["absent"]] if line["absent"] else line.get("problems", []):
            labels = reasons.setdefault(why, [])
            if _full_label(line) not in labels:
                labels.append(_full_label(line))
    return [f"{'; '.join(labels)}: {why}" for why, labels in reasons.items()]


def claim_sentences(report: PaperReport) -> list[str]:
    """The paper's claims beside what was measured."""
    if not report["claims"]:
        return ["nothing yet: the rows that its claims compare are not there"]
    sentences = []
    for claim in report["claims"]:
        signed = claim["unit"] == ""
        claimed = f"{claim['paper']:+.3f}" if signed else f"{claim['paper']:g}{claim['unit']}"
        if claim["measured"] is None:
            found = "not measured"
        elif signed:
            found = _signed_range(claim)
        else:
            found = f"{claim['measured']:.1f}{claim['unit']}"
        sentences.append(f"{claim['claim']}: paper {claimed}, here {found}")
    return sentences


def search_sentences(report: PaperReport) -> list[str]:
    """What the search tried of every system, with the held-out scores, and what it chose."""
    sentences = []
    for system, entry in report.get("search", {}).items():
        if not any(t["score"] is not None for t in entry["tried"]) and entry["chosen"] is None:
            sentences.append(f"{system}: still to come")
            continue
        tried = ", ".join(f"{_values(t)} {_score(t['score'])}" for t in entry["tried"])
        if entry["chosen"] is None:
            chosen = "still to come"
        elif not entry["chosen"]:
            chosen = "nothing; every training failed, the settings stay as they are"
        else:
            edge = " (an end of the grid's learning rates)" if entry["at_edge"] else ""
            chosen = f"{_values(entry['chosen'])}{edge}"
        sentences.append(f"{system}: chosen {chosen}; tried {tried}")
    return sentences


def state_sentences(report: PaperReport) -> list[str]:
    """What is still to come, what the tables took, and which rows learnt less than nothing."""
    sentences = []
    to_come, below = report.get("to_come", []), report.get("below_constant", [])
    if to_come:
        n = len(to_come)
        sentences.append(f"not finished: {n} training{'s are' if n > 1 else ' is'} still to come; the command goes on")
    hours = {name: value for name, value in report.get("hours", {}).items() if value}
    if hours:
        each = ", ".join(f"{'search' if n == 'search' else f'Table {n}'} {value:.2f}" for n, value in hours.items())
        sentences.append(
            f"hours (by the clock, other programs on the machine included): {each}; {sum(hours.values()):.2f} in all"
        )
    if len(cpus := report.get("cpus", [])) > 1:
        sentences.append(f"trained on several processors ({', '.join(cpus)}): times of rows compare within one only")
    if below:
        sentences.append(f"BELOW the best constant answer, so no result of its system: {'; '.join(below)}")
    elif any("f1" in line for line in report["rows"] if line["training"]):
        sentences.append("no row is below the best constant answer of its table")
    stride = report["settings"].get("frame_stride", 1)
    if stride > 1:
        seen = f"every network sees one frame in {stride}, in training and for its answers"
        sentences.append(f"{seen}; all frames are answered and scored")
    return sentences


def note_sentences(report: PaperReport) -> list[str]:
    """Notes for the reader, those about the data first."""
    own = [f"simulated: {report['data']['name']} says nothing about real animals"] if _mark(report) else []
    if report["settings"]["quick"]:
        own.append("--quick: networks and trainings were made small; the figures show that everything runs, no more")
    return [
        *state_sentences(report),
        *own,
        *report["data"]["notes"],
        *NOTES,
        *(f"{k}: {v}" for k, v in report["method"].items()),
    ]


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


def _batches(line: Mapping[str, Any]) -> str:
    best, trained = line.get("batches"), line.get("batches_trained")
    return "-" if best is None or trained is None else f"{best:,.0f} of {trained:,.0f}"


def _values(tried: Mapping[str, Any]) -> str:
    return " / ".join(f"{value:g}" for name, value in tried.items() if name not in ("score", "why"))


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _count(value: float | None) -> str:
    return "-" if value is None else f"{value / 1000:,.0f} k"


def _signed_range(difference: Mapping[str, float | None]) -> str:
    """A difference with its interval."""
    if difference["measured"] is None:
        return "-"
    low, high = difference["low"], difference["high"]
    interval = "" if low is None or high is None else f" [{_signed(low)}, {_signed(high)}]"
    return f"{_signed(difference['measured'])}{interval}"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.3f}"
