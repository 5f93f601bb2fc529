"""Type inference: tree + column types → typed tree, with every implicit cast made explicit.

The rules are PostgreSQL's, made stricter: no implicit cast crosses between text, numbers, dates
and booleans, except for string literals, which take the type that their context asks for.
timestamptz never meets date or timestamp. Everything else that could depend on a session's
settings is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from cdc_daemon.mapping.expression import moments, texts
from cdc_daemon.mapping.expression.arithmetic import arithmetic
from cdc_daemon.mapping.expression.casts import OUTPUT, TEXTS, cast, folded
from cdc_daemon.mapping.expression.functions import call
from cdc_daemon.mapping.expression.kinds import COMPARABLE, common, comparable, condition, literal
from cdc_daemon.mapping.expression.tree import Call, Case, Cast, Column, Literal, Node, Place
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
from cdc_daemon.model.changes import ColumnType
from cdc_daemon.model.errors import DataError, suggest

_KINDS = {"varchar": "text", "real": "double", "money": "numeric", "oid": "numeric"}


def check(node: Node, types: Mapping[str, ColumnType]) -> Typed:
    """The typed tree of an expression; a string literal left alone is text.

    Raises ExpressionError at the place of the first thing that does not fit.
    """
    typed = _Checker(types).node(node)
    return cast(typed, "text", node.place) if typed.kind == "unknown" else typed


def check_condition(node: Node, types: Mapping[str, ColumnType]) -> Typed:
    """The same for a ``where``, which must be boolean."""
    return condition(_Checker(types).node(node), node.place)


class _Checker:
    """One walk over one tree."""

    def __init__(self, types: Mapping[str, ColumnType]) -> None:
        self._types = types
        self._inputs: dict[str, Input] = {}
        self._forms: dict[str, Callable[[Call], Typed]] = {
            "and": self._connect, "or": self._connect, "not": self._not,
            "is null": self._is_test, "is true": self._is_test, "is false": self._is_test,
            "is distinct from": self._distinct, "is not distinct from": self._distinct,
            "between": self._between, "in": self._in, "like": self._like, "ilike": self._like,
            "||": self._join, "->": self._extraction, "->>": self._extraction,
            "coalesce": self._coalesce, "nullif": self._nullif,
            "greatest": self._extreme, "least": self._extreme,
            "concat": self._concat, "concat_ws": self._concat,
            "extract": self._extract, "mod": self._arithmetic,
            **dict.fromkeys(("=", "<>", "<", "<=", ">", ">="), self._comparison),
            **dict.fromkeys(("+", "-", "*", "/", "%"), self._arithmetic),
        }  # fmt: skip

    def node(self, node: Node) -> Typed:
        """The typed node; a string literal or NULL stays ``unknown``."""
        match node:
            case Literal():
                return literal(node)
            case Column():
                return self._column(node)
            case Cast():
                return self._cast(node)
            case Case():
                return self._case(node)
            case Call():
                form = self._forms.get(node.name)
                if form is not None:
                    return form(node)
                return call(node.name, self._operands(node), node.place)

    def _operands(self, node: Call) -> list[Typed]:
        return [self.node(argument) for argument in node.arguments]

    def _conditions(self, nodes: Sequence[Node]) -> tuple[Typed, ...]:
        return tuple(condition(self.node(node), node.place) for node in nodes)

    def _column(self, node: Column) -> Typed:
        type_ = self._types.get(node.name)
        if type_ is None:
            raise node.place.error(
                f"there is no column {node.name!r}{suggest(node.name, list(self._types))}"
            )
        kind = _KINDS.get(type_.name, type_.name)
        return self._inputs.setdefault(node.name, Input(kind, node.name, type_))

    def _cast(self, node: Cast) -> Typed:
        value = self.node(node.value)
        if node.parameters and node.type not in ("numeric", "varchar"):
            raise node.place.error(f"{node.type} takes no length or precision here")
        target = "text" if node.type == "varchar" else node.type
        typed = cast(value, target, node.place)
        if not node.parameters:
            return typed
        return self._constrained(typed, node)

    def _constrained(self, typed: Typed, node: Cast) -> Typed:
        if node.type == "varchar":
            count = node.parameters[0]
            if len(node.parameters) > 1 or count < 1:
                raise node.place.error("varchar takes one length of at least 1")
            operands = (typed, Const("opaque", count))
            logic = folded(Apply("text", "cut({0}, {1})", "", operands), node.place)
            return Written(logic, f"({{0}})::varchar({count})::text", (typed,))
        precision, scale = (*node.parameters, 0)[:2]
        if len(node.parameters) > 2 or not 1 <= precision <= 1000 or scale > precision:
            raise node.place.error("numeric takes a precision from 1 to 1000 and a scale up to it")
        limits = (typed, Const("opaque", precision), Const("opaque", scale))
        logic = folded(Apply("numeric", "constrained({0}, {1}, {2})", "", limits), node.place)
        return Written(logic, f"({{0}})::numeric({precision},{scale})", (typed,))

    def _case(self, node: Case) -> Typed:
        results = [result for _, result in node.whens]
        values = [self.node(result) for result in results]
        default: Typed = Const("unknown", None) if node.default is None else self.node(node.default)
        places = [*(result.place for result in results), (node.default or node).place]
        kind, coerced = common([*values, default], places, "CASE")
        if node.operand is None:
            conditions = self._conditions([condition for condition, _ in node.whens])
            whens = tuple(zip(conditions, coerced, strict=False))
            return Choose(kind, whens, coerced[-1])
        return self._simple_case(node, node.operand, kind, coerced)

    def _simple_case(self, node: Case, operand: Node, kind: str, results: list[Typed]) -> Typed:
        value = self.node(operand)
        value = cast(value, "text", operand.place) if value.kind == "unknown" else value
        shared = Shared(value)
        tests = [self._compare("=", shared, self.node(when), when.place) for when, _ in node.whens]
        logic = Choose(kind, tuple(zip(tests, results, strict=False)), results[-1])
        parts = [value]
        sql = "CASE {0}"
        for test, result in zip(tests, results, strict=False):
            sql += f" WHEN {{{len(parts)}}} THEN {{{len(parts) + 1}}}"
            parts += [test.right, result]
        sql += f" ELSE {{{len(parts)}}} END"
        return Written(logic, sql, (*parts, results[-1]))

    # --- conditions -----------------------------------------------------------------------

    def _connect(self, node: Call) -> Typed:
        return Connect(node.name, self._conditions(node.arguments))

    def _not(self, node: Call) -> Typed:
        return Not(*self._conditions(node.arguments))

    def _is_test(self, node: Call) -> Typed:
        if node.name == "is null":
            operand = self.node(node.arguments[0])
            if operand.kind == "unknown":
                operand = cast(operand, "text", node.place)
            return Is(operand, None)
        (operand,) = self._conditions(node.arguments)
        return Is(operand, node.name == "is true")

    def _comparison(self, node: Call) -> Typed:
        left, right = self._operands(node)
        return self._compare(node.name, left, right, node.place)

    def _compare(self, operator: str, left: Typed, right: Typed, place: Place) -> Compare:
        return Compare(operator, *comparable([left, right], [place, place], "the comparison"))

    def _distinct(self, node: Call) -> Typed:
        places = [argument.place for argument in node.arguments]
        left, right = comparable(self._operands(node), places, "the comparison")
        distinct = Distinct(left, right)
        return distinct if node.name == "is distinct from" else Not(distinct)

    def _between(self, node: Call) -> Typed:
        places = [argument.place for argument in node.arguments]
        value, low, high = comparable(self._operands(node), places, "BETWEEN")
        shared = Shared(value)
        logic = Connect("and", (Compare(">=", shared, low), Compare("<=", shared, high)))
        sql = "({0} BETWEEN {1} AND {2})"
        if value.kind in TEXTS:
            sql = '(({0} COLLATE "C") BETWEEN ({1} COLLATE "C") AND ({2} COLLATE "C"))'
        return Written(logic, sql, (value, low, high))

    def _in(self, node: Call) -> Typed:
        places = [argument.place for argument in node.arguments]
        value, *items = comparable(self._operands(node), places, "IN")
        constants = [item for item in items if isinstance(item, Const)]
        if len(constants) == len(items):
            present = tuple(item for item in constants if item.value is not None)
            return Member(value, present, has_null=len(present) < len(items))
        shared = Shared(value)
        logic = Connect("or", tuple(Compare("=", shared, item) for item in items))
        listed = ", ".join(f"{{{index + 1}}}" for index in range(len(items)))
        return Written(logic, f"({{0}} IN ({listed}))", (value, *items))

    def _like(self, node: Call) -> Typed:
        operands = [self._text(o, node, node.name) for o in self._operands(node)]
        escape = " ESCAPE {2}" if len(operands) == 3 else ""
        sql = f"({{0}} {node.name.upper()} {{1}}{escape})"
        if not all(isinstance(operand, Const) and operand.value for operand in operands[1:]):
            given = ", ".join(f"{{{index}}}" for index in range(len(operands)))
            return Apply("boolean", f"{node.name}({given})", sql, tuple(operands))
        pattern = [
            o.value for o in operands[1:] if isinstance(o, Const) and isinstance(o.value, bytes)
        ]
        fold = node.name == "ilike"
        try:
            matcher = texts.like_matcher(*(texts.lower(p) if fold else p for p in pattern))
        except DataError as error:
            raise node.place.error(error.message) from None
        python = "{1}(lower({0}))" if fold else "{1}({0})"
        logic = Apply("boolean", python, "", (operands[0], Const("opaque", matcher)))
        return Written(logic, sql, tuple(operands))

    # --- values ---------------------------------------------------------------------------

    def _text(self, typed: Typed, node: Call, what: str) -> Typed:
        if typed.kind not in (*TEXTS, "unknown"):
            raise node.place.error(f"{what.upper()} needs text, not {typed.kind}; CAST it")
        return cast(typed, "text", node.place)

    def _arithmetic(self, node: Call) -> Typed:
        name = "%" if node.name == "mod" else node.name
        places = [argument.place for argument in node.arguments]
        return arithmetic(name, self._operands(node), places, node.place)

    def _join(self, node: Call) -> Typed:
        operands = self._operands(node)
        if not any(operand.kind in (*TEXTS, "unknown") for operand in operands[:2]):
            raise node.place.error("|| needs text on one side; CAST it")
        given = tuple(cast(operand, "text", node.place) for operand in operands)
        indexes = range(len(given))
        python = " + ".join(f"{{{index}}}" for index in indexes)
        sql = " || ".join(f"{{{index}}}" for index in indexes)
        return folded(Apply("text", f"({python})", f"({sql})", given), node.place)

    def _concat(self, node: Call) -> Typed:
        if not node.arguments or (node.name == "concat_ws" and len(node.arguments) < 2):
            raise node.place.error(f"{node.name} needs more operands")
        operands = [
            cast(operand, "text", node.place) if operand.kind == "unknown" else operand
            for operand in self._operands(node)
        ]
        if node.name == "concat_ws":
            operands[0] = self._text(operands[0], node, "the separator")
        printed = tuple(
            Apply("text", OUTPUT[operand.kind], "", (operand,))
            if operand.kind in OUTPUT
            else operand
            for operand in operands
        )
        given = ", ".join(f"{{{index}}}" for index in range(len(operands)))
        logic = Apply("text", f"{node.name}({given})", "", printed, strict=False)
        return Written(logic, f"{node.name}({given})", tuple(operands))

    def _coalesce(self, node: Call) -> Typed:
        kind, operands = self._alike(node)
        return Coalesce(kind, tuple(operands))

    def _alike(self, node: Call) -> tuple[str, list[Typed]]:
        if not node.arguments:
            raise node.place.error(f"{node.name} needs operands")
        places = [argument.place for argument in node.arguments]
        return common(self._operands(node), places, node.name.upper())

    def _nullif(self, node: Call) -> Typed:
        if len(node.arguments) != 2:
            raise node.place.error("nullif takes two operands")
        places = [argument.place for argument in node.arguments]
        left, right = comparable(self._operands(node), places, "NULLIF")
        shared = Shared(left)
        nothing = Const(left.kind, None)
        logic = Choose(left.kind, ((Compare("=", shared, right), nothing),), shared)
        return Written(logic, "NULLIF({0}, {1})", (left, right))

    def _extreme(self, node: Call) -> Typed:
        kind, operands = self._alike(node)
        if kind not in COMPARABLE:
            raise node.place.error(f"{kind} has no order")
        given = ", ".join(f"{{{index}}}" for index in range(len(operands)))
        sql = f"{node.name.upper()}({given})"
        if kind in TEXTS:  # by code point inside, the ordinary collation outside
            sql = "(" + sql.replace("}", '} COLLATE "C"') + ' COLLATE "default")'
        return Apply(kind, f"{node.name}({given})", sql, tuple(operands), strict=False)

    def _extract(self, node: Call) -> Typed:
        unit, operand = node.arguments[0], self.node(node.arguments[1])
        assert isinstance(unit, Literal)
        if operand.kind not in ("date", "timestamp"):
            raise node.place.error(f"EXTRACT takes a date or timestamp, not {operand.kind}")
        parts: tuple[str, ...] = moments.DATE_PARTS
        if operand.kind == "timestamp":
            parts = (*parts, *moments.CLOCK_PARTS)
        if unit.text not in parts:
            raise node.place.error(f"EXTRACT from {operand.kind} knows {', '.join(parts)}")
        python = f"Decimal(extract_{operand.kind}('{unit.text}', {{0}}))"
        sql = f"extract({unit.text} from {{0}})::numeric"
        return folded(Apply("numeric", python, sql, (operand,)), node.place)

    def _extraction(self, node: Call) -> Typed:
        document, key = self.node(node.arguments[0]), node.arguments[1]
        assert isinstance(key, Literal)
        if document.kind not in ("json", "jsonb"):
            raise node.place.error(f"{node.name} takes json or jsonb, not {document.kind}")
        document = cast(document, "jsonb", node.place)
        function, kind = ("member_text", "text") if node.name == "->>" else ("member", "jsonb")
        operands = (document, Const("opaque", key.text))
        logic = Apply(kind, f"{function}({{0}}, {{1}})", "", operands, partial=True)
        return Written(
            logic, f"({{0}} {node.name} {{1}})", (document, Const("text", key.text.encode()))
        )
