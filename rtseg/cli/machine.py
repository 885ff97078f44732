"""The commands about a machine: what it has, and plans for its GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rtseg.cli.app import BundlePath, app

Flavour = Annotated[str, typer.Option("--engine", help="tensorrt_rtx (anywhere) or tensorrt (on the GPU that serves).")]
Target = Annotated[
    str, typer.Option("--for", help="GPUs, as sm_86,sm_89; default: the one that is here.", metavar="GPUS")
]
PlanFolder = Annotated[Path | None, typer.Option("--out", help="Folder of the plans, instead of where engines look.")]


@app.command()
def doctor(
    bundle: Annotated[Path | None, typer.Argument(help="Also try the engines on this bundle.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="All findings as JSON.")] = False,
) -> None:
    """What this machine has for serving, which engine `auto` takes here and why, and what would make it better."""
    from rtseg.terminal.doctor import examine_machine, print_findings

    report = examine_machine(bundle)
    if as_json:
        typer.echo(report.to_json())
    else:
        print_findings(report)


@app.command()
def build(
    bundle: BundlePath,
    engine: Flavour = "tensorrt_rtx",
    precision: Annotated[str, typer.Option("--precision", help="fp32, fp16, int8; several with commas.")] = "fp32",
    batch: Annotated[str, typer.Option("--batch", help="Streams stepped at once; several with commas.")] = "1,64,1024",
    target: Target = "",
    out: PlanFolder = None,
) -> None:
    """Build TensorRT plans of a bundle; for a GPU that is elsewhere, too."""
    from rtseg.bundle.bundle import load_bundle
    from rtseg.engine.tensorrt.build import build_plans, parse_build_options
    from rtseg.terminal.plan_table import print_plans
    from rtseg.terminal.progress import counting

    wanted = parse_build_options(engine, precision, batch, target)
    loaded = load_bundle(bundle)
    with counting("plans") as progress:
        report = build_plans(loaded, *wanted, out, on_progress=progress)
    print_plans(report)
    if report.failed:
        raise typer.Exit(1)
