"""Which kinds go together: one kind for several operands, conditions, comparisons, literals."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from cdc_daemon.mapping.expression import numbers
from cdc_daemon.mapping.expression.casts import LADDER, TEXTS, cast
from cdc_daemon.mapping.expression.tree import Literal, Place
from cdc_daemon.mapping.expression.typed import Const, Typed
from cdc_daemon.model.errors import DataError

COMPARABLE = {
    *LADDER, *TEXTS, "boolean", "date", "time", "timestamp", "timestamptz", "uuid", "bytes",
}  # fmt: skip


def condition(typed: Typed, place: Place) -> Typed:
    """The node, if it is boolean or NULL. Raises ExpressionError."""
    if isinstance(typed, Const) and typed.kind == "unknown" and typed.value is None:
        return Const("boolean", None)
    if typed.kind != "boolean":
        kind = "text" if typed.kind == "unknown" else typed.kind
        raise place.error(f"a condition must be boolean, this is {kind}")
    return typed


def common(nodes: Sequence[Typed], places: Sequence[Place], what: str) -> tuple[str, list[Typed]]:
    """One kind for all, and the nodes as that kind."""
    kinds = dict.fromkeys(node.kind for node in nodes)
    known = [kind for kind in kinds if kind != "unknown"]
    kind = _meeting(known)
    if kind is None:
        raise places[-1].error(f"{what} mixes {' and '.join(known)}; CAST one of them")
    return kind, [cast(node, kind, place) for node, place in zip(nodes, places, strict=True)]


def _meeting(kinds: Sequence[str]) -> str | None:
    if not kinds:
        return "text"
    if len(kinds) == 1:
        return kinds[0]
    if all(kind in LADDER for kind in kinds):
        return max(kinds, key=LADDER.index)
    if set(kinds) <= set(TEXTS):
        return "text"
    return "timestamp" if set(kinds) == {"date", "timestamp"} else None


def comparable(nodes: Sequence[Typed], places: Sequence[Place], what: str) -> list[Typed]:
    """The nodes as one kind that has an order. Raises ExpressionError."""
    kind, coerced = common(nodes, places, what)
    if kind not in COMPARABLE:
        raise places[-1].error(f"{kind} values cannot be compared; CAST them to text")
    return coerced


def literal(node: Literal) -> Const:
    """A literal; strings and NULL stay ``unknown`` until their context decides."""
    match node.kind:
        case "null":
            return Const("unknown", None)
        case "boolean":
            return Const("boolean", node.text == "True")
        case "string":
            return Const("unknown", node.text.encode())
        case "number":
            return _number(node)


def _number(node: Literal) -> Const:
    """An integer literal is integer, bigint or numeric by its size, as in PostgreSQL."""
    if not node.text.isdecimal():
        try:
            return Const("numeric", numbers.plain(Decimal(node.text)))
        except DataError as error:
            raise node.place.error(error.message) from None
    if len(node.text) < 20 and int(node.text) < 1 << 63:
        value = int(node.text)
        return Const("integer" if value < 1 << 31 else "bigint", value)
    return Const("numeric", Decimal(node.text))
