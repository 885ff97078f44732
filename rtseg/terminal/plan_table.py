"""The plans that `rtseg build` made: size, seconds and caches in place of each, and the plans that fit no more."""

from __future__ import annotations

from rich.table import Table

from rtseg.engine.tensorrt.build import BuildReport, PlanOutcome
from rtseg.terminal.layout import plain_console


def print_plans(report: BuildReport) -> None:
    """A table of the plans, then a line for each that failed or is stale."""
    table = Table(box=None, pad_edge=False)
    table.add_column("plan")
    for column in ("kB", "s", "in place"):
        table.add_column(column, justify="right")
    table.add_column("")
    for outcome in report.outcomes:
        plan = outcome.plan
        name = f"{plan.wanted.precision}, batch {plan.batch}, {plan.wanted.target}"
        table.add_row(name, *_numbers(outcome), outcome.state)
    console = plain_console()
    console.print(table)
    lines = [f"{o.plan.file.name}: {o.problem}" for o in report.outcomes if o.problem]
    for line in (*lines, *report.stale):
        console.print(line, soft_wrap=True)
    done = len(report.outcomes) - report.failed
    folder = report.outcomes[0].plan.file.parent
    console.print(f"{done} of {len(report.outcomes)} plans in {folder}", soft_wrap=True)


def _numbers(outcome: PlanOutcome) -> tuple[str, str, str]:
    plan = outcome.plan
    if outcome.state == "failed":
        return "-", "-", "-"
    return f"{plan.size_bytes / 1024:,.0f}", f"{plan.seconds:.2f}", f"{plan.in_place} of {outcome.caches}"
