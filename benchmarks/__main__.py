"""Command line: `python -m benchmarks [NAME...] [--quick] [--pairs N] [--rows N] [--json PATH]`."""

from __future__ import annotations

import shlex
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import click

from benchmarks import report
from benchmarks.course import SERVER_SETTINGS, Servers
from benchmarks.figures import FIGURES, Figure, Sample, Size, chosen, course_of, take
from benchmarks.probe import BenchmarkError
from cdc_daemon.demo.server import PrivatePostgres

RESULTS = Path(__file__).with_name("results.json")
_NAMES = click.Choice([figure.name for figure in FIGURES])
_TENTH = Size(
    rows=100_000, huge_rows=500_000, latency_seconds=2.0, idle_seconds=6.0, start_tables=500
)


@click.command()
@click.argument("names", nargs=-1, type=_NAMES)
@click.option("--only", multiple=True, type=_NAMES, help="The same as NAMES.")
@click.option("--quick", is_flag=True, help="A tenth, one pair; writes nothing.")
@click.option("--pairs", type=click.IntRange(1), help="Alternating pairs (5; quick: 1).")
@click.option("--rows", type=click.IntRange(10_000), help="Rows of a rate (1,000,000).")
@click.option(
    "--json", "path", type=click.Path(dir_okay=False, path_type=Path), help="Results go here."
)
def main(
    names: tuple[str, ...],
    only: tuple[str, ...],
    quick: bool,
    pairs: int | None,
    rows: int | None,
    path: Path | None,
) -> None:
    """Measure the daemon beside native logical replication, all figures or those named."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    size = _size(quick, rows)
    figures = chosen(frozenset(names + only))
    try:
        samples, version = _measure(figures, size, pairs or (1 if quick else 5))
    except BenchmarkError as exc:
        raise click.ClickException(str(exc)) from exc
    report.show(samples)
    target = path or (None if quick else RESULTS)
    if target is not None:
        about = report.circumstances(version, _command(names + only, quick, pairs, rows))
        found = [report.result(f, samples[f.name]) | about for f in figures]
        report.write(target, found)
        click.echo(f"wrote {target}", err=True)


def _command(names: tuple[str, ...], quick: bool, pairs: int | None, rows: int | None) -> str:
    """How to take the same figures again; paths of this machine stay out of it."""
    words = ["python", "-m", "benchmarks", *names]
    words += ["--quick"] * quick
    words += ["--pairs", str(pairs)] if pairs else []
    words += ["--rows", str(rows)] if rows else []
    return shlex.join(words)


def _size(quick: bool, rows: int | None) -> Size:
    size = _TENTH if quick else Size()
    return size if rows is None else replace(size, rows=rows)


def _measure(figures: list[Figure], size: Size, pairs: int) -> tuple[dict[str, list[Sample]], str]:
    samples: dict[str, list[Sample]] = {figure.name: [] for figure in figures}
    started = time.monotonic()
    with (
        PrivatePostgres(18, settings=SERVER_SETTINGS) as source,
        PrivatePostgres(18, settings=SERVER_SETTINGS) as target,
    ):
        ((version,),) = source.execute("SHOW server_version")
        for pair in range(1, pairs + 1):
            with course_of(Servers(source, target)) as course:
                for figure, sample in take(course, figures, size, last=pair == pairs):
                    samples[figure.name].append(sample)
                    passed = time.monotonic() - started
                    click.echo(
                        f"{passed:4.0f} s, pair {pair}: {report.line(figure, sample)}", err=True
                    )
    return samples, version


if __name__ == "__main__":
    main()
