"""Types of ``+ - * / %`` and of what they give: numbers on PostgreSQL's ladder, dates and days."""

from __future__ import annotations

from collections.abc import Sequence

from cdc_daemon.mapping.expression.casts import INTEGERS, LADDER, cast, folded
from cdc_daemon.mapping.expression.kinds import common
from cdc_daemon.mapping.expression.tree import Place
from cdc_daemon.mapping.expression.typed import Apply, Typed

_ARITHMETIC = {
    "+": ("add({0}, {1})", "finite({0} + {1})"),
    "-": ("subtract({0}, {1})", "finite({0} - {1})"),
    "*": ("multiply({0}, {1})", "multiply_doubles({0}, {1})"),
    "/": ("divide({0}, {1})", "divide_doubles({0}, {1})"),
    "%": ("modulo({0}, {1})", ""),
}
_INTEGER = {"/": "quotient({0}, {1})", "%": "remainder({0}, {1})"}


def arithmetic(name: str, operands: list[Typed], places: Sequence[Place], place: Place) -> Typed:
    """``+ - * / %`` of numbers, or of dates. Raises ExpressionError."""
    if len(operands) == 1 and name == "-":
        return _negative(operands[0], place)
    if len(operands) != 2:
        raise place.error(f"{name} takes two operands")
    if any(operand.kind == "date" for operand in operands):
        return _date_arithmetic(name, operands, place)
    for operand, at in zip(operands, places, strict=True):
        if operand.kind not in (*LADDER, "unknown"):
            raise at.error(f"{name} needs numbers, not {operand.kind}; CAST it")
    if all(operand.kind == "unknown" for operand in operands):
        raise place.error(f"{name} needs numbers, not text; CAST it")
    kind, (left, right) = common(operands, places, name)
    if kind == "double" and name == "%":
        raise place.error("% needs exact numbers; CAST to numeric")
    return folded(Apply(kind, _formula(name, kind), f"({{0}} {name} {{1}})", (left, right)), place)


def _negative(operand: Typed, place: Place) -> Typed:
    if operand.kind not in LADDER:
        raise place.error(f"- needs a number, not {operand.kind}")
    if operand.kind in INTEGERS:
        python = f"{operand.kind}(-{{0}})"
    else:
        python = "negate({0})" if operand.kind == "numeric" else "-{0}"
    return folded(Apply(operand.kind, python, "(- {0})", (operand,)), place)


def _date_arithmetic(name: str, operands: list[Typed], place: Place) -> Typed:
    left, right = operands
    if name == "-" and left.kind == "date" and right.kind in ("date", "unknown"):
        days = cast(right, "date", place)
        return folded(Apply("integer", "between({0}, {1})", "({0} - {1})", (left, days)), place)
    if name == "+" and left.kind in ("smallint", "integer"):
        left, right = right, left
    if name in ("+", "-") and left.kind == "date" and right.kind in ("smallint", "integer"):
        by = "{1}" if name == "+" else "-{1}"
        sql = f"({{0}} {name} {{1}})"
        return folded(Apply("date", f"shift({{0}}, {by})", sql, (left, right)), place)
    raise place.error("dates take + and - with integer days, and - with a date")


def _formula(name: str, kind: str) -> str:
    """The Python of a binary arithmetic operator."""
    if kind in INTEGERS:
        return f"{kind}({_INTEGER.get(name, f'{{0}} {name} {{1}}')})"
    return _ARITHMETIC[name][0 if kind == "numeric" else 1]
