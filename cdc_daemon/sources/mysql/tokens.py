"""SQL text of MySQL and MariaDB in tokens: names, words, strings, signs; comments are passed over.

``/*!80013 …*/`` and ``/*M!100100 …*/`` are code for a server of that version, else a comment; for
MariaDB, ``/*!50700`` to ``/*!99999`` are a comment, being meant for MySQL. Tokens come one at a
time, so that of an INSERT of megabytes only the head is looked at. Source: "Comments" and "Literal
Values" of MySQL's manual, "Comment Syntax" of MariaDB's.
"""

from __future__ import annotations

import enum
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple, Self

_MYSQL_ONLY: Final = range(50700, 100000)


class Sort(enum.Enum):
    """Sorts of tokens."""

    WORD = "word"  # a keyword, a number, or a name without quotes
    NAME = "name"  # a name in quotes
    STRING = "string"
    HEX = "hex"
    SIGN = "sign"


class Token(NamedTuple):
    """``text``: of a word or sign as it stands; of the others, what is within the quotes."""

    sort: Sort
    text: str

    def says(self, *words: str) -> bool:
        """Whether it is one of these keywords or signs, which are given in capitals."""
        return self.sort in (Sort.WORD, Sort.SIGN) and self.text.upper() in words


END: Final = Token(Sort.SIGN, "")


@dataclass(frozen=True, slots=True)
class TableName:
    """A table; in small letters where the server compares names so."""

    schema: str
    table: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How a server reads a statement. ``version``: 101119 for 10.11.19, 90704 for 9.7.4.

    ``lower``: names of schemas and tables are compared in small letters
    (``lower_case_table_names`` is 1 or 2).
    """

    mariadb: bool
    version: int
    lower: bool = False
    ansi_quotes: bool = False
    no_backslash_escapes: bool = False


class NotUnderstood(Exception):
    """The text cannot be cut into tokens, or is no statement that is known."""


def tokens(sql: str, dialect: Dialect) -> Iterator[Token]:
    """The tokens of a statement. Raises NotUnderstood where a quote is not closed."""
    pattern = _pattern(dialect.no_backslash_escapes)
    within, offset = 0, 0
    while offset < len(sql):
        found = pattern.match(sql, offset)
        assert found is not None  # any sign matches
        offset = found.end()
        kind, text = found.lastgroup, found[0]
        if kind == "open":
            if _executed(found, dialect):
                within += 1
            else:
                offset = _comment_end(sql, offset)
        elif kind == "close" and within:
            within -= 1
        elif kind != "space":
            yield _token(kind, text, dialect)


def _token(kind: str | None, text: str, dialect: Dialect) -> Token:
    if kind == "word":
        return Token(Sort.WORD, text)
    if kind == "hex":
        return Token(Sort.HEX, text[2:-1])
    if kind == "back" or (kind == "double" and dialect.ansi_quotes):
        return Token(Sort.NAME, text[1:-1].replace(text[0] * 2, text[0]))
    if kind in ("double", "single"):
        return Token(Sort.STRING, text[1:-1])
    if text in "'\"`":
        raise NotUnderstood
    return Token(Sort.SIGN, text)


def _executed(found: re.Match[str], dialect: Dialect) -> bool:
    """Whether what stands in a conditional comment is code."""
    if found["maria"] and not dialect.mariadb:
        return False
    if not found["version"]:
        return True
    version = int(found["version"])
    if dialect.mariadb and not found["maria"] and version in _MYSQL_ONLY:
        return False
    return version <= dialect.version


def _comment_end(sql: str, offset: int) -> int:
    end = sql.find("*/", offset)
    if end < 0:
        raise NotUnderstood
    return end + 2


@functools.cache
def _pattern(no_backslash_escapes: bool) -> re.Pattern[str]:
    within, escaped = ("", "") if no_backslash_escapes else (r"\\", r"|\\.")
    return re.compile(
        r"(?P<space>\s+|--(?=\s|\Z)[^\n]*|\#[^\n]*|/\*(?!M?!).*?\*/)"
        r"|(?P<open>/\*(?P<maria>M)?!(?P<version>[0-9]{5,6})?)"
        r"|(?P<close>\*/)"
        r"|(?P<hex>[xX]'[0-9a-fA-F]*')"
        r"|(?P<word>[A-Za-z0-9_$\u0080-\U0010ffff]+)"
        r"|(?P<back>`[^`]*(?:``[^`]*)*`)"
        rf'|(?P<double>"[^"{within}]*(?:(?:""{escaped})[^"{within}]*)*")'
        rf"|(?P<single>'[^'{within}]*(?:(?:''{escaped})[^'{within}]*)*')"
        r"|(?P<sign>.)",
        re.DOTALL | re.ASCII,
    )


class Reader:
    """Tokens with one ahead, and what is made of several: tables, clauses."""

    def __init__(self, found: Iterator[Token], *, schema: str, lower: bool) -> None:
        self._tokens = found
        self._schema = schema
        self._lower = lower
        self._ahead: Token | None = None

    @classmethod
    def of(cls, sql: str, dialect: Dialect, schema: str) -> Self:
        """A reader of a statement. ``schema``: the default one of its session."""
        return cls(tokens(sql, dialect), schema=schema, lower=dialect.lower)

    @property
    def ahead(self) -> Token:
        """The token that comes next; ``END`` at the end."""
        if self._ahead is None:
            self._ahead = next(self._tokens, END)
        return self._ahead

    def take(self) -> Token:
        """The token ahead, which is then behind."""
        found, self._ahead = self.ahead, None
        return found

    def has(self, *words: str) -> bool:
        """Pass over these words if the first of them is ahead; then the others must follow."""
        if not self.ahead.says(words[0]):
            return False
        for word in words:
            self.must(word)
        return True

    def must(self, word: str) -> None:
        """Pass over a word, which must be ahead."""
        if not self.take().says(word):
            raise NotUnderstood

    def word(self) -> str:
        """The word ahead, in capitals."""
        found = self.take()
        if found.sort is not Sort.WORD:
            raise NotUnderstood
        return found.text.upper()

    def name(self) -> str:
        """A name, quoted or not."""
        found = self.take()
        if found.sort not in (Sort.WORD, Sort.NAME):
            raise NotUnderstood
        return found.text

    def schema(self) -> str:
        """A schema's name."""
        return self._fold(self.name())

    def table(self) -> TableName:
        """``table`` or ``schema.table``."""
        first = self.name()
        if self.has("."):
            return TableName(self._fold(first), self._fold(self.name()))
        return TableName(self._fold(self._schema), self._fold(first))

    def tables(self) -> tuple[TableName, ...]:
        """Tables with commas between them."""
        found = [self.table()]
        while self.has(","):
            found.append(self.table())
        return tuple(found)

    def clauses(self) -> Iterator[Reader]:
        """What is left, cut at the commas that stand in no parentheses."""
        clause: list[Token] = []
        depth = 0
        while (found := self.take()) != END:
            depth += found.says("(") - found.says(")")
            if depth == 0 and found.says(","):
                yield self._part(clause)
                clause = []
            else:
                clause.append(found)
        yield self._part(clause)

    def _part(self, clause: list[Token]) -> Reader:
        return Reader(iter(clause), schema=self._schema, lower=self._lower)

    def _fold(self, name: str) -> str:
        return name.lower() if self._lower else name
