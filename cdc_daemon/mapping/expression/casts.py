"""Casts between kinds: which there are, what they are in Python and in SQL; constants are folded.

Texts are parsed strictly (ISO dates, spelled booleans), so a cast may refuse what PostgreSQL would
take; it never gives another value. Not in here: which operands need a cast (expression/check).
"""

from __future__ import annotations

from decimal import Decimal

from cdc_daemon.mapping import decimals, documents, strict, times
from cdc_daemon.mapping.conversion_rule import OPAQUE, PRINTED
from cdc_daemon.mapping.convert_numbers import number_of_money
from cdc_daemon.mapping.expression import moments, numbers, texts
from cdc_daemon.mapping.expression.tree import Place
from cdc_daemon.mapping.expression.typed import Apply, Const, Typed
from cdc_daemon.model.errors import DataError

LADDER = ("smallint", "integer", "bigint", "numeric", "double")
INTEGERS = LADDER[:3]
TEXTS = ("text", "char")
SQL_TYPES = {
    "double": "double precision",
    "bytes": "bytea",
    "char": "text",
}
"""PostgreSQL's name of a kind, where it is another one."""


def _text_number(text: bytes) -> Decimal:
    return numbers.plain(Decimal(decimals.parse_number(text).decode()))


def _text_double(text: bytes) -> float:
    return numbers.finite(decimals.parse_double(text))


def _text_jsonb(text: bytes) -> bytes:
    return documents.jsonb_text(documents.parse_document(text))


def greatest(*values: object) -> object:
    """``GREATEST``: NULLs are left out."""
    return max((value for value in values if value is not None), default=None)  # type: ignore[type-var]


def least(*values: object) -> object:
    """``LEAST``: NULLs are left out."""
    return min((value for value in values if value is not None), default=None)  # type: ignore[type-var]


ENVIRONMENT: dict[str, object] = {
    name: value
    for module in (decimals, documents, strict, times, moments, numbers, texts)
    for name, value in vars(module).items()
    if callable(value) and not name.startswith("_")
} | {
    "text_number": _text_number,
    "text_double": _text_double,
    "text_jsonb": _text_jsonb,
    "number_of_money": number_of_money,
    "greatest": greatest,
    "least": least,
    "abs": abs,
    "float": float,
    "int": int,
    "__builtins__": {},
}
"""The names that templates may use."""

FROM_TEXT = {
    "smallint": "smallint(parse_integer({0}))",
    "integer": "integer(parse_integer({0}))",
    "bigint": "bigint(parse_integer({0}))",
    "numeric": "text_number({0})",
    "double": "text_double({0})",
    "boolean": "parse_boolean({0}) == b't'",
    "date": "parse_date({0})",
    "time": "parse_time({0})",
    "timestamp": "parse_timestamp({0})",
    "timestamptz": "parse_timestamptz({0})",
    "uuid": "parse_uuid({0})",
    "json": "parse_json({0})",
    "jsonb": "text_jsonb({0})",
    "bytes": "parse_bytes({0})",
    "text": "{0}",
    "char": "{0}.rstrip(b' ')",
}
TO_TEXT = {
    "smallint": "b'%d' % {0}",
    "integer": "b'%d' % {0}",
    "bigint": "b'%d' % {0}",
    "numeric": "print_numeric({0})",
    "double": "print_double({0})",
    "boolean": "(b'true' if {0} else b'false')",
    "date": "print_date({0})",
    "time": "print_time({0})",
    "timestamp": "print_timestamp({0})",
    "timestamptz": "print_timestamptz({0})",
}
"""Kinds that are bytes already are not named."""

OUTPUT = {**TO_TEXT, "boolean": "(b't' if {0} else b'f')"}
"""What a type's output function prints: a column's text, and what CONCAT sees."""

_OTHER = {
    ("numeric", "double"): "double({0})",
    ("double", "numeric"): "exact_number({0})",
    ("integer", "boolean"): "{0} != 0",
    ("boolean", "integer"): "int({0})",
    ("date", "timestamp"): "date_to_timestamp({0})",
    ("timestamp", "date"): "timestamp_to_date({0})",
    ("json", "jsonb"): "text_jsonb({0})",
    ("jsonb", "json"): "{0}",
}


def _template(source: str, target: str) -> str | None:
    if source in TEXTS:
        return FROM_TEXT.get(target)
    if target == "text":
        return TO_TEXT.get(source, "{0}")
    if source in INTEGERS and target in LADDER:
        return _from_integer(source, target)
    if target in INTEGERS and source in ("numeric", "double"):
        nearest = "rounded" if source == "numeric" else "half_even"
        return f"{target}({nearest}({{0}}))"
    return _OTHER.get((source, target))


def _from_integer(source: str, target: str) -> str:
    if target in ("numeric", "double"):
        return "Decimal({0})" if target == "numeric" else "float({0})"
    return "{0}" if LADDER.index(source) <= LADDER.index(target) else f"{target}({{0}})"


def sql_type(kind: str) -> str:
    """PostgreSQL's name of a kind."""
    return SQL_TYPES.get(kind, kind)


def cast(node: Typed, target: str, place: Place) -> Typed:
    """The node as another kind. Raises ExpressionError where there is no such cast."""
    if node.kind == target or (node.kind == "char" and target == "text"):
        return node
    if isinstance(node, Const) and (node.kind == "unknown" or node.value is None):
        return adopt(node, target, place)
    template = _template(node.kind, target)
    if template is None:
        raise place.error(f"{node.kind} cannot be cast to {target}")
    sql = PRINTED.replace("{}", "{0}") if node.kind in OPAQUE else f"({{0}})::{sql_type(target)}"
    return folded(Apply(target, template, sql, (node,)), place)


def adopt(node: Const, target: str, place: Place) -> Const:
    """A string literal or NULL as the kind that its context asks for. Raises ExpressionError."""
    if node.value is None:
        return Const(target, None)
    template = FROM_TEXT.get(target)
    if template is None:
        raise place.error(f"a literal cannot be {target}")
    return Const(target, _evaluate(template, (node.value,), place))


def folded(node: Apply, place: Place) -> Typed:
    """A function of constants is a constant; what fails then fails when the mapping is checked."""
    values = [operand.value for operand in node.operands if isinstance(operand, Const)]
    if not node.strict or len(values) < len(node.operands):
        return node
    if None in values:
        return Const(node.kind, None)
    return Const(node.kind, _evaluate(node.python, tuple(values), place))


def _evaluate(template: str, values: tuple[object, ...], place: Place) -> object:
    """The value of one of this package's own templates."""
    names = [f"x{index}" for index in range(len(values))]
    try:
        return eval(  # noqa: S307 - templates are constants of this package, values go by name
            template.format(*names), dict(ENVIRONMENT), dict(zip(names, values, strict=True))
        )
    except (DataError, ArithmeticError, ValueError) as error:
        reason = error.message if isinstance(error, DataError) else "it has no value"
        raise place.error(f"this constant cannot be computed: {reason}") from None


def printed(node: Const) -> bytes:
    """A constant's text, as PostgreSQL prints it."""
    value = eval(  # noqa: S307 - as above
        TO_TEXT.get(node.kind, "{0}").format("x"), dict(ENVIRONMENT), {"x": node.value}
    )
    assert isinstance(value, bytes)
    return value
