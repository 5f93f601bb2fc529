"""The keys of a ``map`` are values of their column, however they are written."""

from __future__ import annotations

import pytest

from cdc_daemon.mapping.map_keys import MapKeyError, map_keys
from cdc_daemon.model.changes import ColumnType


@pytest.mark.parametrize(
    "type_, key, printed",
    [
        (ColumnType("boolean"), "true", b"t"),
        (ColumnType("boolean"), "f", b"f"),
        (ColumnType("numeric", 5, 2), "1", b"1.00"),
        (ColumnType("numeric", 5, 2), "-0.5", b"-0.50"),
        (ColumnType("numeric", 5, 0), "7.0", b"7"),
        (ColumnType("numeric"), "1.50", b"1.5"),
        (ColumnType("integer"), "007", b"7"),
        (ColumnType("double"), "1e3", b"1000"),
        (ColumnType("date"), "20240229", b"2024-02-29"),
        (ColumnType("timestamp"), "2024-02-29T01:02", b"2024-02-29 01:02:00"),
        (ColumnType("timestamptz"), "2024-02-29 08:00+08", b"2024-02-29 00:00:00+00"),
        (ColumnType("char", 6), "PCS   ", b"PCS"),
        (ColumnType("varchar", 6), "PCS ", b"PCS "),
        (ColumnType("other"), "happy", b"happy"),
        (ColumnType("money", None, 2), "-1234.5", b"-$1,234.50"),
        (ColumnType("money", None, 0), "1234", b"$12.34"),
        (ColumnType("money", None, 2), "$0.07", b"$0.07"),
    ],
)
def test_a_key_is_what_the_column_prints(type_: ColumnType, key: str, printed: bytes) -> None:
    """Else nothing would ever match it."""
    assert map_keys([key], type_, (), trim=False) == {key: printed}


@pytest.mark.parametrize(
    "type_, keys, trim",
    [
        (ColumnType("boolean"), ["maybe"], False),
        (ColumnType("integer"), ["PCS"], False),
        (ColumnType("smallint"), ["32768"], False),
        (ColumnType("numeric", 5, 2), ["1.234"], False),
        (ColumnType("numeric", 5, 2), ["1000"], False),
        (ColumnType("date"), ["2024-02-30"], False),
        (ColumnType("money", None, 2), ["1.005"], False),
        (ColumnType("varchar", 3), ["PIECE"], False),
        (ColumnType("text"), [" PCS"], True),
        (ColumnType("text"), ["null"], False),
        (ColumnType("boolean"), ["t", "true"], False),
        (ColumnType("numeric", 5, 2), ["1", "1.0"], False),
    ],
)
def test_a_key_that_no_value_equals_is_refused(
    type_: ColumnType, keys: list[str], trim: bool
) -> None:
    """It would be a promise that is never kept."""
    with pytest.raises(MapKeyError):
        map_keys(keys, type_, [b"null"], trim=trim)
