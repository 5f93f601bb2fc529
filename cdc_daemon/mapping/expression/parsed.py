"""An expression as the mapping uses it: its columns, its type, its function, its SQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from cdc_daemon.mapping.expression.check import check, check_condition
from cdc_daemon.mapping.expression.generate import predicate_function, value_function
from cdc_daemon.mapping.expression.render import render
from cdc_daemon.mapping.expression.tree import (
    Call,
    Case,
    Cast,
    Column,
    ExpressionError,
    Node,
)
from cdc_daemon.mapping.expression.typed import Typed
from cdc_daemon.model.changes import ColumnType

Types = Mapping[str, ColumnType]
NullTexts = frozenset[bytes]
"""Texts that mean NULL in columns of a text type; a char column's without its padding."""


@dataclass(frozen=True, slots=True)
class Expression:
    """A parsed expression, not yet bound to a table. Equal texts are equal expressions.

    ``columns``: the source columns it reads, unquoted names in lower case. The methods take the
    types of (at least) those columns and raise ExpressionError where they do not fit.
    """

    text: str
    tree: Node
    columns: frozenset[str]

    def check(self, types: Types) -> ColumnType:
        """The type of the value: a ColumnType by name, without length or scale."""
        return ColumnType(_column_type(self._typed(types)))

    def check_predicate(self, types: Types) -> None:
        """Check that it is a condition. Raises ExpressionError."""
        check_condition(self.tree, types)

    def complaints(self, *, condition: bool = False) -> list[ExpressionError]:
        """Everything that is wrong with it whatever the columns' types are."""
        from cdc_daemon.mapping.expression.untyped import complaints

        return list(complaints(self.tree, condition=condition))

    def compile(self, types: Types, nulls: NullTexts = frozenset()) -> Callable[..., bytes | None]:
        """A function of the columns' texts (or None), in the order of ``sorted(columns)``.

        It returns the value as PostgreSQL prints it (booleans ``t`` and ``f``), None for NULL, and
        raises DataError with code ``expression`` where the value does not exist (division by zero,
        overflow, a text that is no date ...).
        """
        return value_function(self._typed(types), sorted(self.columns), nulls)

    def compile_predicate(
        self, types: Types, nulls: NullTexts = frozenset()
    ) -> Callable[..., bool]:
        """The same for a ``where``: True only where SQL says TRUE."""
        return predicate_function(check_condition(self.tree, types), sorted(self.columns), nulls)

    def sql(self, quote: Callable[[str], str], types: Types, nulls: NullTexts = frozenset()) -> str:
        """The same expression for PostgreSQL; ``quote`` writes a column name.

        The session needs TimeZone UTC, DateStyle ISO, IntervalStyle postgres,
        standard_conforming_strings on. For a where it is a boolean SQL expression.
        """
        return render(self._typed(types), quote, nulls)

    def _typed(self, types: Types) -> Typed:
        return check(self.tree, types)


def _column_type(typed: Typed) -> str:
    return "text" if typed.kind == "char" else typed.kind


def columns_of(node: Node) -> Iterator[str]:
    """The names of the columns in a tree."""
    match node:
        case Column():
            yield node.name
        case Call():
            for argument in node.arguments:
                yield from columns_of(argument)
        case Cast():
            yield from columns_of(node.value)
        case Case():
            for part in (node.operand, node.default, *(p for pair in node.whens for p in pair)):
                if part is not None:
                    yield from columns_of(part)
        case _:
            return
