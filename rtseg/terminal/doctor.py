"""What this machine has for serving, which engine `auto` takes here and why, and what would make it better.

Reads the system and the installed packages; changes nothing and times nothing. Without a bundle no model is loaded.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import rtseg
from rtseg.system import capabilities, machine, nvidia

if TYPE_CHECKING:
    from rtseg.bundle.bundle import Bundle

Verdict = Literal["good", "note", "bad"]

CPU_FLAGS = ("avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile")
PLAIN_FLAGS = ("avx2", "fma")
"""Without these a step takes several times as long."""
SYSTEM = Path("/sys/devices/system")
STEADY_CLOCKS = ("tsc", "arch_sys_counter", "kvm-clock", "hyperv_clocksource_tsc_page")
"""Clock sources that are read without a system call."""
COARSE_NS = 1_000_000
COARSE_CLOCK = (
    "times, latencies and the flag `late` are no finer than that: on Windows use Python 3.13 or newer, which reads a "
    "finer clock; answers do not depend on it"
)
TENSORRT = ("tensorrt", "tensorrt-rtx", "tensorrt-lean", "tensorrt-dispatch")
PACKAGES = ("numpy", "numba", "pyzmq", "torch", "triton", "onnx", "onnxruntime")


@dataclass(frozen=True)
class Finding:
    """One row of the report. advice: what to do about it; empty where nothing is to be done."""

    part: str
    name: str
    value: str
    verdict: Verdict = "good"
    advice: str = ""


@dataclass(frozen=True)
class MachineReport:
    """All findings, the engine that `auto` takes here, and why the faster ones cannot run (name -> reason)."""

    findings: tuple[Finding, ...]
    engine: str
    reasons: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, with a schema number."""
        findings = [asdict(finding) for finding in self.findings]
        return {
            "schema": 1,
            "kind": "rtseg doctor",
            "engine": self.engine,
            "why": dict(self.reasons),
            "findings": findings,
        }

    def to_json(self) -> str:
        """The same as JSON text."""
        return json.dumps(self.to_dict(), indent=1)


def examine_machine(bundle: Path | str | None = None) -> MachineReport:
    """Examine this machine. bundle: also put it on the engine that `auto` takes, as serving would, plans included.

    Raises BundleError for a folder that is no bundle.
    """
    from rtseg.bundle.bundle import load_bundle

    # Without a bundle there is no plan and no parity to check: the report then says what the machine could do.
    loaded = None if bundle is None else load_bundle(bundle)
    engine, reasons = _choice() if loaded is None else _choice_for(loaded)
    machine_parts = _system(), _cpu(), _gpu(), _libraries()
    bundle_parts = _engines(loaded), _plans(loaded)
    start_parts = _numba_cache(), _real_time(), _clock()
    findings = [finding for part in (*machine_parts, *bundle_parts, *start_parts) for finding in part]
    findings.append(_chosen(engine, reasons))
    return MachineReport(tuple(findings), engine, reasons)


def print_findings(report: MachineReport) -> None:
    """The findings as a table, the advice below it."""
    from rich.table import Table
    from rich.text import Text

    from rtseg.terminal.layout import plain_console

    colours = {"good": "green", "note": "yellow", "bad": "red"}
    table = Table(box=None, pad_edge=False)
    for column in ("", "", "", ""):
        table.add_column(column)
    before = ""
    for finding in report.findings:
        mark = Text({"good": "ok", "note": "note", "bad": "mend"}[finding.verdict], style=colours[finding.verdict])
        part = "" if finding.part == before else finding.part
        table.add_row(Text(part, style="bold"), finding.name, Text(finding.value), mark)
        before = finding.part
    console = plain_console()
    console.print(table)
    for finding in report.findings:
        if finding.advice:
            console.print(f"{finding.name}: {finding.advice}", soft_wrap=True)


def _choice() -> tuple[str, dict[str, str]]:
    """The engine that `auto` would take if every plan existed and were right, and why not a faster one."""
    from rtseg.engine import select

    reasons: dict[str, str] = {}
    for name in select.ON_GPU:
        reason = select.why_unavailable(name)
        if reason is None:
            return name, reasons
        reasons[name] = reason
    return "numba", reasons


def _choice_for(bundle: Bundle) -> tuple[str, dict[str, str]]:
    """The engine that really serves this bundle, and why those tried before it do not."""
    from rtseg.engine.select import choose_engine

    engine, reasons = choose_engine(bundle)
    return engine.name, reasons


def _chosen(engine: str, reasons: Mapping[str, str]) -> Finding:
    from rtseg.engine.select import format_reasons

    value = engine + (f" ({format_reasons(reasons)})" if reasons else "")
    if engine == "tensorrt" or isinstance(nvidia.gpus(), str):
        return Finding("choice", "engine auto", value)
    better = "rtseg[cuda]" if engine == "numba" else "rtseg[tensorrt] or rtseg[tensorrt-rtx]"
    advice = f"this machine has a GPU: pip install '{better}'" + (", then rtseg build" if engine == "cuda" else "")
    return Finding("choice", "engine auto", value, "note", advice)


def _system() -> Iterator[Finding]:
    """What of serving the operating system allows; docs/systems.md has the table."""
    yield Finding("system", "name", f"{platform.system()} {platform.release()}, Python {platform.python_version()}")
    for name, reason in (
        ("recording (--record)", capabilities.why_no_recording()),
        ("ipc addresses", capabilities.why_no_ipc()),
        ("workers (--workers)", capabilities.why_no_workers()),
    ):
        yield Finding("system", name, "not on this system" if reason else "here", "note" if reason else "good", reason)


def _cpu() -> Iterator[Finding]:
    here = machine.describe_run(())["machine"]
    yield Finding("CPU", "processor", str(here["cpu"]))
    usable, cores = here["cores_usable"], here["cores"]
    advice = "one core serves, a second one records and sends: give the daemon two" if usable < 2 else ""
    yield Finding("CPU", "cores", f"{usable} usable of {cores}", "note" if advice else "good", advice)
    flags = machine.cpu_flags()
    if flags:
        lacking = [flag for flag in PLAIN_FLAGS if flag not in flags]
        found = ", ".join(flag for flag in CPU_FLAGS if flag in flags) or "none of those that matter"
        advice = f"without {' and '.join(lacking)} a step takes several times as long" if lacking else ""
        yield Finding("CPU", "features", found, "bad" if lacking else "good", advice)
    caches = machine.caches_kb()
    if caches:
        yield Finding("CPU", "caches", ", ".join(f"{name} {size:,} kB" for name, size in caches.items()))
    governor = _text(SYSTEM / "cpu/cpu0/cpufreq/scaling_governor")
    if governor:
        advice = "" if governor == "performance" else "cpupower frequency-set -g performance lowers the slowest answers"
        yield Finding("CPU", "frequency governor", governor, "note" if advice else "good", advice)


def _gpu() -> Iterator[Finding]:
    found = nvidia.gpus()
    if isinstance(found, str):
        yield Finding("GPU", "NVIDIA GPU", found, "note")
        return
    for number, gpu in enumerate(found):
        major, minor = gpu.capability
        value = f"{gpu.name}, sm_{major}{minor}, {gpu.memory_bytes / 2**30:.0f} GiB, {gpu.multiprocessors} processors"
        yield Finding("GPU", f"GPU {number}", value)
    yield Finding("GPU", "driver", nvidia.driver_version() or "version not told by the system")
    yield Finding("GPU", "CUDA of the driver", ".".join(map(str, found[0].cuda)))


def _libraries() -> Iterator[Finding]:
    versions = [(name, _version(name)) for name in TENSORRT]
    flavours = ", ".join(f"{name} {version}" for name, version in versions if version)
    yield Finding("libraries", "TensorRT", flavours or "none", "good" if flavours else "note")
    found = ", ".join(f"{name} {_version(name)}" for name in PACKAGES if _version(name))
    yield Finding("libraries", "packages", found)
    if importlib.util.find_spec("onnxruntime") is not None:
        import onnxruntime

        providers = [name.removesuffix("ExecutionProvider") for name in onnxruntime.get_available_providers()]
        yield Finding("libraries", "ONNX Runtime's providers", ", ".join(providers))


def _engines(bundle: Bundle | None) -> Iterator[Finding]:
    """Which engines run here, and step this bundle."""
    from rtseg.engine import select

    extras = {"cuda": "cuda", "tensorrt": "tensorrt] or rtseg[tensorrt-rtx", "onnx": "onnx", "torch": "train"}
    has_gpu = not isinstance(nvidia.gpus(), str)
    for name in select.ENGINES:
        if bundle is not None and (unsuited := select.why_unsuited(name, bundle)) is not None:
            yield Finding("engines", name, unsuited)
            continue
        reason = select.why_unavailable(name)
        # No package helps a GPU's engine where there is no GPU.
        mendable = reason is not None and (has_gpu or name not in select.ON_GPU)
        advice = f"pip install 'rtseg[{extras[name]}]'" if mendable and "install" in str(reason) else ""
        yield Finding("engines", name, reason or "runs here", "good" if reason is None else "note", advice)


def _plans(bundle: Bundle | None) -> Iterator[Finding]:
    """The plans where engines look for them; for a bundle those of its name, and whether they still fit it."""
    from rtseg.engine.tensorrt import plans

    where = plans.default_folder()
    n_found = 0
    for plan in plans.read_plans(where):
        if isinstance(plan, str):
            yield Finding("plans", "damaged", plan, "note", "rtseg build makes plans anew")
        elif bundle is None or plan.wanted.bundle == bundle.name:
            n_found += 1
            reason = plans.why_outdated(plan, bundle)
            about = (
                f"{plan.wanted.target}, {plan.wanted.flavour} {plan.wanted.version}, {plan.size_bytes / 1024:,.0f} kB"
            )
            name = f"{plan.wanted.bundle} {plan.wanted.precision}, batch {plan.batch}"
            advice = f"delete {plan.file}, and rtseg build makes it anew" if reason else ""
            yield Finding(
                "plans", name, f"{about}: {reason}" if reason else about, "note" if reason else "good", advice
            )
    if not n_found:
        yield Finding("plans", "TensorRT plans", f"none in {where}")


def _numba_cache() -> Iterator[Finding]:
    """Whether compiled kernels can be stored: beside the code, or where NUMBA_CACHE_DIR says."""
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    folder = Path(chosen) if chosen else Path(rtseg.__file__).parent
    # Below either of them every folder of source files has one of its own.
    there = folder if folder.exists() else folder.parent
    if os.access(there, os.W_OK):
        n_files = len(list(folder.rglob("*.nbc")))
        kernels = "1 kernel" if n_files == 1 else f"{n_files} kernels"
        state = f"{kernels} compiled" if n_files else "nothing compiled yet: the first start takes longer"
        yield Finding("start", "compiled kernels", f"{folder}: writable, {state}")
    else:
        # Only a note: numba falls back to a folder in the user's home, if there is one.
        advice = "if every start is slow, set NUMBA_CACHE_DIR to a folder that the daemon may write to"
        yield Finding("start", "compiled kernels", f"{folder}: not writable", "note", advice)


def _real_time() -> Iterator[Finding]:
    resource = _resource()
    if resource is None:
        yield Finding("real time", "cores and priority", "not on this system: cpus and priority are left aside", "note")
        return
    # Limits do not bind root.
    free = os.geteuid() == 0
    priority = resource.getrlimit(resource.RLIMIT_RTPRIO)[0]
    allowed = free or priority != 0
    advice = (
        "" if allowed else "'@users - rtprio 50' in /etc/security/limits.conf (or LimitRTPRIO= in the systemd unit)"
    )
    value = "any (root)" if free else _limit(priority, "")
    yield Finding("real time", "priority (rtprio)", value, "good" if allowed else "note", advice)
    locked = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    enough = free or locked == resource.RLIM_INFINITY or locked >= 2**28
    advice = (
        "" if enough else "'@users - memlock unlimited' in /etc/security/limits.conf keeps pages from being swapped"
    )
    value = "any (root)" if free else _limit(locked, " bytes")
    yield Finding("real time", "locked memory (memlock)", value, "good" if enough else "note", advice)
    kernel = _text(Path("/sys/kernel/realtime"))
    yield Finding("real time", "kernel", "PREEMPT_RT" if kernel == "1" else "not a real-time kernel")


def _clock() -> Iterator[Finding]:
    source = _text(SYSTEM / "clocksource/clocksource0/current_clocksource")
    resolution_ns = time.get_clock_info("monotonic").resolution * 1e9
    if source is None:
        advice = COARSE_CLOCK if resolution_ns > COARSE_NS else ""
        yield Finding("clock", "resolution", f"{resolution_ns:g} ns", "note" if advice else "good", advice)
        return
    steady = source in STEADY_CLOCKS
    advice = "" if steady else "reading this clock is a system call of about a microsecond; see whether tsc is offered"
    value = f"{source}, resolution {resolution_ns:g} ns"
    yield Finding("clock", "source", value, "good" if steady else "note", advice)


def _resource() -> Any:
    """Python's module of limits; None where it, or the limits of real-time programs, are missing."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource if hasattr(resource, "RLIMIT_RTPRIO") else None  # macOS has the module without it


def _limit(value: int, unit: str) -> str:
    return "unlimited" if value < 0 else f"{value:,}{unit}"


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except OSError:
        return None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
