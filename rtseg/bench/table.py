"""What a benchmark shows on the screen. Only layout: everything was computed before."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table


def print_result(result: dict[str, Any], console: Console | None = None) -> None:
    """One table a part, the aims below it, and the machine last."""
    console = console or Console()
    for part in result["parts"].values():
        table = Table(title=part["title"], title_justify="left")
        table.add_column("µs")
        for column in ("", "p50", "p99", "p99.9", "max", "count"):
            table.add_column(column, justify="left" if not column else "right")
        for row in part["rows"]:
            times = [_number(row[key]) for key in ("p50_us", "p99_us", "p999_us", "max_us")]
            style = "bold" if row["role"] == "measured" else ""
            table.add_row(row["name"], row["role"], *times, f"{row['count']:,}", style=style)
        console.print(table)
        for name, counts in part["counts"].items():
            console.print(f"  {name}: " + ", ".join(f"{count:,} {what}" for what, count in counts.items()))
        for ratio in part["ratios"]:
            verdict = "[green]met[/green]" if ratio["met"] else "[red]not met[/red]"
            value, aim = (_number(ratio[key], 3) for key in ("value", "at_most"))
            unit = f" {ratio['unit']}" if ratio["unit"] else ""
            console.print(f"  {ratio['name']}: {value}{unit}, aim at most {aim}{unit}: {verdict}")
        for note in part["notes"]:
            console.print(f"  {note}", markup=False)
    machine, versions, bundle = result["machine"], result["versions"], result["bundle"]
    used = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    busy = f"load average {machine['load_average_before']} before, {machine['load_average_after']} after"
    console.print(f"{machine['cpu']}, {machine['cores_usable']} cores, {machine['os']}, {busy}", markup=False)
    console.print(f"{used}; commit {result['commit']}", markup=False)
    console.print(f"bundle {bundle['name']} {bundle['hash'][:12]}, {result['date']}", markup=False)


def _number(value: float, digits: int = 1) -> str:
    return f"{value:,.{digits}f}" if value < 100 else f"{value:,.0f}"
