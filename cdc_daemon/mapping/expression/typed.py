"""The tree with its types resolved: what to calculate, as Python and as SQL.

Kinds are the names of :class:`ColumnType` (varchar is text, real is double) plus ``unknown`` for a
string literal or NULL whose context decides. The Python value of each kind:

========================  =====================================================================
smallint integer bigint   int
numeric                   finite Decimal, exponent = minus the display scale
double                    finite float
boolean                   bool
text char                 UTF-8 bytes (char without its padding)
date                      days since 1970-01-01
timestamp timestamptz     microseconds since then; time: microseconds since midnight
all others                bytes, PostgreSQL's text
========================  =====================================================================
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cdc_daemon.model.changes import ColumnType


@dataclass(frozen=True, slots=True, eq=False)
class Const:
    """A constant; ``value`` None is NULL. Kind ``opaque``: a Python object for generated code."""

    kind: str
    value: object


@dataclass(frozen=True, slots=True, eq=False)
class Input:
    """A source column."""

    kind: str
    name: str
    type: ColumnType


@dataclass(frozen=True, slots=True, eq=False)
class Apply:
    """A function of operands. ``python`` and ``sql`` are templates with ``{0}``, ``{1}`` ...

    ``strict``: NULL if any operand is NULL, and then not called; else Python's None is passed.
    Each operand stands in ``python`` exactly once. ``partial``: NULL also where no operand is.
    """

    kind: str
    python: str
    sql: str
    operands: tuple[Typed, ...]
    strict: bool = True
    partial: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Compare:
    """``=``, ``<>``, ``<``, ``<=``, ``>``, ``>=`` of two operands of comparable kinds."""

    operator: str
    left: Typed
    right: Typed
    kind: str = field(default="boolean", init=False)


@dataclass(frozen=True, slots=True, eq=False)
class Connect:
    """AND or OR of any number of conditions."""

    operator: str
    operands: tuple[Typed, ...]
    kind: str = field(default="boolean", init=False)


@dataclass(frozen=True, slots=True, eq=False)
class Not:
    """NOT."""

    operand: Typed
    kind: str = field(default="boolean", init=False)


@dataclass(frozen=True, slots=True, eq=False)
class Is:
    """IS NULL, IS TRUE, IS FALSE; ``value`` None, True or False. Never NULL itself."""

    operand: Typed
    value: bool | None
    kind: str = field(default="boolean", init=False)


@dataclass(frozen=True, slots=True, eq=False)
class Distinct:
    """IS DISTINCT FROM. Never NULL itself."""

    left: Typed
    right: Typed
    kind: str = field(default="boolean", init=False)


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """``operand IN (constants)``; ``has_null``: NULL is among them, so FALSE becomes NULL."""

    operand: Typed
    values: tuple[Const, ...]
    has_null: bool
    kind: str = field(default="boolean", init=False)


@dataclass(frozen=True, slots=True, eq=False)
class Coalesce:
    """The first operand that is not NULL; later ones are not evaluated."""

    kind: str
    operands: tuple[Typed, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Choose:
    """CASE: the value of the first condition that is TRUE."""

    kind: str
    whens: tuple[tuple[Typed, Typed], ...]
    default: Typed


@dataclass(frozen=True, slots=True, eq=False)
class Shared:
    """A value used several times and evaluated once, where it stands first."""

    operand: Typed
    kind: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", self.operand.kind)


@dataclass(frozen=True, slots=True, eq=False)
class Written:
    """A form that SQL has a word for (BETWEEN, NULLIF, simple CASE): ``logic`` is what it means."""

    logic: Typed
    sql: str
    operands: tuple[Typed, ...]
    kind: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", self.logic.kind)


Typed = (
    Const
    | Input
    | Apply
    | Compare
    | Connect
    | Not
    | Is
    | Distinct
    | Member
    | Coalesce
    | Choose
    | Shared
    | Written
)
