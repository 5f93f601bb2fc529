"""What sqlglot's tokens must look like before its parser sees them, and be found again after it.

Its parser skips comments and knows operators of many dialects, so the signs are an allow-list here;
nesting is bounded before recursion begins.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from sqlglot import exp
from sqlglot.tokenizer_core import Token, TokenType

from cdc_daemon.mapping.expression.tree import ExpressionError, Place, place_of

MAX_TOKENS = 2_000
MAX_NESTING = 24  # parentheses, CASE and prefix operators open at one place

_OPERATORS = frozenset(
    {"+", "-", "*", "/", "%", "||", "=", "<>", "!=", "<", "<=", ">", ">=", "::", "->", "->>"}
    | {"(", ")", ","}
)
_WORD = re.compile(r"[^\W\d][\w$]*")
_NUMBER = re.compile(r"(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,4})?")
_PREFIXES = frozenset({TokenType.NOT, TokenType.DASH, TokenType.PLUS})
_LITERALS = frozenset({TokenType.STRING, TokenType.NUMBER})


def untokenized(text: str) -> ExpressionError:
    """Why a text does not even fall into tokens."""
    for quote, what in (("'", "string"), ('"', "quoted name")):
        if text.count(quote) % 2:
            return place_of(text, text.rfind(quote)).error(f"the {what} does not end")
    return ExpressionError("the expression cannot be read")


def check_tokens(text: str, tokens: Sequence[Token]) -> None:
    """Refuse what no allowed expression contains, and nesting that parsing should not meet."""
    if not tokens:
        raise ExpressionError("the expression is empty")
    if len(tokens) > MAX_TOKENS:
        raise ExpressionError(f"the expression has more than {MAX_TOKENS} words and signs")
    for index, token in enumerate(tokens):
        place = place_of(text, token.start)
        following = tokens[index + 1].start if index + 1 < len(tokens) else len(text)
        if token.comments or text[token.end + 1 : following].strip():
            raise place.error("comments are not allowed in an expression")
        _check_token(token, place)
        if token.token_type is TokenType.R_PAREN and tokens[index - 1].text == ",":
            raise place.error("something is missing after ','")
    if (gap := text[: tokens[0].start]).strip():
        raise place_of(text, len(gap) - len(gap.lstrip())).error("comments are not allowed")
    _check_nesting(text, tokens)


def _check_token(token: Token, place: Place) -> None:
    kind, word = token.token_type, token.text
    if kind in (TokenType.STRING, TokenType.IDENTIFIER):
        if "\0" in word:
            raise place.error("a NUL character cannot be in a PostgreSQL text")
    elif kind is TokenType.NUMBER:
        if not _NUMBER.fullmatch(word):
            raise place.error(f"{word!r} is no number")
    elif kind is TokenType.DOT:
        raise place.error("write columns without their table, and 0.5 rather than .5")
    elif kind is TokenType.SEMICOLON:
        raise place.error("an expression is no statement: ';' is not allowed")
    elif not (word.lower() in _OPERATORS or _WORD.fullmatch(word) or " " in word):
        raise place.error(f"{word!r} is not allowed in an expression")


def _check_nesting(text: str, tokens: Iterable[Token]) -> None:
    depth = prefixes = 0
    for token in tokens:
        kind = token.token_type
        prefixes = prefixes + 1 if kind in _PREFIXES else 0
        if kind in (TokenType.L_PAREN, TokenType.CASE):
            depth += 1
        elif kind in (TokenType.R_PAREN, TokenType.END):
            depth -= 1
        if depth + prefixes > MAX_NESTING:
            raise place_of(text, token.start).error(
                f"the expression is nested more than {MAX_NESTING} levels deep"
            )


def check_literals(tokens: Iterable[Token], root: exp.Expression) -> None:
    """Every literal of the text must be in the tree: nothing the parser drops goes unnoticed."""
    written = Counter(_literal_text(token) for token in tokens if token.token_type in _LITERALS)
    found = Counter(
        str(node.this) for node in root.walk() if isinstance(node, exp.Literal | exp.JSONPathKey)
    )
    if written - found:
        raise ExpressionError("a part of the expression is not understood; write it more simply")


def _literal_text(token: Token) -> str:
    number = token.token_type is TokenType.NUMBER
    return "0" + token.text if number and token.text.startswith(".") else token.text
