"""Typed tree → one Python function, generated as source and compiled once.

Three-valued logic is written out in three ways: as a **value** (True, False, None), as **truth** (a
Python condition that holds only where SQL says TRUE; NULLs need no test there more often than not)
and as **falsity** (only where SQL says FALSE). ``fstatus = 'C'`` in a ``where`` becomes
``c0 == k0``. The source is made of this package's templates, numbered names and nothing of the
expression's text; constants are handed over as objects. Not in here: what the templates call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from typing import cast as assume

from cdc_daemon.mapping.convert_numbers import money_scale
from cdc_daemon.mapping.expression.casts import ENVIRONMENT, OUTPUT
from cdc_daemon.mapping.expression.nulls import Nulls
from cdc_daemon.mapping.expression.numbers import failure
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
from cdc_daemon.model.errors import DataError

Text = bytes | None

_LOAD = {
    "smallint": "int({0})",
    "integer": "int({0})",
    "bigint": "int({0})",
    "numeric": "parse_numeric({0})",
    "oid": "parse_numeric({0})",
    "money": "parse_numeric(number_of_money({0}, SCALE))",
    "real": "load_real({0})",
    "double": "load_double({0})",
    "boolean": "{0} == b't'",
    "char": "{0}.rstrip(b' ')",
    "date": "load_date({0})",
    "time": "parse_time({0})",
    "timestamp": "load_timestamp({0})",
    "timestamptz": "parse_timestamptz({0})",
}
"""From a column's text to its Python value; types not named stay bytes."""

NULL_TEXTS = {
    "text": "None if {0} in nulls else {0}",
    "varchar": "None if {0} in nulls else {0}",
    "citext": "None if {0} in nulls else {0}",
    "char": "None if {0} is None or (text := {0}.rstrip(b' ')) in char_nulls else text",
}
"""The same of text columns in which some texts mean NULL."""

_OPERATORS = {"=": "==", "<>": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
_OPPOSITES = {"=": "!=", "<>": "==", "<": ">=", "<=": ">", ">": "<=", ">=": "<"}


def value_function(
    typed: Typed, columns: Sequence[str], nulls: Set[bytes] = frozenset()
) -> Callable[..., Text]:
    """The columns' texts in this order → the expression's text. Raises DataError.

    ``nulls``: what stands for NULL in columns of a text type.
    """
    generator = _Generator(columns, nulls)
    result = generator.value(typed)
    printed = OUTPUT.get(typed.kind)
    lines = [f"result = {result}"]
    if printed is None:
        lines.append("return result")
    else:
        lines.append(f"return None if result is None else {printed.format('result')}")
    return assume("Callable[..., Text]", generator.function(lines))


def predicate_function(
    typed: Typed, columns: Sequence[str], nulls: Set[bytes] = frozenset()
) -> Callable[..., bool]:
    """The columns' texts in this order → whether the condition is TRUE. Raises DataError."""
    generator = _Generator(columns, nulls)
    lines = [f"return {generator.truth(typed)}"]
    return assume("Callable[..., bool]", generator.function(lines))


def _failed(error: Exception) -> DataError:
    if isinstance(error, DataError):
        return failure(error.message)
    return failure("the expression has no value for this row")


class _Generator:
    """The source of one function: names given out, constants kept, columns loaded."""

    def __init__(self, columns: Sequence[str], nulls: Set[bytes]) -> None:
        self._columns = list(columns)
        self._constants: dict[str, object] = {
            "nulls": frozenset(nulls),
            "char_nulls": frozenset(text.rstrip(b" ") for text in nulls),
        }
        self._has_nulls = bool(nulls)
        self._loads: dict[str, str] = {}  # column → line
        self._names: dict[str, str] = {}  # column → variable
        self._shared: dict[int, str] = {}  # id of a Shared node → its variable
        self._nulls = Nulls()
        self._temporaries = 0

    def function(self, lines: Sequence[str]) -> Callable[..., object]:
        """Compile a function of all columns with this body."""
        parameters = ", ".join(f"c{index}" for index in range(len(self._columns)))
        source = [
            f"def evaluate({parameters}):",
            "    try:",
            *(f"        {line}" for line in (*self._loads.values(), *lines)),
            "    except (DataError, ArithmeticError, ValueError) as error:",
            "        raise failed(error) from None",
        ]
        environment: dict[str, object] = {
            **ENVIRONMENT,
            **self._constants,
            "DataError": DataError,
            "ArithmeticError": ArithmeticError,
            "ValueError": ValueError,
            "failed": _failed,
        }
        code = compile("\n".join(source), "<generated expression>", "exec")
        exec(code, environment)  # noqa: S102 - templates and numbered names only
        return assume("Callable[..., object]", environment["evaluate"])

    # --- names ------------------------------------------------------------------------------

    def _temporary(self) -> str:
        self._temporaries += 1
        return f"t{self._temporaries}"

    def _constant(self, node: Const) -> str:
        if node.value is None or isinstance(node.value, bool):
            return str(node.value)
        name = f"k{len(self._constants)}"
        self._constants[name] = node.value
        return name

    def _input(self, node: Input) -> str:
        name = self._names.get(node.name)
        if name is None:
            column = f"c{self._columns.index(node.name)}"
            load = self._load(node.type, column)
            name = column if load is None else f"v{column[1:]}"
            if load is not None:
                self._loads[node.name] = f"{name} = {load}"
            self._names[node.name] = name
        return name

    def _load(self, type_: ColumnType, column: str) -> str | None:
        """A column's value from its text; None: the text itself."""
        if self._has_nulls and type_.name in NULL_TEXTS:
            return NULL_TEXTS[type_.name].format(column)
        template = _LOAD.get(type_.name)
        if template is not None and type_.name == "money":
            template = template.replace("SCALE", str(money_scale(type_)))
        return (
            None if template is None else f"None if {column} is None else {template}".format(column)
        )

    def _atom(self, node: Typed) -> str | None:
        """The node's name, where it has one already and evaluating it costs nothing."""
        if isinstance(node, Const):
            return self._constant(node)
        if isinstance(node, Input):
            return self._input(node)
        if isinstance(node, Shared):
            return self._shared.get(id(node)) or (
                self._atom(node.operand) if isinstance(node.operand, Const | Input) else None
            )
        return None

    # --- values -----------------------------------------------------------------------------

    def value(self, node: Typed) -> str:  # noqa: C901, PLR0911 - one arm per kind of node
        """A Python expression for the node's value; None is NULL."""
        atom = self._atom(node)
        if atom is not None:
            return atom
        match node:
            case Apply():
                return self._apply(node)
            case Coalesce():
                return self._coalesce(node)
            case Choose():
                return self._choose(node)
            case Shared():
                name = self._shared[id(node)] = self._temporary()
                return f"({name} := {self.value(node.operand)})"
            case Written():
                return self.value(node.logic)
            case _ if not self._nulls.nullable(node):
                return self.truth(node)
            case Compare():
                tests, left, right = self._pair(node)
                return f"(({left} {_OPERATORS[node.operator]} {right}) if {tests} else None)"
            case Connect():
                return self._connect(node)
            case Not():
                name = self._temporary()
                return f"(None if ({name} := {self.value(node.operand)}) is None else not {name})"
            case Member():
                return self._member(node)
            case Const() | Input() | Is() | Distinct():  # atoms and conditions that are never NULL
                return self.truth(node)

    def _operands(self, operands: Sequence[Typed]) -> tuple[str, list[str]]:
        """A test that no operand is NULL (empty: none can be) and the operands' names.

        The test evaluates every operand from left to right, as PostgreSQL does, so that an error in
        one is not hidden by a NULL in another; names and columns are only looked at.
        """
        if not any(map(self._nulls.nullable, operands)):
            return "", [self.value(operand) for operand in operands]
        tests: list[str] = []
        names: list[str] = []
        evaluates = False
        for index, operand in enumerate(operands):
            name = self._atom(operand)
            if name is None:
                name, value = self._temporary(), self.value(operand)
                tests.append(f"(({name} := {value}) is not None)")
                evaluates = evaluates or index > 0
            elif self._nulls.nullable(operand):
                tests.append(f"({name} is not None)")
            names.append(name)
        return (" & " if evaluates else " and ").join(tests), names

    def _apply(self, node: Apply) -> str:
        if not node.strict:
            return node.python.format(*[self.value(operand) for operand in node.operands])
        tests, names = self._operands(node.operands)
        body = node.python.format(*names)
        return f"({body} if {tests} else None)" if tests else f"({body})"

    def _coalesce(self, node: Coalesce) -> str:
        text = ""
        for operand in node.operands[:-1]:
            name = self._atom(operand)
            if name is not None:
                text += f"{name} if {name} is not None else "
                continue
            name, value = self._temporary(), self.value(operand)
            text += f"{name} if ({name} := {value}) is not None else "
        return f"({text}{self.value(node.operands[-1])})"

    def _choose(self, node: Choose) -> str:
        text = ""
        for condition, result in node.whens:
            test = self.truth(condition)
            text += f"{self.value(result)} if {test} else "
        return f"({text}{self.value(node.default)})"

    def _connect(self, node: Connect) -> str:
        """Kleene's AND and OR; like PostgreSQL's, they stop at the first operand that decides."""
        decisive = "False" if node.operator == "and" else "True"
        deciding: list[str] = []
        unknown: list[str] = []
        for operand in node.operands:
            name, value = self._temporary(), self.value(operand)
            deciding.append(f"({name} := {value}) is {decisive}")
            if self._nulls.nullable(operand):
                unknown.append(f"{name} is None")
        other = "True" if decisive == "False" else "False"
        null = f"None if {' or '.join(unknown)} else "
        return f"({decisive} if {' or '.join(deciding)} else {null}{other})"

    def _member(self, node: Member) -> str:
        name, value, values = self._temporary(), self.value(node.operand), self._values(node)
        missing = "None" if node.has_null else "False"
        return (
            f"(None if ({name} := {value}) is None else True if {name} in {values} else {missing})"
        )

    def _values(self, node: Member) -> str:
        name = f"k{len(self._constants)}"
        self._constants[name] = frozenset(constant.value for constant in node.values)
        return name

    def _pair(self, node: Compare) -> tuple[str, str, str]:
        tests, (left, right) = self._operands((node.left, node.right))
        return tests, left, right

    # --- conditions -------------------------------------------------------------------------

    def truth(self, node: Typed) -> str:  # noqa: C901, PLR0911 - one arm per kind of node
        """A Python condition, True where the node is TRUE and False where it is FALSE or NULL."""
        match node:
            case Compare():
                return self._compare(
                    node, _OPERATORS[node.operator], null_equals=node.operator != "="
                )
            case Connect():
                parts = f" {node.operator} ".join(map(self.truth, node.operands))
                return f"({parts})"
            case Not():
                return self.falsity(node.operand)
            case Is(value=None):
                return f"({self.value(node.operand)} is None)"
            case Is():
                return self.truth(node.operand) if node.value else self.falsity(node.operand)
            case Distinct():
                return f"({self.value(node.left)} != {self.value(node.right)})"
            case Member():
                return f"({self.value(node.operand)} in {self._values(node)})"
            case Written():
                return self.truth(node.logic)
            case Const():
                return "True" if node.value is True else "False"
            case Apply() | Choose() | Coalesce() | Shared() | Input():
                value = self.value(node)
                return f"({value} is True)" if self._nulls.nullable(node) else value

    def falsity(self, node: Typed) -> str:
        """A Python condition, True where the node is FALSE and False where it is TRUE or NULL."""
        match node:
            case Compare():
                opposite = _OPPOSITES[node.operator]
                return self._compare(node, opposite, null_equals=node.operator != "<>")
            case Connect():
                dual = "or" if node.operator == "and" else "and"
                parts = f" {dual} ".join(map(self.falsity, node.operands))
                return f"({parts})"
            case Not():
                return self.truth(node.operand)
            case Is() | Distinct():
                return f"(not {self.truth(node)})"
            case Member():
                return f"({self._member(node)} is False)"
            case Written():
                return self.falsity(node.logic)
            case Const():
                return "True" if node.value is False else "False"
            case Apply() | Choose() | Coalesce() | Shared() | Input():
                value = self.value(node)
                return f"({value} is False)" if self._nulls.nullable(node) else f"(not {value})"

    def _compare(self, node: Compare, operator: str, *, null_equals: bool) -> str:
        """A comparison that must hold; == with a side that is never NULL needs no test for it."""
        if not null_equals and not (
            self._nulls.nullable(node.left) and self._nulls.nullable(node.right)
        ):
            return f"({self.value(node.left)} {operator} {self.value(node.right)})"
        tests, left, right = self._pair(node)
        return (
            f"({tests} and ({left} {operator} {right}))"
            if tests
            else f"({left} {operator} {right})"
        )
