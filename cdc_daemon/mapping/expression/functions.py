"""The functions an expression may call: their operands, result, Python and SQL.

Overloads are tried in order. A parameter takes its own kind; ``text`` also char and string
literals, ``integer`` also smallint, ``numeric`` also the integers. ROUND, TRUNC, CEIL and FLOOR of
an integer are numeric here (PostgreSQL would go through double precision and lose digits of a
bigint); the SQL says so with a cast. Not in here: operators and forms of their own (check).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cdc_daemon.mapping.expression.casts import TEXTS, cast, folded
from cdc_daemon.mapping.expression.tree import ExpressionError, Place
from cdc_daemon.mapping.expression.typed import Apply, Typed
from cdc_daemon.model.errors import suggest

TEXT, INTEGER, NUMERIC = "text", "integer", "numeric"


@dataclass(frozen=True, slots=True)
class Overload:
    """One signature: parameter kinds, result kind, Python and SQL templates."""

    parameters: tuple[str, ...]
    result: str
    python: str
    sql: str


def _simple(name: str, parameters: Sequence[str], result: str, python: str) -> Overload:
    """A function whose SQL is its name and its operands."""
    operands = ", ".join(f"{{{index}}}" for index in range(len(parameters)))
    return Overload(tuple(parameters), result, f"{python}({operands})", f"{name}({operands})")


def _blank(name: str, python: str) -> list[Overload]:
    return [
        Overload((TEXT,), TEXT, f"{{0}}.{python}(b' ')", f"{name}({{0}})"),
        _simple(
            name,
            (TEXT, TEXT),
            TEXT,
            {"strip": "trim", "lstrip": "trim_left"}.get(python, "trim_right"),
        ),
    ]


def _numeric(name: str, exact: str, double: str) -> list[Overload]:
    return [
        Overload((NUMERIC,), NUMERIC, exact, f"{name}({{0}})"),
        Overload(("double",), "double", double, f"{name}({{0}})"),
    ]


_SUBSTRING = [
    _simple("substr", (TEXT, INTEGER), TEXT, "substring"),
    _simple("substr", (TEXT, INTEGER, INTEGER), TEXT, "substring_for"),
]
_LENGTH = [_simple("length", (TEXT,), INTEGER, "length")]
_CEILING = _numeric("ceil", "ceiling({0})", "ceiling_double({0})")

FUNCTIONS: dict[str, list[Overload]] = {
    "upper": [_simple("upper", (TEXT,), TEXT, "upper")],
    "lower": [_simple("lower", (TEXT,), TEXT, "lower")],
    "length": _LENGTH,
    "char_length": _LENGTH,
    "character_length": _LENGTH,
    "btrim": _blank("btrim", "strip"),
    "ltrim": _blank("ltrim", "lstrip"),
    "rtrim": _blank("rtrim", "rstrip"),
    "substring": _SUBSTRING,
    "substr": _SUBSTRING,
    "left": [_simple("left", (TEXT, INTEGER), TEXT, "left")],
    "right": [_simple("right", (TEXT, INTEGER), TEXT, "right")],
    "replace": [_simple("replace", (TEXT, TEXT, TEXT), TEXT, "replace")],
    "lpad": [
        _simple("lpad", (TEXT, INTEGER), TEXT, "pad_left"),
        _simple("lpad", (TEXT, INTEGER, TEXT), TEXT, "pad_left"),
    ],
    "rpad": [
        _simple("rpad", (TEXT, INTEGER), TEXT, "pad_right"),
        _simple("rpad", (TEXT, INTEGER, TEXT), TEXT, "pad_right"),
    ],
    "split_part": [_simple("split_part", (TEXT, TEXT, INTEGER), TEXT, "split_part")],
    "strpos": [_simple("strpos", (TEXT, TEXT), INTEGER, "strpos")],
    "abs": [
        Overload(("smallint",), "smallint", "smallint(abs({0}))", "abs({0})"),
        Overload((INTEGER,), INTEGER, "integer(abs({0}))", "abs({0})"),
        Overload(("bigint",), "bigint", "bigint(abs({0}))", "abs({0})"),
        Overload((NUMERIC,), NUMERIC, "{0}.copy_abs()", "abs({0})"),
        Overload(("double",), "double", "abs({0})", "abs({0})"),
    ],
    "round": [
        *_numeric("round", "round_number({0}, 0)", "round_double({0})"),
        Overload((NUMERIC, INTEGER), NUMERIC, "round_number({0}, {1})", "round({0}, {1})"),
    ],
    "trunc": [
        *_numeric("trunc", "truncate_number({0}, 0)", "truncate_double({0})"),
        Overload((NUMERIC, INTEGER), NUMERIC, "truncate_number({0}, {1})", "trunc({0}, {1})"),
    ],
    "ceil": _CEILING,
    "ceiling": _CEILING,
    "floor": _numeric("floor", "floor({0})", "floor_double({0})"),
}

FORMS = ("coalesce", "nullif", "greatest", "least", "concat", "concat_ws", "mod")
"""Functions that take their operands in ways of their own."""

_ACCEPTS = {
    TEXT: (*TEXTS, "unknown"),
    INTEGER: ("smallint", INTEGER, "unknown"),
    NUMERIC: ("smallint", INTEGER, "bigint", NUMERIC, "unknown"),
}


def call(name: str, operands: Sequence[Typed], place: Place) -> Typed:
    """A call of one of FUNCTIONS. Raises ExpressionError with what it would take."""
    overloads = FUNCTIONS.get(name)
    if overloads is None:
        raise unknown_function(name, place)
    for overload in overloads:
        if _fits(overload, operands):
            given = [
                cast(operand, kind, place)
                for operand, kind in zip(operands, overload.parameters, strict=True)
            ]
            return folded(
                Apply(overload.result, overload.python, overload.sql, tuple(given)), place
            )
    raise place.error(_mismatch(name, overloads, operands))


def unknown_function(name: str, place: Place) -> ExpressionError:
    """The error for a function that is not one of these, with the nearest that is."""
    known = [*FUNCTIONS, *FORMS, "extract", "position", "trim", "cast"]
    return place.error(f"there is no function {name}{suggest(name, known)}")


def _fits(overload: Overload, operands: Sequence[Typed]) -> bool:
    return len(operands) == len(overload.parameters) and all(
        operand.kind in _ACCEPTS.get(kind, (kind,))
        for operand, kind in zip(operands, overload.parameters, strict=True)
    )


def _mismatch(name: str, overloads: Sequence[Overload], operands: Sequence[Typed]) -> str:
    wanted = " or ".join(f"({', '.join(overload.parameters)})" for overload in overloads)
    given = ", ".join("a literal" if o.kind == "unknown" else o.kind for o in operands)
    return f"{name} takes {wanted}, not ({given}); CAST what does not fit"
