"""``doctor``: every check on every server, with what was found, why it matters, and the cure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import click

from cdc_daemon.cli.given import Given, known_name, output_option, pass_given, shared_options
from cdc_daemon.cli.output import print_aligned, print_json, words
from cdc_daemon.model.errors import EXIT_CONFIGURATION, EXIT_OK, EXIT_UNREACHABLE
from cdc_daemon.model.findings import Finding, Verdict
from cdc_daemon.telemetry import redact_text

if TYPE_CHECKING:
    from cdc_daemon.cli.examining import Examination

SAMPLE_SECONDS: Final = 1.0
"""How long the growth of a source's log is watched, where a bound makes it matter."""

_COUNTED: Final = (
    (Verdict.PROBLEM, "problem", "problems"),
    (Verdict.UNREACHABLE, "server does not answer", "servers do not answer"),
    (Verdict.UNKNOWN, "check could not look", "checks could not look"),
    (Verdict.WARNING, "warning", "warnings"),
    (Verdict.OK, "check passed", "checks passed"),
)


@click.command()
@shared_options
@output_option
@click.option("--source", metavar="NAME", help="Only this source, and the target.")
@click.option("--amiss", is_flag=True, help="Leave out what is well.")
@pass_given
def doctor(given: Given, source: str | None, amiss: bool) -> int:
    """Examine sources and target: what is wrong, why it matters, and the cure.

    Connects as the daemon does and changes nothing. Exits 0 (also with warnings), 78 if there is a
    problem, or 69 if the only one is a server that does not answer.
    """
    from cdc_daemon.cli.examining import examine

    configuration = given.load_with_warnings()
    known_name("source", source, configuration.sources)
    found = examine(configuration, only=source, sample_seconds=SAMPLE_SECONDS)
    findings = [finding for one in found for finding in one.findings]
    code = exit_code(findings)
    if given.output == "json":
        print_json(as_json(found, ok=code == EXIT_OK, amiss=amiss))
    else:
        for one in found:
            print_aligned(_lines(one, amiss=amiss))
        words(summary(findings))
    return code


def exit_code(findings: Sequence[Finding]) -> int:
    """78 before 69; what no check could see counts where nothing else explains it."""
    found = {finding.verdict for finding in findings}
    if Verdict.PROBLEM in found:
        return EXIT_CONFIGURATION
    if Verdict.UNREACHABLE in found:
        return EXIT_UNREACHABLE
    unseen = any(each.verdict is Verdict.UNKNOWN and each.check.refuses for each in findings)
    return EXIT_CONFIGURATION if unseen else EXIT_OK


def as_json(found: Sequence[Examination], *, ok: bool, amiss: bool) -> dict[str, object]:
    """JSON-ready; the form is kept."""
    findings = [finding for one in found for finding in one.findings]
    counts = Counter(finding.verdict for finding in findings)
    return {
        "ok": ok,
        "counts": {verdict.value: counts[verdict] for verdict in Verdict},
        "findings": [
            {"server": one.server} | {key: redact_text(text) for key, text in fields.items()}
            for one in found
            for finding in one.findings
            if not amiss or finding.verdict is not Verdict.OK
            for fields in [finding.to_dict()]
        ],
    }


def summary(findings: Sequence[Finding]) -> str:
    """How many of each, the worst first."""
    counts = Counter(finding.verdict for finding in findings)
    return ", ".join(
        f"{counts[verdict]} {one if counts[verdict] == 1 else many}"
        for verdict, one, many in _COUNTED
        if counts[verdict]
    )


def _lines(one: Examination, *, amiss: bool) -> Iterator[Sequence[str]]:
    server = _server(one)
    yield (redact_text(server),)
    for finding in one.findings:
        well = finding.verdict is Verdict.OK
        if well and amiss:
            continue
        place = finding.where.removeprefix(server if server in finding.where else one.server)
        place = place.lstrip(", ")
        what = f"{place}: {finding.what}" if place else finding.what
        yield (f"  {finding.verdict.value}", finding.check.name, redact_text(what))
        if not well:
            yield ("", "  why", finding.check.why)
        if finding.cure:
            yield ("", "  cure", redact_text(finding.cure))


def _server(one: Examination) -> str:
    """The server with its address, where a finding names it."""
    named = [f.where for f in one.findings if f.where.startswith(f"{one.server} (")]
    return min(named, key=len, default=one.server)
