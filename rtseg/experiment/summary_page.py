"""A session as one page to keep: HTML without any other file, script or address."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from rtseg.experiment.summary import WAYS, Pulse, Summary
from rtseg.experiment.timeline import timeline_svg
from rtseg.triggers.arms import REACHING

MOST_EVENTS = 500
"""Rows of the list of events; triggers.csv has all."""
STYLE = """
:root { color-scheme: light dark; --ink: #22262e; --paper: #fff; --faint: #d9dce2; --dim: #667; --real: #c8553d;
 --control: #9a9a9a; --withheld: #b98a1f; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8ec; --paper: #16181d; --faint: #383c45; --dim: #9aa; } }
body { font: 15px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 62rem;
 margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: .2rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
p.mode { margin: 0 0 1rem; }
.mode b { padding: .1rem .5rem; border-radius: .3rem; color: #fff; background: var(--dim); }
.mode b.armed { background: var(--real); }
table { border-collapse: collapse; } th, td { text-align: left; padding: .2rem .9rem .2rem 0; vertical-align: top;
 border-bottom: 1px solid var(--faint); } th { font-weight: 600; } td.n, th.n { text-align: right; font-variant-numeric:
 tabular-nums; } .scroll { overflow-x: auto; } .dim { color: var(--dim); } code { overflow-wrap: anywhere; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; }
svg.timeline { width: 100%; height: auto; font-size: 12px; } svg text { fill: var(--ink); }
svg .grid { stroke: var(--faint); } svg .base { stroke: var(--faint); } svg .real { fill: var(--real); }
svg .dry { fill: none; stroke: var(--real); stroke-width: 1.5; } svg .control { fill: var(--control); }
svg .withheld { stroke: var(--withheld); stroke-width: 1.6; fill: none; }
.key { display: inline-block; width: 1em; height: .7em; margin: 0 .3em 0 1em; } .key.real { background: var(--real); }
.key.dry { border: 1.5px solid var(--real); box-sizing: border-box; } .key.control { background: var(--control); }
ul.problems { color: var(--real); padding-left: 1.2rem; }
@media print { body { margin: 0; max-width: none; } }
"""


def page_of(about: Mapping[str, Any], summary: Summary, settings_text: str) -> str:
    """The page. about: the session's own words (`SessionFolder.about`). settings_text: its triggers, "" for none."""
    names = about["metadata"]
    title = f"{names.get('subject', '')}, {names.get('session', '')}"
    problems = [*about["problems"], *summary.damage]
    if not about.get("ended"):
        problems.append("The session was not ended in order; this page is made of what was recorded until then.")
    parts = [
        f"<h1>{escape(title)}</h1>",
        _mode(about),
        _problems(problems),
        "<h2>Pulses</h2>",
        timeline_svg(summary),
        _legend(summary, about["mode"]),
        _triggers(summary, about["mode"]),
        _latencies(summary, about.get("sinks", {})),
        "<h2>Cameras</h2>",
        _cameras(summary),
        "<h2>Session</h2>",
        _about(about),
        _events(summary),
    ]
    if settings_text:
        parts.append(f"<h2>Trigger settings</h2><pre class='scroll'>{escape(settings_text)}</pre>")
    return document(title, parts)


def document(title: str, parts: Iterable[str]) -> str:
    """A whole page of these parts; empty ones are left out."""
    head = f"<meta charset='utf-8'><meta name='viewport' content='width=device-width'><title>{escape(title)}</title>"
    head += f"<style>{STYLE}</style>"
    body = "\n".join(part for part in parts if part)
    return f"<!doctype html>\n<html lang='en'><head>{head}</head>\n<body>\n{body}\n</body></html>\n"


def _mode(about: Mapping[str, Any]) -> str:
    armed = about["mode"] == "armed"
    words = "events of the arms real and yoked were sent to the sinks" if armed else "nothing was sent to any device"
    times = f"{about['started']} to {about.get('ended') or 'an unknown end'}"
    mode = f"<b class='{'armed' if armed else 'dry'}'>{escape(about['mode'])}</b>"
    return f"<p class='mode'>{mode} {words}. {escape(times)}</p>"


def _problems(problems: Sequence[str]) -> str:
    if not problems:
        return "<p>No camera, sink or recording had a problem.</p>"
    counted = Counter(problems)
    items = "".join(f"<li>{escape(p)}{f' ({n} times)' if n > 1 else ''}</li>" for p, n in counted.items())
    return f"<h2>Problems</h2><ul class='problems'>{items}</ul>"


def _legend(summary: Summary, mode: str) -> str:
    lines = "<span class='key real'></span>line on" if mode == "armed" else ""
    if mode != "armed" or any(_is_unsent(pulse) for pulse in summary.pulses):
        why = " (no sink)" if mode == "armed" else ""
        lines += f"<span class='key dry'></span>line would have been on{why}"
    return (
        f"<p class='dim'>{lines}<span class='key control'></span>control, line off"
        "<span style='margin-left:1em;color:var(--withheld)'>✕</span> withheld. Point at a mark for its frames.</p>"
    )


def _is_unsent(pulse: Pulse) -> bool:
    """Whether an event is one that reaches the animal where there is a sink, and no sink was told."""
    return pulse.event.fired and pulse.event.arm in REACHING and not pulse.is_sent


def _triggers(summary: Summary, mode: str) -> str:
    """In an armed session only what was sent to sinks was on."""
    rows = []
    for stream in summary.cameras:
        for trigger in summary.triggers:
            here = [p for p in summary.pulses if (p.event.stream, p.event.trigger) == (stream, trigger)]
            arms = Counter(p.event.arm for p in here if p.event.fired)
            why = Counter(p.event.decision for p in here if not p.event.fired)
            on = [p for p in here if p.event.arm in REACHING and (mode != "armed" or p.is_sent)]
            on_s = sum(p.stop_s - p.start_s for p in on if p.stop_s is not None)
            unsent = sum(map(_is_unsent, here)) if mode == "armed" else 0
            fired = _counts(arms) + (f"; of these {unsent} sent to no sink" if unsent else "")
            share = f"{on_s / summary.length_s:.1%}" if summary.length_s else "-"
            rows.append([stream, trigger, fired or "none", f"{on_s:.1f}", share, _counts(why) or "none"])
    told = "line on, s" if mode == "armed" else "would be on, s"
    columns = ("camera", "trigger", "events by arm", told, "of the time", "withheld")
    return table(columns, rows, numbers=(3, 4)) if rows else "<p>This session had no triggers.</p>"


def _latencies(summary: Summary, sinks: Mapping[str, Mapping[str, Any]]) -> str:
    """sinks: as the daemon's status had them when the session was armed."""
    found = [(name, summary.latency(name)) for name, _, _ in WAYS]
    rows = [[name, str(t[0]), *(f"{value:.3f}" for value in t[1:])] for name, t in found if t is not None]
    if not rows:
        return ""
    columns = ("way of an event", "events", "median, ms", "99 %, ms", "longest, ms")
    silent = [name for name, sink in sinks.items() if not sink.get("acknowledges")]
    note = (
        f"<p>{escape(', '.join(silent))}: acknowledges nothing, so its times end where an event was handed over; "
        "whether it arrived is not known.</p>"
    )
    return "<h2>Times</h2>" + table(columns, rows, numbers=(1, 2, 3, 4)) + (note if silent else "")


def _cameras(summary: Summary) -> str:
    rows = []
    for camera in summary.cameras.values():
        counters = {name: n for name, n in camera.counters.items() if n and name != "frames"}
        seconds = camera.last_s - camera.first_s
        rate = f"{(camera.answers - 1) / seconds:.2f}" if seconds > 0 else "-"
        flags = _counts({flag.replace("_", " "): n for flag, n in camera.flags.items()})
        cells = [camera.name, f"{camera.fps:g}", rate, str(camera.frames), str(camera.answers)]
        rows.append([*cells, flags or "none", _counts(counters) or "none"])
    columns = ("camera", "declared fps", "answers/s", "frames", "answers", "answers with flags", "counted")
    return table(columns, rows, numbers=(1, 2, 3, 4)) if rows else "<p>No camera sent anything.</p>"


def _about(about: Mapping[str, Any]) -> str:
    bundle = about["bundle"]
    rows = [
        *([name, str(value)] for name, value in about["metadata"].items()),
        ["ended because", str(about.get("reason") or "unknown")],
        ["model", f"{bundle.get('name', '')} ({bundle.get('folder', '')})"],
        ["model's hash", bundle["hash"]],
        ["experiment file", str(about.get("experiment", ""))],
        *([name, version] for name, version in about["versions"].items()),
    ]
    return table(("", ""), rows)


def _events(summary: Summary) -> str:
    if not summary.pulses:
        return ""
    rows = []
    for pulse in summary.pulses[:MOST_EVENTS]:
        event, last = pulse.event, "" if pulse.event.last_seq is None else str(pulse.event.last_seq)
        length = "" if pulse.stop_s is None else f"{pulse.stop_s - pulse.start_s:.2f}"
        cells = [f"{pulse.start_s:.2f}", event.stream, event.trigger, str(event.seq), last, length]
        rows.append([*cells, event.decision, event.arm, event.ended])
    columns = ("time, s", "camera", "trigger", "first frame", "last", "s", "decision", "arm", "ended")
    more = len(summary.pulses) - MOST_EVENTS
    note = f"<p class='dim'>The first {MOST_EVENTS}; {more} more stand in triggers.csv.</p>" if more > 0 else ""
    return f"<h2>Events</h2>{table(columns, rows, numbers=(0, 3, 4, 5))}{note}"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n} {name}" for name, n in counts.items())


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """A table; numbers: columns that stand at the right."""

    def cells(kind: str, values: Sequence[str]) -> str:
        marks = (" class='n'" if i in numbers else "" for i in range(len(values)))
        return "".join(f"<{kind}{mark}>{escape(v)}</{kind}>" for mark, v in zip(marks, values, strict=True))

    head = f"<thead><tr>{cells('th', columns)}</tr></thead>" if any(columns) else ""
    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f"<div class='scroll'><table>{head}<tbody>{body}</tbody></table></div>"
