"""``expr`` and ``where`` of a mapping: a subset of PostgreSQL's SQL, parsed, checked, compiled.

::

    text ─ syntax ─▶ tree ─ check ─▶ typed ─┬─ generate ─▶ a Python function of column texts
           (sqlglot)        (column types)  └─ render ───▶ SQL for the source

What is understood: string and number literals, TRUE, FALSE, NULL, DATE '...', TIMESTAMP '...';
columns; ``+ - * / %``, ``||``, comparisons, AND OR NOT, IS [NOT] NULL/TRUE/FALSE/UNKNOWN,
IS [NOT] DISTINCT FROM, BETWEEN, IN, LIKE and ILIKE with ESCAPE, CASE, CAST and ``::``,
``->`` and ``->>`` with a key; COALESCE NULLIF GREATEST LEAST ROUND TRUNC CEIL FLOOR ABS MOD UPPER
LOWER TRIM LTRIM RTRIM BTRIM LENGTH SUBSTRING LEFT RIGHT REPLACE CONCAT CONCAT_WS LPAD RPAD
SPLIT_PART POSITION STRPOS EXTRACT. Everything else is refused with line and column.

Values are PostgreSQL's: three-valued logic, exact decimals with its scales, integer overflow is an
error. Chosen where PostgreSQL depends on a server's settings:

* texts are ordered by code point (``COLLATE "C"``), char(n) without its padding;
* UPPER, LOWER and ILIKE map every letter of Unicode that has one counterpart; a server whose
  locale is C or lacks a letter differs, which only a verification would notice;
* texts are cast strictly: ISO dates, ``t/true/yes/on/1``; timestamptz must carry an offset;
* NaN and infinities of number columns are data errors in an expression that reads them;
* real columns calculate as double precision.

docs/expressions.md says the same to administrators. sqlglot is imported by the first :func:`parse`.
"""

from __future__ import annotations

from cdc_daemon.mapping.expression.parsed import Expression, columns_of
from cdc_daemon.mapping.expression.tree import ExpressionError

__all__ = ["Expression", "ExpressionError", "parse"]


def parse(text: str) -> Expression:
    """Parse an expression. Raises ExpressionError with line and column."""
    from cdc_daemon.mapping.expression.syntax import read

    tree = read(text)
    return Expression(text, tree, frozenset(columns_of(tree)))
