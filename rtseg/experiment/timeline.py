"""Pulses over time as an SVG, a row for each stream and trigger: no library, so that a page needs no other file."""

from __future__ import annotations

from html import escape

from rtseg.experiment.summary import Pulse, Summary
from rtseg.triggers.arms import REACHING

WIDTH, ROW, LEFT, TOP, BOTTOM = 940, 26, 190, 8, 30
_STEPS_S = (0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400)
_TICKS = 10


def timeline_svg(summary: Summary) -> str:
    """All events: what was sent to sinks, or would have been (a dry run, a trigger without sinks), controls, and what
    was withheld.
    """
    rows = [
        (stream, trigger)
        for stream in summary.cameras
        for trigger in summary.triggers
        if any((p.event.stream, p.event.trigger) == (stream, trigger) for p in summary.pulses)
    ]
    # A row each, so that an empty session shows its axis.
    height = TOP + ROW * max(len(rows), 1) + BOTTOM
    length_s = max(summary.length_s, 1e-3)
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="pulses over time" class="timeline">',
        *_axis(length_s, height),
    ]
    for r, (stream, trigger) in enumerate(rows):
        y = TOP + ROW * r
        label = trigger if len(summary.cameras) == 1 else f"{stream}: {trigger}"
        parts.append(f'<text x="{LEFT - 8}" y="{y + 17}" text-anchor="end">{escape(_short(label))}</text>')
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - 10}" y1="{y + 22}" y2="{y + 22}" class="base"/>')
        parts += [
            _mark(pulse, y, length_s)
            for pulse in summary.pulses
            if (pulse.event.stream, pulse.event.trigger) == (stream, trigger)
        ]
    if not rows:
        parts.append(f'<text x="{LEFT - 8}" y="{TOP + 17}" text-anchor="end">no events</text>')
    return "\n".join([*parts, "</svg>"])


def _at(seconds: float, length_s: float) -> float:
    return LEFT + (WIDTH - 10 - LEFT) * min(max(seconds / length_s, 0.0), 1.0)


def _axis(length_s: float, height: int) -> list[str]:
    """A line of ticks at round times."""
    step = next((s for s in _STEPS_S if length_s / s <= _TICKS), _STEPS_S[-1] * 2)
    ticks, parts = 0, []
    while ticks * step <= length_s:
        x = _at(ticks * step, length_s)
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{height - BOTTOM + 4}" class="grid"/>')
        parts.append(f'<text x="{x:.1f}" y="{height - BOTTOM + 18}" text-anchor="middle">{_time(ticks * step)}</text>')
        ticks += 1
    return parts


def _mark(pulse: Pulse, y: int, length_s: float) -> str:
    event, x = pulse.event, _at(pulse.start_s, length_s)
    if pulse.stop_s is None:
        about = f"frame {event.seq}: withheld, {event.decision}"
        return f'<path d="M{x - 3:.1f} {y + 8}l6 6m0-6l-6 6" class="withheld"><title>{escape(about)}</title></path>'
    width = max(_at(pulse.stop_s, length_s) - x, 1.5)
    kind = "control" if event.arm not in REACHING else "real" if pulse.is_sent else "dry"
    about = f"frame {event.seq} to {event.last_seq}: {event.arm}, {pulse.stop_s - pulse.start_s:.2f} s, {event.ended}"
    box = f'x="{x:.1f}" y="{y + 4}" width="{width:.1f}" height="18" class="{kind}"'
    return f"<rect {box}><title>{escape(about)}</title></rect>"


def _short(text: str) -> str:
    return text if len(text) <= 28 else f"{text[:27]}…"


def _time(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
