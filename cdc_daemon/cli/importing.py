"""``failures import``: edited lines of an export, back into parked changes.

Every line is read, and every edit tried by its pipeline, before the first is made. A file that was
edited by a spreadsheet, sed or jq may hold anything, so each complaint names file, line and column.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cdc_daemon.cli.editing import ask
from cdc_daemon.cli.exporting import FORMAT
from cdc_daemon.cli.given import Given, output_option, pass_given, shared_options
from cdc_daemon.cli.output import print_json, print_table, words
from cdc_daemon.cli.parked import control_of, count, listed, reason_option, timeout_option
from cdc_daemon.cli.settling import check_reason
from cdc_daemon.model.errors import EXIT_DIFFERENCE, EXIT_OK, CdcError

if TYPE_CHECKING:
    from cdc_daemon.config.configuration import Configuration
    from cdc_daemon.model.ports import Control

_EDITS, _BYTES = 200, 256 * 1024  # in one command
_TOLD = 20  # complaints


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of the file. ``payload`` None: as it was exported."""

    number: int
    id: int
    pipeline: str
    was: str
    payload: dict[str, Any] | None
    size: int


class BadLine(Exception):
    """A line that cannot be taken: ``column`` from 1."""

    def __init__(self, what: str, column: int = 1) -> None:
        self.what = what
        self.column = column
        super().__init__(what)


@click.command("import")
@shared_options
@output_option
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
@reason_option
@click.option("--retry", is_flag=True, help="Then apply all changes of the file again.")
@click.option("--dry-run", is_flag=True, help="Only say what would be edited.")
@timeout_option
@pass_given
def import_(
    given: Given, path: Path, reason: str, retry: bool, dry_run: bool, timeout: float
) -> int:
    """Edit parked changes as the lines of an edited export say.

    Nothing is done if one line is bad, or its change is parked no longer or was edited since. Exits
    3 if changes that are retried fail or wait.
    """
    check_reason(reason)
    configuration = given.load_without_keys()
    lines = read_lines(path, list(configuration.sources))
    edits = [line for line in lines if line.payload is not None]
    with control_of(configuration) as control:
        importing = _Importing(configuration, control, path, reason, timeout)
        importing.carry_out(edits, check=True)
        if not dry_run:
            importing.carry_out(edits, check=False)
        fates: dict[str, list[int]] = {
            "edited": [line.id for line in edits],
            "unchanged": [line.id for line in lines if line.payload is None],
        }
        if retry and not dry_run:
            fates |= importing.retry(lines)
    return _report(given, fates, dry_run=dry_run)


@dataclass(frozen=True, slots=True)
class _Importing:
    """The edits of one file, sent to their pipelines some hundred at once."""

    configuration: Configuration
    control: Control
    path: Path
    reason: str
    timeout: float

    def carry_out(self, edits: Sequence[Line], *, check: bool) -> None:
        """Make the edits, or only ask whether they would be taken. Raises CdcError if not."""
        done = 0
        for some in _pieces(edits):
            wishes = [{"id": one.id, "was": one.was, "payload": one.payload} for one in some]
            arguments = {"edits": wishes, "reason": self.reason, "check": check}
            found = ask(self.configuration, self.control, some[0].pipeline, arguments, self.timeout)
            if found["refused"]:
                places = {one.id: one.number for one in some}
                refused = [
                    f"{self.path}:{places[number]}:1: change {number} stays as it is: {said}"
                    for number, said in found["refused"]
                ]
                raise CdcError(_complaint(refused, done))
            done += 0 if check else len(some)

    def retry(self, lines: Sequence[Line]) -> dict[str, list[int]]:
        """Apply all changes of the file again; ids by fate."""
        from cdc_daemon.cli.commanding import command

        fates: dict[str, list[int]] = {"applied": [], "failed": [], "waiting": []}
        for pipeline in dict.fromkeys(line.pipeline for line in lines):
            ids = [line.id for line in lines if line.pipeline == pipeline]
            found: dict[str, Any] = command(
                self.configuration, self.control, pipeline, "retry", {"ids": ids}, self.timeout
            )
            for fate, numbers in fates.items():
                numbers.extend(found.get(fate, []))
        return fates


def read_lines(path: Path, pipelines: Sequence[str]) -> list[Line]:
    """Every line of the file. Raises CdcError naming each bad one."""
    found: dict[int, Line] = {}
    bad: list[str] = []
    for number, raw in _raw_lines(path):
        try:
            line = _line(number, raw.decode("utf-8-sig" if number == 1 else "utf-8"), pipelines)
            if line.id in found:
                raise BadLine(f"change {line.id} stands in line {found[line.id].number} too")
            found[line.id] = line
        except UnicodeDecodeError as error:
            bad.append(f"{path}:{number}:{error.start + 1}: is not in UTF-8")
        except BadLine as error:
            bad.append(f"{path}:{number}:{error.column}: {error.what}")
    if bad:
        raise CdcError(_complaint(bad, 0))
    if not found:
        raise CdcError(f"{path} holds no changes")
    return list(found.values())


def _raw_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Lines that hold something, with their numbers. Raises CdcError for a file of no use."""
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, 1):
                if raw.strip():
                    yield number, raw
    except OSError as error:
        raise CdcError(f"{path} cannot be read: {error.strerror}") from None


def _line(number: int, text: str, pipelines: Sequence[str]) -> Line:
    """One line. Raises BadLine."""
    from cdc_daemon.engine.payload import fingerprint

    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise BadLine(f"this is no JSON: {error.msg}", error.colno) from None
    except RecursionError:
        raise BadLine("this is nested too deeply") from None
    if not isinstance(found, dict):
        raise BadLine("a line holds one JSON object")
    if found.get("format") != FORMAT:
        raise BadLine(f"the line's format is not {FORMAT}: export again with this program")
    id_, pipeline, was = (found.get(name) for name in ("id", "pipeline", "fingerprint"))
    payload = found.get("payload")
    if type(id_) is not int or id_ < 1:
        raise BadLine("id must be the number of a change")
    if not isinstance(pipeline, str) or pipeline not in pipelines:
        raise BadLine("pipeline is not one that is configured")
    if not isinstance(was, str) or not isinstance(payload, dict):
        raise BadLine("fingerprint and payload must stand as they were exported")
    changed = fingerprint(payload) != was
    return Line(
        number=number,
        id=id_,
        pipeline=pipeline,
        was=was,
        payload=payload if changed else None,
        size=len(text),
    )


def _pieces(edits: Sequence[Line]) -> Iterator[list[Line]]:
    """Edits of one pipeline, as many as one command takes."""
    some: list[Line] = []
    for one in edits:
        full = len(some) == _EDITS or sum(other.size for other in some) + one.size > _BYTES
        if some and (full or one.pipeline != some[0].pipeline):
            yield some
            some = []
        some.append(one)
    if some:
        yield some


def _complaint(bad: Sequence[str], done: int) -> str:
    more = [f"and {len(bad) - _TOLD} more"] if len(bad) > _TOLD else []
    end = f"{count(done)} edited before that" if done else "nothing was done"
    return "\n".join([*bad[:_TOLD], *more, end])


def _report(given: Given, fates: dict[str, list[int]], *, dry_run: bool) -> int:
    if given.output == "json":
        print_json(fates)
    else:
        rows = [(fate, len(ids), listed(ids)) for fate, ids in fates.items() if ids]
        print_table(("FATE", "CHANGES", "IDS"), rows)
    if dry_run:
        words("nothing was done")
    left = fates.get("failed", []) + fates.get("waiting", [])
    return EXIT_DIFFERENCE if left else EXIT_OK
