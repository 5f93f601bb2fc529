"""What an expression may say, what it is told otherwise, and what it costs."""

import contextlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc_daemon.mapping.expression import Expression, ExpressionError, parse
from cdc_daemon.mapping.expression.functions import FORMS, FUNCTIONS
from cdc_daemon.mapping.expression.texts import like
from cdc_daemon.model.changes import ColumnType
from cdc_daemon.model.errors import DataError
from tests.support.expressions import TYPES

HOSTILE = [
    ("", 1, 1),
    ("   \n ", 1, 1),
    ("i; DROP TABLE x", 1, 2),
    ("i;", 1, 2),
    ("SELECT 1", 1, 1),
    ("DROP TABLE x", 1, 1),
    ("i = (SELECT 1)", 1, 13),
    ("i IN (SELECT 1)", 1, 1),
    ("EXISTS (SELECT 1)", 1, 16),
    ("i -- comment", 1, 1),
    ("i /* comment */ = 1", 1, 1),
    ("/* comment */ i", 1, 15),
    ("__import__('os')", 1, 1),
    ("i.__class__", 1, 2),
    ("pg_sleep(10)", 1, 1),
    ("nextval('s')", 1, 1),
    ("now()", 1, 1),
    ("current_date", 1, 1),
    ("current_user", 1, 1),
    ("random()", 1, 1),
    ("lo_import('/etc/passwd')", 1, 1),
    ("count(*)", 1, 7),
    ("sum(i) OVER ()", 1, 1),
    ("public.secret.i", 1, 7),
    ("s.i", 1, 2),
    ("*", 1, 1),
    ("i AS j", 1, 3),
    ("i j", 1, 3),
    ("ARRAY[1]", 1, 6),
    ("i[1]", 1, 2),
    ("(1, 2)", 1, 2),
    ("ROW(1, 2)", 1, 1),
    ("$1", 1, 1),
    (":name", 1, 1),
    ("?", 1, 1),
    ("@x", 1, 1),
    ("{fn length(t)}", 1, 1),
    ("t ~ 'a+'", 1, 3),
    ("t SIMILAR TO 'a'", 1, 1),
    ("i ^ 2", 1, 3),
    ("i & 1", 1, 3),
    ("i == 1", 1, 3),
    ("!f", 1, 1),
    ("i <=> 1", 1, 3),
    ("E'\\n'", 1, 1),
    ("$$text$$", 1, 1),
    ("U&'a'", 1, 1),
    ("X'ff'", 1, 1),
    ("B'1'", 1, 1),
    ("'a' 'b'", 1, 1),
    ("'open", 1, 1),
    ('"open', 1, 1),
    ("'\0'", 1, 1),
    ("i\0", 1, 1),
    ("(i", 1, 2),
    ("i)", 1, 2),
    ("i +", 1, 3),
    ("i AND", 1, 3),
    ("COALESCE(i,)", 1, 12),
    ("i IN ()", 1, 1),
    ("i = 1 = f", 1, 1),
    ("NOT t IS NULL || 'a' IS NULL", 1, 5),
    ("i NOT IN (1) = f", 1, 1),
    ("i < b < n", 1, 1),
    ("i BETWEEN SYMMETRIC 1 AND 2", 1, 1),
    ('t COLLATE "C"', 1, 1),
    ("e AT TIME ZONE 'UTC'", 1, 1),
    ("INTERVAL '1 day'", 1, 1),
    ("i::money", 1, 1),
    ("i::text[]", 1, 8),
    ("i::numeric(x)", 1, 1),
    ("1_000", 1, 2),
    (".5", 1, 1),
    ("1e", 1, 1),
    ("1e99999", 1, 1),
    ("LENGTH(DISTINCT t)", 1, 17),
    ("UPPER(t ORDER BY i)", 1, 7),
    ("t LIKE ANY (t)", 1, 13),
    ("IF(f, 1, 2)", 1, 1),
    ("j #>> '{a}'", 1, 3),
    ("j ->> t", 1, 1),
    ("j ->> 0", 1, 1),
    ("i IS 5", 1, 1),
    ("😀", 1, 1),
    ("(" * 25 + "i" + ")" * 25, 1, 25),
    ("NOT " * 30 + "f", 1, 97),
    ("- " * 30 + "i", 1, 49),
    ("CASE WHEN f THEN " * 30 + "1" + " END" * 30, 1, 409),
    ("+".join(["i"] * 60), 1, 1),
    ("i + " * 3000 + "1", 1, 1),
    ("x" * 10_001, 1, 1),
    ("\n\n   i = \n  nosuch(1)", 4, 3),
]


@pytest.mark.parametrize("text, line, column", HOSTILE, ids=lambda value: repr(value)[:30])
def test_refused_with_line_and_column(text: str, line: int, column: int) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse(text).check(TYPES)
    assert (caught.value.line, caught.value.column) == (line, column), caught.value


WRONG = [
    ("nosuch = 1", "no column 'nosuch'"),
    ("FNAME = 'x'", "did you mean 'fname'"),
    ("uper(fname)", "did you mean 'upper'"),
    ("i = t", "mixes integer and text; CAST"),
    ("t > 5", "mixes text and integer"),
    ("f = 1", "mixes boolean and integer"),
    ("d = z", "mixes date and timestamptz"),
    ("e < z", "mixes timestamp and timestamptz"),
    ("j = j", "jsonb values cannot be compared"),
    ("i = 'seven'", "the text is no integer"),
    ("d = '2023-02-29'", "the text is no date"),
    ("i + t", r"\+ needs numbers, not text"),
    ("d + d", r"dates take \+ and -"),
    ("i || b", "needs text on one side"),
    ("UPPER(i)", r"upper takes \(text\), not \(integer\)"),
    ("SUBSTRING(t, 1, 2, 3)", "ZERO START is not allowed"),
    ("LENGTH(t, v)", "length takes"),
    ("ROUND(x, 2)", "round takes"),
    ("i AND f", "a condition must be boolean, this is integer"),
    ("NOT t", "a condition must be boolean, this is text"),
    ("CASE WHEN i THEN 1 END", "must be boolean"),
    ("COALESCE(i, 'x')", "no integer"),
    ("COALESCE(i, t)", "mixes integer and text"),
    ("d::integer", "date cannot be cast to integer"),
    ("z::date", "timestamptz cannot be cast to date"),
    ("i::timestamp", "integer cannot be cast to timestamp"),
    ("t::numeric(2000)", "precision from 1 to 1000"),
    ("e::timestamp(3)", "takes no length"),
    ("EXTRACT(hour FROM d)", "EXTRACT from date knows"),
    ("EXTRACT(second FROM e)", "EXTRACT from timestamp knows"),
    ("EXTRACT(year FROM z)", "takes a date or timestamp"),
    ("i ->> 'a'", "takes json or jsonb"),
    ("t LIKE 'a' ESCAPE 'ab'", "one character"),
    ("t LIKE 'a\\'", "must not end with escape"),
    ("1 / 0", "division by zero"),
    ("2147483647 + 1", "integer out of range"),
    ("x % 2", "% needs exact numbers"),
]


@pytest.mark.parametrize("text, words", WRONG)
def test_what_does_not_fit_is_told_when_checked(text: str, words: str) -> None:
    types = {**TYPES, "fname": ColumnType("text")}
    if "FNAME" in text:
        text = text.replace("FNAME", "fnam")
    with pytest.raises(ExpressionError, match=words):
        parse(text).check(types)


def test_columns_are_folded_as_postgresql_folds_them() -> None:
    expression = parse('FNumber || "FName" || "客户" || ÄName')
    assert expression.columns == {"fnumber", "FName", "客户", "Äname"}


def test_words_of_sql_can_be_column_names() -> None:
    types = {
        name: ColumnType("text") for name in ("date", "type", "status", "name", "value", "left")
    }
    expression = parse("date || type || status || name || value || left")
    assert expression.columns == set(types)
    assert expression.compile(types)(*[b"x"] * 6) == b"xxxxxx"


@pytest.mark.parametrize(
    "text, kind",
    [
        ("s + s", "smallint"), ("i + s", "integer"), ("i * b", "bigint"), ("i / n", "numeric"),
        ("x + n", "double"), ("r + 1", "double"), ("t || i", "text"), ("c", "text"),
        ("COALESCE(c, 'x')", "text"), ("i = 1", "boolean"), ("d + 1", "date"), ("d - d", "integer"),
        ("COALESCE(d, e)", "timestamp"), ("z", "timestamptz"), ("j -> 'a'", "jsonb"), ("k", "json"),
        ("u", "uuid"), ("NULL", "text"), ("'x'", "text"), ("LENGTH(t)", "integer"),
        ("EXTRACT(year FROM d)", "numeric"), ("ROUND(i)", "numeric"),
        ("CASE WHEN f THEN 1 END", "integer"),
    ],
)  # fmt: skip
def test_types_of_results(text: str, kind: str) -> None:
    assert parse(text).check(TYPES) == ColumnType(kind)


def test_a_where_must_be_a_condition() -> None:
    with pytest.raises(ExpressionError, match="must be boolean"):
        parse("i").compile_predicate(TYPES)
    assert parse("NULL").compile_predicate(TYPES)() is False


def test_a_where_is_true_only_where_sql_says_true() -> None:
    selects = parse("t = 'C' AND NOT (i > 5)").compile_predicate(TYPES)
    assert selects(b"1", b"C") is True
    assert selects(b"6", b"C") is False
    assert selects(None, b"C") is False
    assert selects(b"1", None) is False


def test_case_guards_what_would_fail() -> None:
    value = parse("CASE WHEN i <> 0 THEN 100 / i ELSE 0 END").compile(TYPES)
    assert value(b"0") == b"0"
    assert value(b"7") == b"14"
    guarded = parse("i <> 0 AND 100 / i > 5").compile_predicate(TYPES)
    assert guarded(b"0") is False


def test_errors_carry_no_row_values() -> None:
    with pytest.raises(DataError) as caught:
        parse("t::int").compile(TYPES)(b"secret")
    assert caught.value.code == "expression"
    error: BaseException | None = caught.value
    while error is not None:
        assert "secret" not in str(error)
        error = error.__cause__


def test_quoting_is_the_callers() -> None:
    sql = parse("i = 1 AND \"o\"\"x\" = 'it''s'").sql(
        lambda name: 'a."' + name.replace('"', '""') + '"',
        {**TYPES, 'o"x': ColumnType("text")},
    )
    assert sql == """((a."i" = 1) AND (a."o""x" = 'it''s'::text))"""


def test_equal_texts_are_equal_expressions() -> None:
    assert parse("i + 1") == parse("i + 1")
    assert isinstance(hash(parse("i + 1")), int)


def test_the_largest_allowed_expression_compiles() -> None:
    """Nothing within the limits meets a limit of Python's own compiler."""
    nested = "(" * 20 + "i" + " + COALESCE(i, 1))" * 20
    wide = " OR ".join(f"(i = {n} AND t LIKE '%{n}')" for n in range(150))
    listed = f"i IN ({', '.join(map(str, range(900)))})"
    branches = "CASE " + " ".join(f"WHEN i = {n} THEN '{n}'" for n in range(240)) + " END"
    simple = "CASE i " + " ".join(f"WHEN {n} THEN '{n}'" for n in range(400)) + " END"
    joined = " || ".join(["t"] * 900)
    folded = "CASE i WHEN 1 THEN 2 ELSE " * 12 + "3" + " END" * 12
    within = "(i BETWEEN " * 11 + "1" + " AND 5)::int" * 11
    for text in (nested, wide, listed, branches, simple, joined, folded, within):
        expression = parse(text)
        assert isinstance(expression, Expression)
        expression.check(TYPES)
        values = [{"i": b"1", "t": b"x1"}[name] for name in sorted(expression.columns)]
        assert expression.compile(TYPES)(*values) is not None
        assert len(expression.sql(str, TYPES)) < 40 * len(text)


def test_like_takes_no_exponential_time() -> None:
    pattern = b"%a" * 200 + b"%b"
    assert like(b"a" * 5000, pattern) is False
    assert like(b"a" * 5000 + b"b", pattern) is True
    assert like(b"a" * 500, b"%_a" * 100 + b"%b") is False


@given(text=st.text("ab_%\\", max_size=8), pattern=st.text("ab_%", max_size=8))
def test_like_agrees_with_a_regular_expression(text: str, pattern: str) -> None:
    table = {"_": ".", "%": ".*"}
    regex = "".join(table.get(char) or re.escape(char) for char in pattern)
    expected = re.fullmatch(regex, text, re.DOTALL) is not None
    assert like(text.encode(), pattern.encode()) is expected


@given(text=st.text(max_size=60))
def test_any_text_is_an_expression_or_refused(text: str) -> None:
    with contextlib.suppress(ExpressionError):
        parse(text).check(TYPES)


WORDS = """
    i t f d NULL TRUE 'a' 1 2.5 ( ) , + - * / % || = <> < AND OR NOT IS IN BETWEEN LIKE ESCAPE
    CASE WHEN THEN ELSE END CAST AS :: integer text COALESCE UPPER SUBSTRING FROM FOR EXTRACT year
    DISTINCT SELECT DATE INTERVAL ROW ARRAY [ ] . ; -> ->> OVER ANY
"""


@given(words=st.lists(st.sampled_from(WORDS.split()), max_size=12))
def test_any_words_are_an_expression_or_refused(words: list[str]) -> None:
    with contextlib.suppress(ExpressionError):
        expression = parse(" ".join(words))
        expression.check(TYPES)
        expression.sql(str, TYPES)
        expression.compile(TYPES)


def test_sqlglot_is_imported_only_for_an_expression() -> None:
    code = (
        "import sys, cdc_daemon.mapping.expression as e\n"
        "assert 'sqlglot' not in sys.modules\n"
        "e.parse('a = 1')\n"
        "assert 'sqlglot' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "text, complaints",
    [
        ("a + b", 0),
        ("UPPER(a) || LOWER(b)", 0),
        ("CASE WHEN a > 1 THEN 'x' ELSE NULL END", 0),
        ("a IN (1, NULL) AND b BETWEEN 1 AND 2 OR c IS NULL", 0),
        ("EXTRACT(YEAR FROM a) = 2024", 0),
        ("a ->> 'k' = '1'", 0),
        ("CONCAT_WS('-', a, b) || POSITION('x' IN c)::text", 0),
        ("NULLIF(a, '') IS NOT NULL", 0),
        ("UPER(a) || LOWR(b) || REPLACE(c)", 3),
        ("a + 1 / 0", 1),
        ("a = DATE '2024-13-01' OR b = 'x'::integer", 2),
    ],
)
def test_what_is_wrong_without_any_type(text: str, complaints: int) -> None:
    """All of it; and nothing that could be right with the right columns."""
    assert len(parse(text).complaints()) == complaints


@pytest.mark.parametrize(
    "text, boolean",
    [
        ("a", True),
        ("NULL", True),
        ("COALESCE(a, b)", True),
        ("CASE WHEN a THEN b END", True),
        ("a::boolean", True),
        ("a + 1", False),
        ("UPPER(a)", False),
        ("a || 'x'", False),
        ("a::date", False),
        ("1 + 1", False),
        ("'x'", False),
    ],
)
def test_a_condition_that_never_is_one(text: str, boolean: bool) -> None:
    """A where must be able to be true."""
    assert (parse(text).complaints(condition=True) == []) is boolean


@pytest.mark.parametrize(
    "name",
    [
        "comment",
        "show",
        "lock",
        "if",
        "set",
        "copy",
        "delete",
        "update",
        "cache",
        "begin",
        "commit",
        "use",
        "merge",
        "desc",
        "explain",
        "load",
        "call",
        "end",
        "kill",
        "type",
    ],
)
@pytest.mark.parametrize("text", ["{}", "{} = 'x'", "{} || 'a'", "a = 1 AND {} IS NOT NULL"])
def test_a_column_may_be_called_like_a_command(
    name: str, text: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """PostgreSQL reserves none of these; and nothing but our own words reaches a terminal."""
    assert name in parse(text.format(name)).columns
    assert capfd.readouterr() == ("", "")


def test_a_reserved_word_is_a_column_in_double_quotes() -> None:
    """The message says how."""
    with pytest.raises(ExpressionError, match='"insert", in double quotes'):
        parse("insert = 1")
    assert parse('"insert" = 1').columns == {"insert"}


PAGE = (Path(__file__).parents[2] / "docs" / "expressions.md").read_text("utf-8")


@pytest.mark.parametrize("text", PAGE.split("```sql\n")[1].split("```")[0].splitlines())
def test_what_the_page_shows_is_an_expression(text: str) -> None:
    assert parse(text).complaints() == []


def test_the_page_names_every_function_and_no_other() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ")]
    lines = [row for row in rows if row.split("|")[1].strip() in ("numbers", "texts", "choices")]
    written = set(re.findall(r"`([A-Z_]{2,})`", " ".join(lines))) - {"CASE"}
    syntax = {"trim", "position"}
    assert written == {name.upper() for name in {*FUNCTIONS, *FORMS, *syntax}}
