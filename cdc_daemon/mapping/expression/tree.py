"""What an expression says, before its types are known; and the one error of this package."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal as OneOf


class ExpressionError(ValueError):
    """An expression that is not understood, not allowed, or does not fit its columns' types.

    ``line`` and ``column`` count from 1 in the expression's own text.
    """

    def __init__(self, message: str, line: int = 1, column: int = 1) -> None:
        self.message = message
        self.line = line
        self.column = column
        super().__init__(f"{message} (line {line}, column {column} of the expression)")


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the text something stands, from 1."""

    line: int
    column: int

    def error(self, message: str) -> ExpressionError:
        """An error that points here."""
        return ExpressionError(message, self.line, self.column)


def place_of(text: str, offset: int) -> Place:
    """Line and column of a character offset."""
    before = text[:offset]
    return Place(before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1)


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant as written: the digits of a number, the content of a string, TRUE, FALSE, NULL."""

    kind: OneOf["string", "number", "boolean", "null"]
    text: str
    place: Place


@dataclass(frozen=True, slots=True)
class Column:
    """A source column, its name folded as PostgreSQL folds it."""

    name: str
    place: Place


@dataclass(frozen=True, slots=True)
class Call:
    """An operator or a function by its lower-case name, with its operands."""

    name: str
    arguments: tuple[Node, ...]
    place: Place


@dataclass(frozen=True, slots=True)
class Cast:
    """``CAST(value AS type)``; ``parameters`` are the numbers in the type's parentheses."""

    value: Node
    type: str
    parameters: tuple[int, ...]
    place: Place


@dataclass(frozen=True, slots=True)
class Case:
    """CASE in either form; ``default`` None is ELSE NULL."""

    operand: Node | None
    whens: tuple[tuple[Node, Node], ...]
    default: Node | None
    place: Place


Node = Literal | Column | Call | Cast | Case
