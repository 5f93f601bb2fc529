"""Text → tree: PostgreSQL's dialect parsed by sqlglot, then only what the allow-list names.

sqlglot is made to know no functions, so that every call arrives with its name and exactly the
arguments that were written. Its parser is lenient elsewhere (comments, ``{fn ...}``, ``==``), so
tokens are checked before it sees them, every argument of every node it makes must be one that is
expected here, and every literal of the text must turn up in the tree. Limits bound recursion before
it happens. Not in here: types (expression/check). Importing this module imports sqlglot (200 ms).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import ClassVar

from sqlglot import exp
from sqlglot.dialects.postgres import Postgres
from sqlglot.errors import ParseError, TokenError
from sqlglot.parsers.postgres import PostgresParser
from sqlglot.tokenizer_core import TokenType

from cdc_daemon.mapping.expression.tokens import check_literals, check_tokens, untokenized
from cdc_daemon.mapping.expression.tree import (
    Call,
    Case,
    Cast,
    Column,
    ExpressionError,
    Literal,
    Node,
    Place,
    place_of,
)

logging.getLogger("sqlglot").disabled = True  # what it complains of is told as our own error

MAX_LENGTH = 10_000  # characters
MAX_DEPTH = 40  # levels of the tree; AND, OR and || chains count as one

_SYNTAX_FUNCTIONS = frozenset({"CAST", "EXTRACT", "POSITION", "SUBSTRING", "TRIM"})


class _Subset(Postgres):
    """PostgreSQL without any function or command of sqlglot's own: a column may be called
    ``comment`` or ``show``."""

    class Tokenizer(Postgres.Tokenizer):
        COMMANDS: ClassVar[set[TokenType]] = set()

    class Parser(PostgresParser):
        NO_PAREN_IF_COMMANDS = False
        NO_PAREN_FUNCTION_PARSERS: ClassVar[dict[str, Callable[..., exp.Expression | None]]] = {
            name: PostgresParser.NO_PAREN_FUNCTION_PARSERS[name] for name in ("ANY", "CASE")
        }
        FUNCTIONS: ClassVar[dict[str, Callable[..., exp.Expression]]] = {}
        FUNCTION_PARSERS: ClassVar[dict[str, Callable[..., exp.Expression | None]]] = {
            name: parse
            for name, parse in PostgresParser.FUNCTION_PARSERS.items()
            if name in _SYNTAX_FUNCTIONS
        }


def read(text: str) -> Node:
    """The tree of an expression. Raises ExpressionError."""
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"the expression is longer than {MAX_LENGTH} characters")
    dialect = _Subset()
    try:
        tokens = dialect.tokenize(text)
    except TokenError:
        raise untokenized(text) from None
    check_tokens(text, tokens)
    try:
        statements = dialect.parse_into(exp.Condition, text)
    except ParseError as error:
        raise _unparsed(text, error) from None
    except RecursionError:
        raise ExpressionError("the expression is nested too deeply") from None
    root = statements[0] if len(statements) == 1 else None
    if not isinstance(root, exp.Expression):
        raise ExpressionError("there is no expression")
    check_literals(tokens, root)
    return _Reader(text).node(root)


def _unparsed(text: str, error: ParseError) -> ExpressionError:
    found = error.errors[0] if error.errors else {}
    highlight = str(found.get("highlight") or "")
    line, column = int(found.get("line") or 1), int(found.get("col") or 1)
    place = Place(line, max(column - len(highlight) + 1, 1))
    description = str(found.get("description") or "")
    if "missing for" in description or description.startswith("Expected"):
        return place.error(f"something is missing after {highlight!r}")
    if description.startswith("Expecting"):
        return place.error(f"{description.removeprefix('Expecting ')!r} is missing here")
    hint = ""
    if highlight.upper() in _Subset.Tokenizer.KEYWORDS and highlight.isidentifier():
        hint = f'; a column of that name is written "{fold(highlight)}", in double quotes'
    return place.error(f"{highlight!r} is not expected here{hint}")


_BINARY: dict[type[exp.Expression], str] = {
    exp.Add: "+", exp.Sub: "-", exp.Mul: "*", exp.Div: "/", exp.Mod: "%",
    exp.EQ: "=", exp.NEQ: "<>", exp.LT: "<", exp.LTE: "<=", exp.GT: ">", exp.GTE: ">=",
    exp.NullSafeEQ: "is not distinct from", exp.NullSafeNEQ: "is distinct from",
    exp.Like: "like", exp.ILike: "ilike",
}  # fmt: skip
_CHAINS: dict[type[exp.Expression], str] = {exp.And: "and", exp.Or: "or", exp.DPipe: "||"}
_COMPARISONS = (exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE)
_EXTRACTIONS: dict[type[exp.Expression], str] = {
    exp.JSONExtract: "->",
    exp.JSONExtractScalar: "->>",
}
_IGNORED = {"safe", "typed", "only_json_types", "_type", "nested", "is_string", "quoted"}
_TYPES: dict[exp.DType, str] = {
    exp.DType.SMALLINT: "smallint", exp.DType.INT: "integer", exp.DType.BIGINT: "bigint",
    exp.DType.DECIMAL: "numeric", exp.DType.DOUBLE: "double", exp.DType.BOOLEAN: "boolean",
    exp.DType.TEXT: "text", exp.DType.VARCHAR: "varchar", exp.DType.DATE: "date",
    exp.DType.TIME: "time", exp.DType.TIMESTAMP: "timestamp", exp.DType.TIMESTAMPTZ: "timestamptz",
    exp.DType.UUID: "uuid", exp.DType.JSON: "json", exp.DType.JSONB: "jsonb",
    exp.DType.VARBINARY: "bytes",
}  # fmt: skip


class _Reader:
    """Turns sqlglot's tree into ours, one allowed node after the other."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._depth = 0
        self._forms: dict[type[exp.Expression], Callable[[exp.Expression], Node]] = {
            exp.Literal: self._literal,
            exp.Boolean: lambda e: Literal("boolean", str(bool(e.this)), self._place(e)),
            exp.Null: lambda e: Literal("null", "NULL", self._place(e)),
            exp.Column: self._column,
            exp.Not: lambda e: self._call("not", e, e.this),
            exp.Neg: lambda e: self._call("-", e, e.this),
            exp.Is: self._is,
            exp.Escape: self._escape,
            exp.Between: self._between,
            exp.In: self._in,
            exp.Case: self._case,
            exp.Cast: self._cast,
            exp.Anonymous: self._function,
            exp.Substring: lambda e: self._call(
                "substring", e, e.this, e.args.get("start"), e.args.get("length")
            ),
            exp.StrPosition: lambda e: self._call("strpos", e, e.this, e.args.get("substr")),
            exp.Trim: self._trim,
            exp.Extract: self._extract,
            **dict.fromkeys(_BINARY, self._binary),
            **dict.fromkeys(_CHAINS, self._chain),
            **dict.fromkeys(_EXTRACTIONS, self._extraction),
        }

    def node(self, expression: exp.Expression) -> Node:
        """Our node for sqlglot's. Raises ExpressionError for what is not allowed."""
        while isinstance(expression, exp.Paren):
            expression = expression.this
        form = self._forms.get(type(expression))
        if form is None:
            raise self._refusal(expression)
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._place(expression).error(
                f"the expression is more than {MAX_DEPTH} levels deep"
            )
        try:
            return form(expression)
        finally:
            self._depth -= 1

    def _place(self, expression: exp.Expression) -> Place:
        """Where a node begins: its own mark, else that of the first part that has one."""
        starts = [
            start
            for node in expression.walk()
            if isinstance(start := node.meta.get("start"), int)
        ]  # fmt: skip
        return place_of(self._text, min(starts) if starts else 0)

    def _refusal(self, expression: exp.Expression) -> ExpressionError:
        if isinstance(expression, (exp.Query, exp.Subquery, exp.DDL, exp.DML)):
            return self._place(expression).error("subqueries and statements are not allowed")
        if isinstance(expression, exp.Alias):
            alias = expression.args["alias"]
            return self._place(alias).error(f"{str(alias.this)!r} is not expected here")
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(expression).__name__).upper()
        return self._place(expression).error(f"{name} is not allowed in an expression")

    def _only(self, expression: exp.Expression, *names: str) -> None:
        """Refuse a node that carries anything but these arguments."""
        for name, value in expression.args.items():
            if name not in names and name not in _IGNORED and value not in (None, False, []):
                raise self._place(expression).error(
                    f"{name.replace('_', ' ').upper()} is not allowed here"
                )

    def _operand(self, expression: exp.Expression) -> Node:
        """An operand that binds tighter than NOT, as it would in PostgreSQL."""
        if isinstance(expression, (exp.Not, exp.And, exp.Or)):
            raise self._place(expression).error("a condition inside a condition needs parentheses")
        return self.node(expression)

    def _call(self, name: str, whole: exp.Expression, *parts: exp.Expression | None) -> Call:
        self._only(whole, "this", "expression", "start", "length", "substr")
        arguments = tuple(self.node(part) for part in parts if part is not None)
        return Call(name, arguments, self._place(whole))

    def _literal(self, expression: exp.Expression) -> Node:
        place, text = self._place(expression), str(expression.this)
        return Literal("string" if expression.args.get("is_string") else "number", text, place)

    def _column(self, expression: exp.Expression) -> Node:
        identifier = expression.this
        if not isinstance(identifier, exp.Identifier) or expression.args.get("table"):
            raise self._place(expression).error("write a column's bare name, without a table")
        self._only(expression, "this")
        name = str(identifier.this)
        return Column(
            name if identifier.args.get("quoted") else fold(name), self._place(expression)
        )

    def _binary(self, expression: exp.Expression) -> Node:
        left, right = expression.this, expression.expression
        if isinstance(expression, _COMPARISONS) and isinstance(left, _COMPARISONS):
            raise self._place(expression).error("comparisons in a row need parentheses")
        if isinstance(expression, _COMPARISONS) and isinstance(right, _COMPARISONS):
            raise self._place(right).error("comparisons in a row need parentheses")
        self._only(expression, "this", "expression", "negate")
        arguments = (self._operand(left), self._operand(right))
        call = Call(_BINARY[type(expression)], arguments, self._place(expression))
        return self._negated(expression, call)

    def _negated(self, expression: exp.Expression, call: Call) -> Call:
        return Call("not", (call,), call.place) if expression.args.get("negate") else call

    def _chain(self, expression: exp.Expression) -> Node:
        """``a AND b AND c`` as one node, however long."""
        parts: list[exp.Expression] = []
        kind = type(expression)
        rest: exp.Expression = expression
        while type(rest) is kind:
            self._only(rest, "this", "expression")
            parts.append(rest.expression)
            rest = rest.this
        read = self._operand if kind is exp.DPipe else self.node
        arguments = tuple(read(part) for part in (rest, *reversed(parts)))
        return Call(_CHAINS[kind], arguments, self._place(expression))

    def _is(self, expression: exp.Expression) -> Node:
        self._only(expression, "this", "expression", "negate")
        what = expression.expression
        if isinstance(what, exp.Null):
            name = "is null"
        elif isinstance(what, exp.Boolean):
            name = "is true" if what.this else "is false"
        else:
            raise self._place(expression).error("only NULL, TRUE, FALSE, UNKNOWN can follow IS")
        call = Call(name, (self._operand(expression.this),), self._place(expression))
        return self._negated(expression, call)

    def _escape(self, expression: exp.Expression) -> Node:
        like, sign = expression.this, expression.expression
        if not isinstance(like, (exp.Like, exp.ILike)):
            raise self._place(expression).error("ESCAPE belongs to LIKE or ILIKE")
        self._only(like, "this", "expression", "negate")
        self._only(expression, "this", "expression")
        arguments = tuple(map(self._operand, (like.this, like.expression, sign)))
        call = Call(_BINARY[type(like)], arguments, self._place(expression))
        return self._negated(like, call)

    def _between(self, expression: exp.Expression) -> Node:
        self._only(expression, "this", "low", "high")
        parts = (expression.this, expression.args["low"], expression.args["high"])
        return Call("between", tuple(map(self._operand, parts)), self._place(expression))

    def _in(self, expression: exp.Expression) -> Node:
        if expression.args.get("query") or expression.args.get("field"):
            raise self._place(expression).error("IN takes a list of values in parentheses")
        self._only(expression, "this", "expressions")
        items = expression.expressions
        if not items:
            raise self._place(expression).error("IN needs at least one value")
        arguments = (self._operand(expression.this), *map(self.node, items))
        return Call("in", arguments, self._place(expression))

    def _case(self, expression: exp.Expression) -> Node:
        self._only(expression, "this", "ifs", "default")
        operand, default = expression.args.get("this"), expression.args.get("default")
        whens = tuple(
            (self.node(branch.this), self.node(branch.args["true"]))
            for branch in expression.args["ifs"]
        )
        return Case(
            self.node(operand) if operand else None,
            whens,
            self.node(default) if default else None,
            self._place(expression),
        )

    def _cast(self, expression: exp.Expression) -> Node:
        self._only(expression, "this", "to")
        place, target = self._place(expression), expression.args["to"]
        name = _TYPES.get(target.this)
        if name is None or target.args.get("kind"):
            raise place.error(f"there is no cast to {target.sql('postgres').lower()} here{_HINT}")
        parameters = tuple(self._parameter(part) for part in target.expressions)
        return Cast(self.node(expression.this), name, parameters, place)

    def _parameter(self, part: exp.Expression) -> int:
        number = str(part.this.this) if isinstance(part, exp.DataTypeParam) else ""
        if not number.isdecimal() or len(number) > 8:
            raise self._place(part).error("a type's parameters are whole numbers")
        return int(number)

    def _function(self, expression: exp.Expression) -> Node:
        self._only(expression, "this", "expressions")
        arguments = tuple(self.node(part) for part in expression.expressions)
        return Call(fold(str(expression.this)), arguments, self._place(expression))

    def _trim(self, expression: exp.Expression) -> Node:
        self._only(expression, "this", "expression", "position")
        names = {"LEADING": "ltrim", "TRAILING": "rtrim", "BOTH": "btrim", None: "btrim"}
        parts = [expression.this, expression.args.get("expression")]
        arguments = tuple(self.node(part) for part in parts if part is not None)
        return Call(names[expression.args.get("position")], arguments, self._place(expression))

    def _extract(self, expression: exp.Expression) -> Node:
        self._only(expression, "this", "expression")
        place = self._place(expression)
        unit = Literal("string", str(expression.this.this).lower(), place)
        return Call("extract", (unit, self.node(expression.expression)), place)

    def _extraction(self, expression: exp.Expression) -> Node:
        self._only(expression, "this", "expression")
        place, path = self._place(expression), expression.expression
        keys = path.expressions[1:] if isinstance(path, exp.JSONPath) else []
        if (
            len(keys) != 1
            or not isinstance(keys[0], exp.JSONPathKey)
            or not isinstance(keys[0].this, str)
        ):
            raise place.error("the key after -> or ->> must be one string literal")
        key = Literal("string", keys[0].this, place)
        return Call(_EXTRACTIONS[type(expression)], (self.node(expression.this), key), place)


_HINT = "; allowed are " + ", ".join(sorted({*_TYPES.values()} - {"bytes"}))


def fold(name: str) -> str:
    """An unquoted name in lower case, ASCII only, as PostgreSQL folds it in UTF-8."""
    return name.lower() if name.isascii() else re.sub("[A-Z]+", lambda m: m[0].lower(), name)
