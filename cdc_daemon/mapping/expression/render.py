"""Typed tree → PostgreSQL text that gives the same value, to run on the source.

Every implicit cast is written out and everything composite stands in parentheses, so that the text
does not depend on precedence or on how the server would resolve literals. Order of texts is by code
point (``COLLATE "C"``). A ``%`` in it is not doubled: pass the text without parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Set

from cdc_daemon.mapping.convert_numbers import number_sql
from cdc_daemon.mapping.expression.casts import TEXTS, printed, sql_type
from cdc_daemon.mapping.expression.generate import NULL_TEXTS
from cdc_daemon.mapping.expression.typed import (
    Apply,
    Choose,
    Coalesce,
    Compare,
    Connect,
    Const,
    Distinct,
    Input,
    Is,
    Member,
    Not,
    Shared,
    Typed,
    Written,
)

Quote = Callable[[str], str]
_BY_CODE_POINT = ' COLLATE "C"'


def render(  # noqa: C901, PLR0911, PLR0912 - one arm per kind
    node: Typed, quote: Quote, nulls: Set[bytes] = frozenset()
) -> str:
    """The SQL of a node; ``quote`` writes a column's name (and its table's alias); ``nulls``: what
    stands for NULL in columns of a text type."""

    def sql(part: Typed) -> str:
        return render(part, quote, nulls)

    match node:
        case Const():
            return _constant(node)
        case Input():
            return _input(node, quote, nulls)
        case Apply():
            return node.sql.format(*map(sql, node.operands))
        case Written():
            return node.sql.format(*map(sql, node.operands))
        case Shared():
            return sql(node.operand)
        case Compare():
            collate = _collation(node)
            return f"({sql(node.left)}{collate} {node.operator} {sql(node.right)}{collate})"
        case Connect():
            return "(" + f" {node.operator.upper()} ".join(map(sql, node.operands)) + ")"
        case Not():
            return f"(NOT {sql(node.operand)})"
        case Is():
            if (
                node.value is None and node.operand.kind == "other"
            ):  # a composite of NULLs is a value
                return f"({sql(node.operand)} IS NOT DISTINCT FROM NULL)"
            word = "NULL" if node.value is None else str(node.value).upper()
            return f"({sql(node.operand)} IS {word})"
        case Distinct():
            return f"({sql(node.left)} IS DISTINCT FROM {sql(node.right)})"
        case Member():
            values = [sql(constant) for constant in node.values]
            if node.has_null:
                values.append(f"NULL::{sql_type(node.operand.kind)}")
            return f"({sql(node.operand)} IN ({', '.join(values)}))"
        case Coalesce():
            return f"COALESCE({', '.join(map(sql, node.operands))})"
        case Choose():
            whens = [f"WHEN {sql(test)} THEN {sql(result)}" for test, result in node.whens]
            return f"CASE {' '.join(whens)} ELSE {sql(node.default)} END"


def _collation(node: Compare) -> str:
    """Order is by code point; so is equality of two columns, whose collations may differ."""
    if node.left.kind not in TEXTS:
        return ""
    constant = isinstance(node.left, Const) or isinstance(node.right, Const)
    return "" if constant and node.operator in ("=", "<>") else _BY_CODE_POINT


def _input(node: Input, quote: Quote, nulls: Set[bytes]) -> str:
    """Char without its padding; real as the double, money and oid as the numeric that calculates;
    others as they are."""
    name = quote(node.name)
    if node.type.name == "real":
        return f"({name})::double precision"
    if node.type.name in ("money", "oid"):
        return number_sql(node.type).replace("{}", f"({name})")
    value = f"({name})::text" if node.type.name == "char" else name
    if not nulls or node.type.name not in NULL_TEXTS:
        return value
    texts = {text.rstrip(b" ") for text in nulls} if node.type.name == "char" else nulls
    listed = ", ".join(_quoted(text.decode()) for text in sorted(texts))
    return f"(CASE WHEN (({name})::text{_BY_CODE_POINT}) IN ({listed}) THEN NULL ELSE {value} END)"


def _quoted(text: str) -> str:
    doubled = text.replace("'", "''")
    return f"'{doubled}'"


def _constant(node: Const) -> str:
    kind = sql_type(node.kind)
    if node.value is None:
        return f"NULL::{kind}"
    if isinstance(node.value, bool):
        return str(node.value).upper()
    if node.kind == "integer" and isinstance(node.value, int) and node.value >= 0:
        return str(node.value)
    return f"{_quoted(printed(node).decode())}::{kind}"
