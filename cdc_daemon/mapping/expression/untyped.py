"""What is wrong with an expression whatever its columns' types are: all of it, not the first.

For checks without a database. Unknown functions, numbers of operands, constants that have no value,
conditions that could never be one. Not in here: everything that depends on a type (check).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cdc_daemon.mapping.expression.check import check, check_condition
from cdc_daemon.mapping.expression.functions import FORMS, FUNCTIONS, unknown_function
from cdc_daemon.mapping.expression.parsed import columns_of
from cdc_daemon.mapping.expression.tree import (
    Call,
    Case,
    Cast,
    Column,
    ExpressionError,
    Literal,
    Node,
)

_CONDITIONS = frozenset(
    {"and", "or", "not", "is null", "is true", "is false", "is distinct from", "between", "in"}
    | {"is not distinct from", "like", "ilike", "=", "<>", "<", "<=", ">", ">="}
)
_VALUES = frozenset({"+", "-", "*", "/", "%", "||", "->", "->>", "extract"})
_ANY_KIND = frozenset({"coalesce", "nullif", "greatest", "least"})


def complaints(node: Node, *, condition: bool = False) -> Iterator[ExpressionError]:
    """Everything that is wrong; ``condition``: it must be boolean."""
    if not any(True for _ in columns_of(node)):
        yield from _constant(node, condition=condition)
        return
    if condition and not _may_be_boolean(node):
        yield node.place.error("a condition must be boolean, this is not")
    if isinstance(node, Call):
        yield from _call(node)
    for part in _parts(node):
        yield from complaints(part)


def _constant(node: Node, *, condition: bool) -> Iterator[ExpressionError]:
    """Without columns the types are all there."""
    try:
        if condition:
            check_condition(node, {})
        else:
            check(node, {})
    except ExpressionError as error:
        yield error


def _may_be_boolean(node: Node) -> bool:
    match node:
        case Literal():
            return node.kind in ("boolean", "null")
        case Cast():
            return node.type == "boolean"
        case Call():
            return node.name not in _VALUES and node.name not in {*FUNCTIONS, *FORMS} - _ANY_KIND
        case Column() | Case():
            return True


def _call(node: Call) -> Iterator[ExpressionError]:
    name, given = node.name, len(node.arguments)
    overloads = FUNCTIONS.get(name)
    if overloads is not None:
        allowed = sorted({len(overload.parameters) for overload in overloads})
        if given not in allowed:
            numbers = " or ".join(map(str, allowed))
            yield node.place.error(f"{name} takes {numbers} operands, not {given}")
    elif name not in {*FORMS, *_CONDITIONS, *_VALUES}:
        yield unknown_function(name, node.place)


def _parts(node: Node) -> Sequence[Node]:
    match node:
        case Call():
            return node.arguments
        case Cast():
            return (node.value,)
        case Case():
            inside = [part for pair in node.whens for part in pair]
            return [p for p in (node.operand, *inside, node.default) if p is not None]
        case Column() | Literal():
            return ()
