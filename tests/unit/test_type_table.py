"""The page on types says what the conversions do."""

from __future__ import annotations

from pathlib import Path

import pytest

from cdc_daemon.config.scalars import parse_entity_type
from cdc_daemon.mapping.type_table import LINES, MYSQL_LINES, Line, fits, markdown
from cdc_daemon.sources.mysql.types import column_type_of
from cdc_daemon.sources.postgres.types import Types
from tests.support.type_cases import CASES, TypeCase

PAGE = Path(__file__).parents[2] / "docs" / "types.md"
OIDS = {
    "smallint": 21, "integer": 23, "bigint": 20, "numeric": 1700, "money": 790, "boolean": 16,
    "date": 1082, "time": 1083, "timestamp": 1114, "interval": 1186, "uuid": 2950, "bytea": 17,
    "json": 114, "jsonb": 3802, "text": 25, "real": 700, "double precision": 701, "oid": 26,
    "xid8": 5069, "integer[]": 1007, "text[]": 1009,
}  # fmt: skip


def test_the_page_is_that_of_the_code() -> None:
    """Regenerate: python -m cdc_daemon.mapping.type_table > docs/types.md."""
    assert PAGE.read_text("utf-8") == markdown()


@pytest.mark.parametrize("case", [c for c in CASES if c.type in OIDS], ids=lambda c: c.type)
def test_what_the_matrix_compares_stands_on_the_page(case: TypeCase) -> None:
    type_ = Types().column_type(OIDS[case.type], -1)
    assert type_.name in {line.type.name for line in LINES}
    assert all(fits(type_, parse_entity_type(kind)) is not None for kind in case.fits)


@pytest.mark.parametrize("line", MYSQL_LINES, ids=lambda line: line.names)
def test_the_names_of_a_line_are_read_as_the_page_says(line: Line) -> None:
    for native in line.natives:
        found = column_type_of(native.partition("(")[0], native)
        assert found.name == line.type.name, native
        assert found.name == "varchar" or found.length == line.type.length, native
