"""Checks of the mapped tables: what ``requirements.py`` says of them, and their foreign keys."""

from __future__ import annotations

from collections.abc import Iterator

from cdc_daemon.model.errors import suggest
from cdc_daemon.model.findings import Check, Note, ok, problem, warning
from cdc_daemon.model.ports import Table
from cdc_daemon.sources.mysql.catalog import TableFacts
from cdc_daemon.sources.mysql.checks.examined import Examined
from cdc_daemon.sources.mysql.foreign_keys import ForeignKey, acting
from cdc_daemon.sources.mysql.requirements import (
    collated,
    engine_problem,
    engine_warning,
    identity_problems,
    merging,
    table_problems,
)


def _found(at: Examined) -> Iterator[tuple[Table, TableFacts, str]]:
    """The mapped tables that exist, and their place."""
    for table in at.asked.tables:
        name = table.schema, table.name
        if name in at.facts:
            yield table, at.facts[name], at.at(name)


def _columns(at: Examined) -> Iterator[Note]:
    notes = [*_missing(at)]
    for table, found, place in _found(at):
        whats = table_problems(table, found, at.asked.charsets, at.account)
        notes += [problem(what, cure, where=place) for what, cure in whats]
    yield from notes or [ok(f"tables: {len(at.asked.tables)}")]


def _missing(at: Examined) -> Iterator[Note]:
    for table in at.asked.tables:
        name = table.schema, table.name
        if name not in at.facts:
            hint = suggest(".".join(name), at.known)
            yield problem(
                f"the table does not exist, or the account may not see it{hint}",
                "correct the mapping's from (upper and lower case count), or grant"
                f" {at.account} SELECT on it",
                where=at.at(name),
            )


def _identity(at: Examined) -> Iterator[Note]:
    notes = [
        problem(what, cure, where=place)
        for table, found, place in _found(at)
        for what, cure in identity_problems(table, found)
    ]
    yield from notes or [ok("every mapped table's rows are identified")]


def _engine(at: Examined) -> Iterator[Note]:
    notes = []
    for _, found, place in _found(at):
        if wrong := engine_problem(found):
            notes.append(problem(*wrong, where=place))
        elif doubtful := engine_warning(found):
            notes.append(warning(*doubtful, where=place))
    yield from notes or [ok("every mapped table is transactional")]


def _cascades(at: Examined) -> Iterator[Note]:
    keys = acting(at.foreign_keys)
    if not keys:
        yield ok("no foreign key changes rows of a mapped table")
    elif at.logs_cascades:
        yield ok(f"the log holds what foreign keys change ({_listed(keys)})")
    elif at.asked.cascades == "follow":
        yield ok(f"carried out as the server does, as the log lacks them: {_listed(keys)}")
    elif at.asked.cascades == "ignore":
        yield warning(
            f"the log lacks what foreign keys change, and cascades is ignore: {_listed(keys)}",
            "set the source's cascades to follow, then cdc-daemon snapshot start",
        )
    else:
        for key in keys:
            yield problem(
                f"foreign key {key.name} changes its rows without a word in the log: {key}",
                "set the source's cascades to follow, or let the application change such rows"
                " itself (ON DELETE RESTRICT)",
                where=at.at(key.child),
            )


def _listed(keys: list[ForeignKey]) -> str:
    return "; ".join(map(str, keys))


def _keys(at: Examined) -> Iterator[Note]:
    """References by text that the server takes for a key, and whose bytes are another text."""
    notes = [*_loose_references(at)]
    loose = [found.title for _, found, _ in _found(at) if merging(found, found.primary_key)]
    if loose and not notes:
        yield ok(
            f"told apart as they are stored, not regardless of case as the server does:"
            f" {', '.join(sorted(loose))}"
        )
    yield from notes
    if not loose and not notes:
        yield ok("no key is compared regardless of case")


def _loose_references(at: Examined) -> Iterator[Note]:
    for key in at.foreign_keys:
        child = at.facts.get(key.child)
        columns = merging(child, key.columns) if child is not None else []
        if columns:
            yield warning(
                f"foreign key {key.name} compares {', '.join(map(collated, columns))} regardless of"
                f" case: a reference to {'.'.join(key.parent)} may be spelled unlike the key, and a"
                " ref in a mapping goes by the bytes, as does what the key does to such rows",
                "spell references as keys are, or give both columns a _bin collation; a key without"
                " actions that no mapping resolves (ref) is not concerned",
                where=at.at(key.child),
            )


def _partitions(at: Examined) -> Iterator[Note]:
    split = sorted(found.title for _, found, _ in _found(at) if found.partitioned)
    if split:
        yield warning(
            f"{', '.join(split)}: rows that DROP, TRUNCATE or EXCHANGE PARTITION moves are not in"
            " the log",
            "DELETE rows instead; after such a statement: cdc-daemon snapshot start",
        )
    else:
        yield ok("no mapped table is partitioned")


CHECKS = (
    Check(
        name="table.columns",
        title="Mapped tables and columns exist, are in the log and may be read",
        why="what is not in the log, or hidden from the account, would silently be missing",
        look=_columns,
    ),
    Check(
        name="table.identity",
        title="Something identifies the rows of every mapped table",
        why="without it, nobody can tell which row an UPDATE or DELETE means",
        look=_identity,
    ),
    Check(
        name="table.engine",
        title="Mapped tables are transactional, and hold their rows themselves",
        why="otherwise log and table may differ, and nobody can tell which is right",
        look=_engine,
    ),
    Check(
        name="table.cascades",
        title="Foreign keys change no mapped rows behind the log's back",
        why="the rows would keep their old values in the target for ever",
        look=_cascades,
    ),
    Check(
        name="table.keys",
        title="Text keys and references to them are spelled alike",
        why="the server takes different texts for one key, and the daemon does not",
        look=_keys,
        refuses=False,
    ),
    Check(
        name="table.partitions",
        title="Rows of partitions move as rows",
        why="rows that vanish with their partition would stay in the target for ever",
        look=_partitions,
        refuses=False,
    ),
)
