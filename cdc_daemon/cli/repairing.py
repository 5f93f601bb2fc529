"""``verify --repair``: what differs is put right by each pipeline, or shown (``--dry-run``).

Asked for by source rows; the pipeline reads them again and applies them like changes
(``engine.mending``). A row of the target whose source row is not known is nobody's to delete here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cdc_daemon.cli.commanding import command, followed
from cdc_daemon.cli.output import print_table, words
from cdc_daemon.model.errors import EXIT_DIFFERENCE, EXIT_OK, Retryable

if TYPE_CHECKING:
    from cdc_daemon.cli.given import Given
    from cdc_daemon.config.configuration import Configuration
    from cdc_daemon.verify import Example, Report

REPAIRABLE = ("missing", "different", "extra")
SETTLED = frozenset({"written", "deleted"})
_AT_ONCE = 500  # rows in one command
_HEAD = ("MAPPING", "KIND", "KEY", "SOURCE ROW", "WOULD")


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """How to repair. ``limit``: rows of a mapping; ``timeout``: seconds for each command."""

    dry_run: bool
    reason: str
    limit: int
    timeout: float
    yes: bool


@dataclass(slots=True)
class Repaired:
    """What it came to: numbers by outcome, rows that nobody may touch, and what was planned."""

    planned: list[tuple[str, Example]] = field(default_factory=list)
    outcomes: dict[str, int] = field(default_factory=dict)
    unowned: int = 0
    left_out: int = 0  # beyond the limit, or without an example

    @property
    def exit_code(self) -> int:
        """0 when everything that differed is right now."""
        open_ = self.unowned + self.left_out + self.unsettled
        return EXIT_DIFFERENCE if open_ else EXIT_OK

    @property
    def unsettled(self) -> int:
        """Rows that were meant and are not right."""
        done = sum(number for outcome, number in self.outcomes.items() if outcome in SETTLED)
        return max(0, len(self.planned) - done)

    def as_dict(self) -> dict[str, object]:
        """JSON-ready."""
        return {
            "rows": [
                {
                    "mapping": mapping,
                    "kind": one.kind,
                    "key": list(one.key),
                    "source_row": list(one.source_row),
                    "would": _would(one),
                }
                for mapping, one in self.planned
            ],
            "outcomes": dict(self.outcomes),
            "unowned": self.unowned,
            "left_out": self.left_out,
        }


@contextmanager
def following(
    configuration: Configuration, pipelines: Sequence[str], order: Order
) -> Iterator[None]:
    """See to it that the pipelines follow their logs, so that lag is not taken for a difference
    and a repair is carried out; a dry run leaves them as they are."""
    from cdc_daemon import build

    with ExitStack() as stack:
        control = stack.enter_context(closing(build.make_control(configuration)))
        for pipeline in () if order.dry_run else pipelines:
            stack.enter_context(followed(configuration, control, pipeline, order.timeout))
        yield


def repaired(given: Given, configuration: Configuration, report: Report, order: Order) -> Repaired:
    """Repair, or only say what would be done. Raises Retryable for a pipeline that is behind."""
    found = _planned(report, order.limit)
    if report.equal:
        words("nothing to repair")
        return found
    if report.behind:
        what = f"{', '.join(report.behind)} has not applied what its source has written"
        if not order.dry_run:
            raise Retryable(
                f"{what}: differences may be lag",
                hint="wait until it has caught up, or pass a longer --timeout",
            )
        words(f"warning: {what}: some of this may be lag")
    _show(given, found)
    if order.dry_run or not found.planned:
        return found
    if not given.confirm(f"Repair {len(found.planned)} rows?", yes=order.yes):
        words("nothing was changed")
        return found
    _carry_out(configuration, found, order)
    words(", ".join(f"{number} {outcome}" for outcome, number in found.outcomes.items()))
    if found.unsettled:
        words("see cdc.repair for the rows that are not right yet, then verify again")
    return found


def _planned(report: Report, limit: int) -> Repaired:
    """The rows that can be meant, and how many cannot."""
    found = Repaired()
    for mapping in report.mappings:
        examples = [one for one in mapping.examples if one.kind in REPAIRABLE]
        owned = list({one.source_row: one for one in examples if one.source_row}.values())
        found.planned += [(mapping.mapping, one) for one in owned[:limit]]
        found.unowned += sum(not one.source_row for one in examples)
        found.left_out += mapping.differences - len(examples) + max(0, len(owned) - limit)
    return found


def _show(given: Given, found: Repaired) -> None:
    if given.output == "table":
        rows = [
            (mapping, one.kind, ", ".join(one.key), ", ".join(one.source_row), _would(one))
            for mapping, one in found.planned
        ]
        print_table(_HEAD, rows)
    if found.unowned:
        words(
            f"{found.unowned} rows came from no source row that is known, and stay: delete them by"
            " hand, or take a new snapshot"
        )
    if found.left_out:
        words(f"{found.left_out} more rows differ than are repaired at once: run it again")


def _would(example: Example) -> str:
    return "delete" if example.kind == "extra" else "write"


def _carry_out(configuration: Configuration, found: Repaired, order: Order) -> None:
    """Send the commands, one after the other."""
    from cdc_daemon import build

    sources = {mapping.name: mapping.source for mapping in configuration.mappings}
    with closing(build.make_control(configuration)) as control:
        for mapping, rows in _commands(found.planned):
            arguments = {"mapping": mapping, "reason": order.reason, "rows": rows}
            source = sources[mapping]
            done = command(configuration, control, source, "repair", arguments, order.timeout)
            for outcome, number in done.items():
                if isinstance(number, int):
                    found.outcomes[outcome] = found.outcomes.get(outcome, 0) + number


def _commands(
    planned: Sequence[tuple[str, Example]],
) -> Iterator[tuple[str, list[dict[str, object]]]]:
    """The rows of each mapping, some hundred at once."""
    for mapping in dict.fromkeys(name for name, _ in planned):
        rows: list[dict[str, object]] = [
            {"kind": one.kind, "key": list(one.key), "source_row": list(one.source_row)}
            for name, one in planned
            if name == mapping
        ]
        for start in range(0, len(rows), _AT_ONCE):
            yield mapping, rows[start : start + _AT_ONCE]
