"""A check of sinks as one page to keep with the experiment: HTML without any other file, script or address."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape
from pathlib import Path

import numpy as np

from rtseg.bundle.bundle import Bundle
from rtseg.experiment.check import ALLOWED_MS, WAYS, Checked, SinkCheck
from rtseg.experiment.session_folder import versions
from rtseg.experiment.summary_page import document, table

BARS, WIDTH, HEIGHT = 40, 460, 110
_WAY_COLUMNS = ("sink", "lines", "way", "events", "median, ms", "99 %, ms", "longest, ms")
_OFF_COLUMNS = ("sink", "what was done", "line off after, ms", "lease, ms", f"within {ALLOWED_MS:g} ms of the lease")


def check_page_of(checked: Checked, about: Mapping[str, str], settings_text: str) -> str:
    """The page. about: what was checked and where, by name. settings_text: of the trigger file."""
    problems = checked.problems
    verdict = "".join(f"<li>{escape(problem)}</li>" for problem in problems)
    parts = [
        "<h1>Sinks, checked</h1>",
        f"<p class='mode'>{escape(about.get('when', ''))}</p>",
        f"<ul class='problems'>{verdict}</ul>" if problems else f"<p>{checked.verdict.capitalize()}.</p>",
        *(f"<p>{escape(note[0].upper() + note[1:])}.</p>" for note in checked.notes),
        "<h2>From a frame to a line</h2>",
        table(_WAY_COLUMNS, way_rows(checked), (3, 4, 5, 6)),
        *(_histogram(sink) for sink in checked.sinks),
        "<h2>Off by itself</h2>",
        "<p>From the last frame that renewed a line to its end. The lease is a frame's interval and the grace. Of a "
        "sink's lines, the one that was on for longest beyond its lease.</p>",
        table(_OFF_COLUMNS, off_rows(checked), (2, 3)),
        "<h2>Short events</h2>",
        table(("ended because", "events"), [[what, str(n)] for what, n in checked.outcomes.items()], (1,)),
        f"<p>{escape(lateness(checked))}</p>",
        "<h2>Machine</h2>",
        table(("", ""), [[name, value] for name, value in about.items()]),
        f"<h2>Trigger settings</h2><pre class='scroll'>{escape(settings_text)}</pre>",
    ]
    return document("Sinks, checked", parts)


def about_check(triggers: Path, bundle: Bundle) -> dict[str, str]:
    """What was checked, when and with what."""
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    model = {"model": bundle.name, "model's hash": bundle.hash}
    return {"when": now, "trigger file": str(triggers.resolve()), **model, **versions()}


def way_rows(checked: Checked) -> list[list[str]]:
    """Sink, lines, way, number of events, median, 99th percentile and longest in ms."""
    rows = []
    for sink in checked.sinks:
        for way in WAYS:
            values = sink.ways_ms[way]
            numbers = ["-"] * 3
            if values:
                numbers = [f"{value:.3f}" for value in (*np.percentile(values, (50, 99)), max(values))]
            first = way == WAYS[0]
            rows.append(
                [sink.name if first else "", ", ".join(sink.lines) if first else "", way, str(len(values)), *numbers]
            )
    return rows


def off_rows(checked: Checked) -> list[list[str]]:
    """Sink, what was done to it, after how many ms its line was off, its lease, and whether that is as it should be."""

    def lease_ms(sink: SinkCheck, what: str) -> float:
        return sink.leases_ms.get(what, checked.lease_ms)

    return [
        [
            sink.name,
            what,
            "not known" if np.isnan(ms) else f"{ms:.1f}",
            f"{lease_ms(sink, what):.1f}",
            "yes" if ms <= lease_ms(sink, what) + ALLOWED_MS else "NO",
        ]
        for sink in checked.sinks
        for what, ms in sink.off_after_ms.items()
    ]


def lateness(checked: Checked) -> str:
    """How regularly frames were answered on this machine, beside the grace, in words."""
    if not len(checked.late_ms):
        return "No frame was answered."
    worst, late = float(np.max(checked.late_ms)), float(np.percentile(checked.late_ms, 99))
    grace_ms = checked.lease_ms - 1000 / checked.fps
    words = (
        f"Answers came up to {worst:.1f} ms later than a frame's interval (99 %: {late:.1f} ms); "
        f"grace_s is {grace_ms:.0f} ms at least."
    )
    if worst > grace_ms:
        words += " Where that is more than the grace, an event ends as stale: quieten the machine, or give more grace."
    return words


def _histogram(sink: SinkCheck) -> str:
    """Times from a frame to the line, as bars."""
    values: Sequence[float] = sink.ways_ms[WAYS[0]]
    if not values:
        return ""
    top = max(float(np.percentile(values, 99)) * 1.3, 0.1)
    counts, edges = np.histogram(np.minimum(values, top), BARS, (0.0, top))
    most = int(counts.max())
    bars = "".join(
        f'<rect x="{10 + i * (WIDTH - 20) / BARS:.1f}" y="{HEIGHT - 24 - 70 * n / most:.1f}" '
        f'width="{(WIDTH - 20) / BARS - 1:.1f}" height="{70 * n / most:.1f}" class="real">'
        f"<title>{edges[i]:.2f} to {edges[i + 1]:.2f} ms: {n}</title></rect>"
        for i, n in enumerate(counts.tolist())
        if n
    )
    ticks = "".join(
        f'<text x="{10 + (WIDTH - 20) * share:.0f}" y="{HEIGHT - 8}" text-anchor="{anchor}">{top * share:.2f}</text>'
        for share, anchor in ((0.0, "start"), (0.25, "middle"), (0.5, "middle"), (0.75, "middle"), (1.0, "end"))
    )
    title = f"{escape(sink.name)} ({escape(sink.kind)}): {WAYS[0]}, ms; longer ones in the last bar"
    svg = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" style="width:{WIDTH}px;font-size:11px" role="img">{bars}{ticks}</svg>'
    return f"<p class='dim'>{title}</p>{svg}"
