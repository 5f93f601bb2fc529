"""Which values a conversion rejects, as SQL conditions, where PostgreSQL itself would not object.

PostgreSQL rounds, cuts and accepts more than the mapping does; a row with such a value is expected
in the failure queue and not in the target. What PostgreSQL refuses by itself needs no condition
here (verify/poison finds such rows), except that ``pg_input_is_valid`` saves the search from
version 16 on. The values themselves: mapping/convert.
"""

from __future__ import annotations

from cdc_daemon.mapping.conversion_rule import INTEGERS, TEXTS, Conversion
from cdc_daemon.mapping.convert_numbers import number_sql
from cdc_daemon.model.changes import ColumnType
from cdc_daemon.model.entities import EntityType, Kind
from cdc_daemon.sinks.postgres.names import column_type

Reason = tuple[str, str]
"""(SQL condition, error code)."""

_INPUT_IS_VALID = 160_000
_BITS = {Kind.INTEGER: 31, Kind.BIGINT: 63}
_NUMBERS = (Kind.INTEGER, Kind.BIGINT, Kind.DECIMAL, Kind.NUMERIC)


def rejections(
    source: ColumnType,
    target: EntityType,
    rule: Conversion,
    lossy: str | None,
    value: str,
    version: int,
    bytewise: bool = False,
) -> list[Reason]:
    """Conditions on ``value`` (SQL of the source's type), the first that is true being the reason.

    ``version``: the server's, as a number (180000). ``bytewise``: it counts bytes as characters.
    """
    if rule.lossless:
        return []
    found = _invalid(source, target, value, version)
    match target.kind:
        case Kind.STRING if lossy is None:
            text = rule.sql.replace("{}", value)
            length = f"pg_catalog.char_length({text})"
            if bytewise:
                length = f"pg_catalog.length(pg_catalog.convert_to({text}, 'SQL_ASCII'), 'UTF8')"
            found.append((f"{length} > {target.length}", "too_long"))
        case Kind.INTEGER | Kind.BIGINT:
            found += _whole(source, target, lossy, value)
        case Kind.DECIMAL:
            found += _decimal(source, target, lossy, value)
        case Kind.DOUBLE if lossy is None:
            double = rule.sql.replace("{}", value)
            found.append((f"{_number(source, value)} <> ({double})::text::numeric", "loss"))
        case Kind.BOOLEAN if source.name in INTEGERS:
            found.append((f"{value} NOT IN (0, 1)", "invalid_value"))
        case Kind.DATE if lossy is None:
            found += _date(source, value)
        case Kind.TIME | Kind.TIMESTAMP | Kind.TIMESTAMPTZ if source.name in TEXTS:
            found.append((rf"{value} ~ '\.\d{{6}}\d*[1-9]'", "loss"))
        case _:
            pass
    return found


def _invalid(source: ColumnType, target: EntityType, value: str, version: int) -> list[Reason]:
    """Texts that are no value of the type at all, where the server can tell without an error."""
    if source.name not in TEXTS or target.kind in (Kind.STRING, Kind.TEXT):
        return []
    if version < _INPUT_IS_VALID:
        return []
    kind = "numeric" if target.kind in _NUMBERS else column_type(target)
    return [(f"NOT pg_catalog.pg_input_is_valid({value}, '{kind}')", "invalid_value")]


def _number(source: ColumnType, value: str) -> str:
    """The value as numeric, exactly."""
    if source.name in INTEGERS:
        return f"{value}::numeric"
    return number_sql(source).replace("{}", value)


def _whole(source: ColumnType, target: EntityType, lossy: str | None, value: str) -> list[Reason]:
    if source.name == "boolean":
        return []
    number = _number(source, value)
    limit = 1 << _BITS[target.kind]
    rounded = f"pg_catalog.{'trunc' if lossy == 'truncate' else 'round'}({number})"
    found = [(f"{number} <> {rounded}", "loss")] if lossy is None else []
    return [*found, (f"{rounded} NOT BETWEEN {-limit} AND {limit - 1}", "out_of_range")]


def _decimal(source: ColumnType, target: EntityType, lossy: str | None, value: str) -> list[Reason]:
    assert target.length is not None
    scale = target.scale or 0
    number = _number(source, value)
    rounded = f"pg_catalog.{'trunc' if lossy == 'truncate' else 'round'}({number}, {scale})"
    limit = f"1e{target.length - scale}::numeric"
    found = [(f"{number} <> {rounded}", "loss")] if lossy is None else []
    return [*found, (f"pg_catalog.abs({rounded}) >= {limit}", "out_of_range")]


def _date(source: ColumnType, value: str) -> list[Reason]:
    if source.name == "timestamp":
        return [(f"{value} <> pg_catalog.date_trunc('day', {value})", "loss")]
    moment = f"{value}::text::timestamp"
    clock = f"pg_catalog.strpos({value}, ':') > 0"
    return [(f"CASE WHEN {clock} THEN {moment} <> {moment}::date END", "loss")]
