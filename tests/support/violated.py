"""Rows that a control database or a mapping refuses, each with a story that goes on behind them.

A story is one entity key's: a change at fault and what follows on it. Its steps are `PHASES` apart,
one each, so that no batch folds a fault away; innocent rows have the same phases. What stands in
the failure queue at the end is known of each story: `Story.parked`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

PHASES: Final = 5
TABLES: Final = """
    CREATE TABLE t_part (
        fid bigint PRIMARY KEY, fnumber varchar(40) NOT NULL, fname varchar(300),
        funit varchar(10), fprice numeric(18,4), fstock varchar(20), fgrade integer, fremark text,
        fcustid bigint);
"""
ENTITY: Final = """
  part:
    key: [code]
    attributes:
      code: string(40)
      name: {type: string(100), required: true}
      unit: string(10)
      price: decimal(18,4)
      stock: integer
      grade: integer
      remark: text
      customer_code: {type: string(40), references: customer}
mappings:
  - from: erp.public.t_part
    to: part
    key: {code: fnumber}
    fields:
      name: fname
      unit: funit
      price: fprice
      stock: fstock
      grade: fgrade
      remark: fremark
      customer_code: {ref: fcustid, from: erp.public.t_customer}
    on_delete: hard
"""
SAME: Final = (
    "SELECT p.fnumber, p.fname, p.funit, p.fprice, p.fstock::integer, p.fgrade, p.fremark,"
    " c.fnumber FROM t_part p LEFT JOIN t_customer c ON c.fid = p.fcustid",
    "SELECT code, name, unit, price, stock, grade, remark, customer_code FROM part",
)
ORPHANS: Final = 3
HOLDER: Final = "holder"
"""The name that some row has already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """A column with a value at fault, and the error that its row parks with.

    `narrowed`: only where a column is narrower than its entity says.
    """

    column: str
    value: str
    code: str
    narrowed: bool = False


VIOLATIONS: Final = {
    "unique": Violation(column="fname", value=f"'{HOLDER}'", code="sqlstate_23505"),
    "foreign key": Violation(column="funit", value="'BOX'", code="sqlstate_23503"),
    "check": Violation(column="fprice", value="1000", code="sqlstate_23514"),
    "not null": Violation(column="fstock", value="NULL", code="sqlstate_23502"),
    "required": Violation(column="fname", value="NULL", code="required"),
    "length": Violation(
        column="fname", value="repeat('x', 50)", code="sqlstate_22001", narrowed=True
    ),
    "too long": Violation(column="fname", value="repeat('x', 200)", code="too_long"),
    "range": Violation(column="fgrade", value="40000", code="sqlstate_22003", narrowed=True),
    "type": Violation(column="fstock", value="'n/a'", code="invalid_value"),
    "encoding": Violation(column="fremark", value="E'caf\\351'", code="invalid_value"),
    "reference": Violation(column="fcustid", value="900", code="reference_unresolved"),
}
INSERT: Final = "insert"
UPDATE: Final = "update"
DELETE: Final = "delete"
WAITING: Final = "waiting"

Parked = dict[int, list[tuple[str, str]]]
"""Operation and error of the parked changes of each source row, in order."""


@dataclass(slots=True)
class Story:
    """What happens to one key: a statement, or none, for each phase."""

    steps: list[str] = field(default_factory=list)
    parked: Parked = field(default_factory=dict)
    rows: list[int] = field(default_factory=list)
    """Its source rows in the order of their changes."""


def inserted(fid: int, number: str, at_fault: Violation | None = None) -> str:
    """A part that is good but for one column."""
    good = {
        "fid": str(fid),
        "fnumber": f"'{number}'",
        "fname": f"'part {fid}'",
        "funit": "'KG'",
        "fprice": str(fid % 900),
        "fstock": f"'{fid % 7}'",
        "fgrade": str(fid % 30_000),
        "fremark": f"'r{fid}'",
        "fcustid": "1",
    }
    if at_fault is not None:
        good[at_fault.column] = at_fault.value
    return f"INSERT INTO t_part ({', '.join(good)}) VALUES ({', '.join(good.values())})"


def updated(fid: int, column: str, value: str) -> str:
    """One column of one part."""
    return f"UPDATE t_part SET {column} = {value} WHERE fid = {fid}"


def deleted(fid: int) -> str:
    """One part."""
    return f"DELETE FROM t_part WHERE fid = {fid}"


def at_fault_first(fid: int, one: Violation) -> Story:
    """It comes at fault, is changed, renamed, and changed again."""
    return Story(
        steps=[
            "",
            inserted(fid, f"B{fid}", one),
            updated(fid, *_harmless(one)),
            updated(fid, "fnumber", f"'X{fid}'"),
            updated(fid, *_harmless(one)),
        ],
        parked={fid: [(INSERT, one.code), *[(UPDATE, WAITING)] * 3]},
        rows=[fid],
    )


def at_fault_later(fid: int, one: Violation) -> Story:
    """It comes good, becomes bad, is changed and deleted; as it came it stays meanwhile."""
    return Story(
        steps=[
            inserted(fid, f"B{fid}"),
            updated(fid, one.column, one.value),
            updated(fid, *_harmless(one)),
            deleted(fid),
            "",
        ],
        parked={fid: [(UPDATE, one.code), (UPDATE, WAITING), (DELETE, WAITING)]},
        rows=[fid],
    )


def deleted_and_replaced(fid: int, one: Violation) -> Story:
    """It comes at fault and goes; another row, which is good, takes its key."""
    return Story(
        steps=[
            "",
            inserted(fid, f"B{fid}", one),
            deleted(fid),
            inserted(fid + 1, f"B{fid}"),
            updated(fid + 1, "fprice", "2"),
        ],
        parked={
            fid: [(INSERT, one.code), (DELETE, WAITING)],
            fid + 1: [(INSERT, WAITING), (UPDATE, WAITING)],
        },
        rows=[fid, fid + 1],
    )


def renamed_and_replaced(fid: int, one: Violation) -> Story:
    """It comes at fault and leaves its key, which another row takes."""
    return Story(
        steps=[
            "",
            inserted(fid, f"B{fid}", one),
            updated(fid, "fnumber", f"'X{fid}'"),
            inserted(fid + 1, f"B{fid}"),
            updated(fid + 1, "fprice", "2"),
        ],
        parked={
            fid: [(INSERT, one.code), (UPDATE, WAITING)],
            fid + 1: [(INSERT, WAITING), (UPDATE, WAITING)],
        },
        rows=[fid, fid + 1],
    )


Form = Callable[[int, Violation], Story]
FORMS: Final = (at_fault_first, at_fault_later, deleted_and_replaced, renamed_and_replaced)


def _harmless(one: Violation) -> tuple[str, str]:
    """Some other column, and a value for it."""
    return ("fremark", "'seen'") if one.column != "fremark" else ("fprice", "3")


def stories(violations: Sequence[Violation], forms: Sequence[Form] = FORMS) -> list[Story]:
    """Each violation in each form; and customers at fault with the orders that refer to them."""
    numbers = iter(range(1000, 9000, 10))
    found = [form(next(numbers), one) for one in violations for form in forms]
    return [*found, *(orphans(number) for number in range(800, 800 + ORPHANS))]


def orphans(customer: int) -> Story:
    """A customer without a name, and an order that refers to it."""
    order = customer + 10_000
    return Story(
        steps=[
            "",
            f"INSERT INTO t_customer VALUES ({customer}, 'C{customer}', NULL)",
            f"INSERT INTO t_order VALUES ({order}, 'O{customer}', {customer}, 1)",
            f"UPDATE t_order SET famount = 2 WHERE fid = {order}",
            "",
        ],
        parked={
            customer: [(INSERT, "required")],
            order: [(INSERT, "reference_unresolved"), (UPDATE, WAITING)],
        },
        rows=[customer, order],
    )


def noted(fid: int) -> Story:
    """Somebody else's table refers to it; it is to go, and another row takes its key."""
    return Story(
        steps=[
            inserted(fid, f"B{fid}"),
            deleted(fid),
            inserted(fid + 1, f"B{fid}"),
            updated(fid + 1, "fprice", "2"),
            "",
        ],
        parked={
            fid: [(DELETE, "sqlstate_23503")],
            fid + 1: [(INSERT, WAITING), (UPDATE, WAITING)],
        },
        rows=[fid, fid + 1],
    )


def noted_and_renamed(fid: int) -> Story:
    """The same for a row that is to be renamed, and goes then."""
    return Story(
        steps=[
            inserted(fid, f"B{fid}"),
            updated(fid, "fnumber", f"'X{fid}'"),
            updated(fid, "fprice", "2"),
            deleted(fid),
            "",
        ],
        parked={fid: [(UPDATE, "sqlstate_23503"), (UPDATE, WAITING), (DELETE, WAITING)]},
        rows=[fid],
    )


def refused_by_its_orders(customer: int) -> Story:
    """A customer is renamed, and the table of orders does not take the new key."""
    order = customer + 10_000
    return Story(
        steps=[
            f"INSERT INTO t_customer VALUES ({customer}, 'C{customer}', 'good')",
            f"INSERT INTO t_order VALUES ({order}, 'O{customer}', {customer}, 1)",
            f"UPDATE t_customer SET fnumber = 'D{customer}' WHERE fid = {customer}",
            f"UPDATE t_customer SET fname = 'better' WHERE fid = {customer}",
            f"UPDATE t_order SET famount = 2 WHERE fid = {order}",
        ],
        parked={customer: [(UPDATE, "sqlstate_23514"), (UPDATE, WAITING)]},
        rows=[customer],
    )


def referred() -> list[Story]:
    """Rows at fault for others that refer to them: `note.code`, and the orders' check."""
    numbers = iter(range(7000, 7990, 10))
    return [
        *(form(next(numbers)) for form in (noted, noted_and_renamed) for _ in range(3)),
        *(refused_by_its_orders(number) for number in range(820, 823)),
    ]


def innocents(draw: random.Random, count: int) -> list[Story]:
    """Rows without fault that come, change, are renamed and go, in between."""
    return [Story(steps=list(_innocent(draw, fid))) for fid in range(10, 10 + count)]


def _innocent(draw: random.Random, fid: int) -> Iterator[str]:
    comes = draw.randrange(PHASES - 1)
    yield from [""] * comes
    yield inserted(fid, f"P{fid}")
    for _ in range(comes + 1, PHASES - 1):
        yield draw.choice(["", updated(fid, "fprice", "5"), updated(fid, "fremark", "NULL")])
    last = [updated(fid, "fnumber", f"'Q{fid}'"), deleted(fid), updated(fid, "fgrade", "7"), ""]
    yield draw.choice(last)


def transactions(
    draw: random.Random, told: Sequence[Story], phase: int, most: int = 15
) -> Iterator[list[str]]:
    """The phase of all stories mixed, in transactions of up to so many statements."""
    steps = [story.steps[phase] for story in told if story.steps[phase]]
    draw.shuffle(steps)
    while steps:
        size = draw.randint(1, most)
        yield steps[:size]
        del steps[:size]
