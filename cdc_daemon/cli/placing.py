"""Where the files name what a source does not have.

A source tells which table or column is missing; the reader wants file, line and column of the
mapping that asks for it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from cdc_daemon.model.errors import Problem

if TYPE_CHECKING:
    from cdc_daemon.config.configuration import Configuration
    from cdc_daemon.config.schema import FieldConfig, MappingConfig

_TABLE = re.compile(r"^source (?P<source>\w+) .*, table (?P<table>.+)$", re.S)
_NO_TABLE = "the table does not exist"
_COLUMN = re.compile(r"^column '(?P<column>[^']+)' ")


def placed(configuration: Configuration, problems: Sequence[Problem]) -> list[Problem]:
    """The problems, each at the places in the files that cause it, where there are such."""
    return [one for problem in problems for one in _placed(configuration, problem)]


def _placed(configuration: Configuration, problem: Problem) -> list[Problem]:
    found = _TABLE.match(problem.where)
    column = _COLUMN.match(problem.what)
    if found is None or not (column or problem.what.startswith(_NO_TABLE)):
        return [problem]
    full_name = f"{found['source']}.{found['table']}"  # as a mapping's from writes it
    places = [
        place
        for mapping in configuration.mappings
        if f"{mapping.source}.{mapping.schema_}.{mapping.table}" == full_name
        for place in _places(configuration, mapping, column["column"] if column else None)
    ]
    what = f"{full_name}: {problem.what}"
    return [dataclasses.replace(problem, what=what, where=place) for place in places] or [problem]


def _places(configuration: Configuration, mapping: MappingConfig, column: str | None) -> list[str]:
    if column is None:
        return [configuration.place(*mapping.path, "from")]
    return [configuration.place(*path) for path in _uses(mapping, column)]


def _uses(mapping: MappingConfig, column: str) -> Iterator[tuple[str | int, ...]]:
    """Paths in the files of what reads the column."""
    from cdc_daemon.mapping.compile import expression_columns

    for section, fields in (("key", mapping.key), ("fields", mapping.fields)):
        for name, field in fields.items():
            part = _part(field, column)
            if part is not None:
                yield (*mapping.path, section, name, part)
    if mapping.where and column in expression_columns(mapping.where):
        yield (*mapping.path, "where")
    if column in mapping.identity:
        yield (*mapping.path, "identity")


def _part(field: FieldConfig, column: str) -> str | None:
    """The key under which a field names the column."""
    from cdc_daemon.mapping.compile import expression_columns

    if field.expr is not None:
        return "expr" if column in expression_columns(field.expr) else None
    if field.ref == column:
        return "ref"
    return "from" if field.column == column else None
