"""What was found, as a table for people and as JSON for whoever compares with another day."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import json
import os
import platform
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import psycopg
from rich.console import Console
from rich.table import Table

from benchmarks.cpu import Cpu
from benchmarks.figures import FIGURES, Figure, Sample

Result = dict[str, Any]
_DIGITS = 4
_WIDTH = 150


def result(figure: Figure, samples: Sequence[Sample]) -> Result:
    """One figure over all its pairs: medians, and the spread of the pairwise ratios."""
    found: Result = {
        "name": figure.name,
        "unit": figure.unit,
        "daemon": _round(statistics.median(s.daemon for s in samples)),
    }
    baselines = [s.baseline for s in samples if s.baseline is not None]
    ratios = [s.daemon / s.baseline for s in samples if s.baseline]
    if baselines:
        found["baseline"] = _round(statistics.median(baselines))
    if ratios:
        middle = statistics.median(ratios)
        found["ratio"] = _round(middle)
        found["spread"] = _round((max(ratios) - min(ratios)) / middle)
    if used := _medians([s.cpu for s in samples if s.cpu is not None]):
        found["cpu_s_per_million"] = used
    return found


def circumstances(server_version: str, command: str) -> Result:
    """When, with what, where (never a host's name) and how."""
    return {
        "when": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "versions": {
            "python": platform.python_version(),
            "psycopg": psycopg.__version__,
            "PostgreSQL": server_version,
            "mysql-replication": importlib.metadata.version("mysql-replication"),
            "cdc_daemon": _own_version(),
        },
        "machine": {
            "cpu": _first_value("/proc/cpuinfo", "model name") or platform.machine(),
            "cores": os.cpu_count(),
            "memory_gb": _round(_memory_bytes() / 1e9),
        },
        "command": command,
    }


def write(path: Path, results: Iterable[Result]) -> None:
    """Put results into the file; figures that were not taken now keep their older ones."""
    known: dict[str, Result] = {}
    if path.exists() and (earlier := path.read_text(encoding="utf-8").strip()):
        known = {r["name"]: r for r in json.loads(earlier)}
    known |= {r["name"]: r for r in results}
    ordered = [known[figure.name] for figure in FIGURES if figure.name in known]
    text = json.dumps(ordered, indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def line(figure: Figure, sample: Sample) -> str:
    """One sample, to be shown while the rest is still being taken."""
    beside = f", baseline {_number(sample.baseline)}" if sample.baseline is not None else ""
    return f"{figure.name} {_number(sample.daemon)}{beside} {figure.unit}"


def show(samples: dict[str, list[Sample]]) -> None:
    """The table: ratio first, then what it is made of, however narrow the terminal."""
    table = Table(title="cdc-daemon and what it is measured beside")
    table.add_column("figure", no_wrap=True)
    for heading in ("ratio", "spread", "daemon", "baseline"):
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("unit", "floor", "CPU s per million rows", "of the baseline"):
        table.add_column(heading, no_wrap=True)
    for figure in FIGURES:
        if samples.get(figure.name):
            table.add_row(*_cells(figure, samples[figure.name]))
    console = Console()
    console = Console(width=max(console.width, _WIDTH))
    console.print(table)
    console.print("CPU: walsender + worker + target's backends")


def _cells(figure: Figure, samples: Sequence[Sample]) -> list[str]:
    found = result(figure, samples)
    mine = found.get("cpu_s_per_million")
    other = _medians([s.baseline_cpu for s in samples if s.baseline_cpu is not None])
    return [
        figure.name,
        f"{found['ratio']:.2f}" if "ratio" in found else "",
        f"{found['spread']:.0%}" if len(samples) > 1 and "spread" in found else "",
        _number(found["daemon"]),
        _number(found["baseline"]) if "baseline" in found else "",
        figure.unit,
        _floor(figure, found),
        _sum(mine),
        _sum(other),
    ]


def _floor(figure: Figure, found: Result) -> str:
    if figure.at_least is not None:
        kept = found.get("ratio", 0) >= figure.at_least
        return f"≥ {figure.at_least:g} {'ok' if kept else 'MISSED'}"
    if figure.at_most is not None:
        return f"≤ {figure.at_most:g} {'ok' if found['daemon'] <= figure.at_most else 'MISSED'}"
    return ""


def _medians(used: Sequence[Cpu]) -> dict[str, float]:
    def middle(part: Callable[[Cpu], float]) -> float:
        return round(statistics.median(map(part, used)), 2)

    if not used:
        return {}
    return {
        "walsender": middle(lambda cpu: cpu.walsender),
        "worker": middle(lambda cpu: cpu.worker),
        "backend": middle(lambda cpu: cpu.backend),
    }


def _sum(used: dict[str, float] | None) -> str:
    if not used:
        return ""
    return "+".join(f"{value:.1f}" for value in used.values()) + f" = {sum(used.values()):.1f}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _round(value: float) -> float:
    """To four significant digits: more would be noise."""
    return float(f"{value:.{_DIGITS}g}")


def _own_version() -> str:
    try:
        return importlib.metadata.version("cdc-daemon")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _first_value(path: str, name: str) -> str | None:
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return None
