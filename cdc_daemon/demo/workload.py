"""What an ERP and an HR system do all day, made up: seeded random, in real transactions.

A :class:`Workload` fills both databases and then writes until it is told to stop: inserts, updates,
deletes, changed codes, one large transaction, and one row that no mapping can carry (an order in a
status the group does not know) together with what hangs on it.
"""

from __future__ import annotations

import datetime as dt
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from importlib.resources import files
from typing import Any, TypeAlias, TypeVar

import psycopg
import pymysql
from psycopg.types.json import Jsonb
from pymysql.constants import CLIENT

LARGE = 20_000  # rows in the large transaction
PAUSE = 0.002  # seconds between transactions
UNITS = ["PCS", "EA", "KGM", "MTR", " "]
SURNAMES = "王李张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗"
GIVEN = ["伟", "芳", "娜", "秀英", "敏", "静", "丽", "强", "磊", "军", "洋", "勇", "艳", "杰"]
GOODS = [
    "Steel plate",
    "钢管",
    "Bearing",
    "轴承",
    "Hydraulic pump",
    "液压泵",
    "Copper wire",
    "电机",
]


C = TypeVar("C", bound="psycopg.Connection | pymysql.Connection[Any]")
Hr: TypeAlias = "psycopg.Connection | pymysql.Connection[Any]"
"""The HR system, on either kind of server; what differs is in the scripts that make its tables."""


class Workload:
    """Writes to the two databases from a thread of its own. ``done`` counts what was committed.

    ``hr``: a libpq URI, or the keywords of a MariaDB server; None: there is an ERP only.
    """

    def __init__(
        self, erp: str, hr: str | Mapping[str, Any] | None, *, seed: int = 20261122
    ) -> None:
        self._erp = erp
        self._hr = hr
        self._random = random.Random(seed)  # noqa: S311 - made-up data, no secrets
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="workload", daemon=True)
        self._next = 1
        self._materials: list[int] = []
        self._customers: list[int] = []
        self._suppliers: list[int] = []
        self._orders: list[int] = []
        self._people: list[int] = []
        self._units: list[int] = []
        self.done: dict[str, int] = {}
        self.failure: BaseException | None = None

    def create(self) -> None:
        """Create the tables and their first rows."""
        with self._connected() as (erp, hr):
            erp.execute(_script("erp.sql").encode())
            if hr is not None:
                on_mariadb = isinstance(hr, pymysql.Connection)
                _execute(hr, _script("hr_mariadb.sql" if on_mariadb else "hr.sql"))
            for _ in range(300):
                self._new_material(erp)
                self._new_customer(erp)
                self._new_supplier(erp)
            for _ in range(500):
                self._new_order(erp)
            if hr is not None:
                self._new_tree(hr)
                for _ in range(400):
                    self._new_person(hr)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self) -> None:
        """End writing and wait for the last commit. Raises what ended the thread."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        if self.failure is not None:
            raise self.failure

    def _run(self) -> None:
        began, large, poison = time.monotonic(), False, False
        try:
            with self._connected() as (erp, hr):
                while not self._stopping.wait(PAUSE):
                    self._transaction(erp, hr)
                    elapsed = time.monotonic() - began
                    if not poison and elapsed > 1:
                        poison = True
                        self._commit(erp, "poison rows", self._poison)
                    if not large and elapsed > 2:
                        large = True
                        self._commit(erp, "large transactions", self._large)
        except BaseException as error:  # noqa: BLE001 - raised again by stop()
            self.failure = error

    @contextmanager
    def _connected(self) -> Iterator[tuple[psycopg.Connection, Hr | None]]:
        """The ERP and, if there is one, the HR system; committed at the end."""
        with psycopg.connect(self._erp) as erp, ExitStack() as stack:
            hr: Hr | None = None
            if isinstance(self._hr, str):
                hr = stack.enter_context(psycopg.connect(self._hr))
            elif self._hr is not None:
                hr = stack.enter_context(closing(_on_mariadb(self._hr)))
            yield erp, hr
            if hr is not None:
                hr.commit()

    def _commit(self, connection: C, what: str, write: Callable[[C], None]) -> None:
        write(connection)
        connection.commit()
        self.done[what] = self.done.get(what, 0) + 1

    def _transaction(self, erp: psycopg.Connection, hr: Hr | None) -> None:
        choice = self._random.choices(
            ["order", "price", "approve", "close", "rename", "cancel", "partner", "hire", "leave"],
            [30, 20, 10, 15, 2, 6, 5, 5, 2],
        )[0]
        match choice:
            case "order":
                self._commit(erp, "orders", self._new_order)
            case "price":
                self._commit(erp, "price changes", self._change_prices)
            case "approve":
                self._commit(erp, "new masters", self._new_masters)
            case "close":
                self._commit(erp, "order updates", self._close_orders)
            case "rename":
                self._commit(erp, "key changes", self._rename)
            case "cancel":
                self._commit(erp, "order deletes", self._delete_order)
            case "partner":
                self._commit(erp, "supplier updates", self._change_supplier)
            case "hire" if hr is not None:
                self._commit(hr, "people", self._new_person)
            case "leave" if hr is not None:
                self._commit(hr, "people who left", self._person_leaves)
            case _:
                pass  # nobody comes or goes where there is no HR system

    # --- rows -----------------------------------------------------------------------------------

    def _id(self) -> int:
        self._next += 1
        return self._next

    def _now(self) -> dt.datetime:
        return dt.datetime.now(dt.UTC)

    def _amount(self, high: int = 100_000) -> str:
        return f"{self._random.randrange(1, high * 100) / 100:.2f}"

    def _new_material(self, erp: psycopg.Connection) -> None:
        fid, pick = self._id(), self._random
        erp.execute(
            "INSERT INTO t_bd_material (fid, fnumber, fname, fmodel, funit, fprice, fnetweight,"
            " fpurchasable, fproperties, fstatus, fcreatetime, fmodifytime)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, 'C', %s, %s)",
            (
                fid, f"M{fid:08d}", f" {pick.choice(GOODS)} {fid} ", pick.choice([" ", "DN50\t×3"]),
                pick.choice(UNITS), self._amount(), f"{pick.random():.6f}",
                pick.choice([True, False, None]), Jsonb({"grade": "A", "batch": fid}),
                dt.datetime.now(), self._now(),  # noqa: DTZ005 - a timestamp without time zone
            ),
        )  # fmt: skip
        self._materials.append(fid)

    def _new_customer(self, erp: psycopg.Connection) -> None:
        fid, pick = self._id(), self._random
        erp.execute(
            "INSERT INTO t_bd_customer (fid, fnumber, fname, fsocietycreditcode, fphone,"
            " fcreditlimit, finternalcompanyid, fstatus, fmodifytime)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, 'C', %s)",
            (
                fid, f"C{fid:07d}", f"Customer {fid} 有限公司", f"91{fid:016d}",
                pick.choice([" ", "+86 10 5555 0100"]), self._amount(), pick.choice([0, 0, 7]),
                self._now(),
            ),
        )  # fmt: skip
        self._customers.append(fid)

    def _new_supplier(self, erp: psycopg.Connection) -> None:
        fid, pick = self._id(), self._random
        erp.execute(
            "INSERT INTO t_bd_supplier (fid, fnumber, fname, ftaxno, ftype, fpaymentdays, fstatus,"
            " fmodifytime) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
            (
                fid, f"S{fid:07d}", f"Supplier {fid}", f"{fid:015d}", pick.choice("1239"),
                pick.choice([30, 60, None]), pick.choice("CCA"), self._now(),
            ),
        )  # fmt: skip
        self._suppliers.append(fid)

    def _new_masters(self, erp: psycopg.Connection) -> None:
        self._new_material(erp)
        self._new_customer(erp)
        self._new_supplier(erp)

    def _new_order(self, erp: psycopg.Connection) -> None:
        fid, pick = self._id(), self._random
        long_remark = "备注 \\ line\n" * 400 if pick.random() < 0.1 else " "  # noqa: PLR2004 - TOAST
        self._insert_order(erp, fid, pick.choice("ABC"), long_remark)
        for n in range(1, pick.randrange(2, 8)):
            self._insert_line(erp, fid, n)
        self._orders.append(fid)

    def _insert_order(self, erp: psycopg.Connection, fid: int, status: str, remark: str) -> None:
        erp.execute(
            "INSERT INTO t_sm_salorder (fid, fbillno, fbizdate, fcustomerid, fbillstatus,"
            " fcurrency, fexchangerate, ftotalamount, ftotaltaxamount, fremark, fguid, fcreatetime,"
            " fmodifytime) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s,"
            " gen_random_uuid(), localtimestamp, %s)",
            (
                fid, f"SO-{fid:09d}", dt.date(2026, 1, 1), self._random.choice(self._customers),
                status, self._random.choice(["CNY", "EUR", None]), "7.81250000", self._amount(),
                self._random.choice([None, self._amount(100)]), remark, self._now(),
            ),
        )  # fmt: skip

    def _insert_line(self, erp: psycopg.Connection, order: int, n: int) -> None:
        erp.execute(
            "INSERT INTO t_sm_salorderentry (fentryid, fid, fseq, fmaterialid, fqty, fprice,"
            " fdiscountrate, fdeliverydate) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
            (
                self._id(), order, n, self._random.choice(self._materials), f"{n}.2500",
                self._amount(1000), self._random.choice([None, "5.0000"]), dt.date(2026, 12, 24),
            ),
        )  # fmt: skip

    def _change_prices(self, erp: psycopg.Connection) -> None:
        chosen = self._random.sample(self._materials, 5)
        erp.execute(
            "UPDATE t_bd_material SET fprice = round(fprice * 1.01, 4), fmodifytime = %s"
            " WHERE fid = ANY(%s)",
            (self._now(), chosen),
        )

    def _close_orders(self, erp: psycopg.Connection) -> None:
        chosen = self._random.sample(self._orders, 3)
        erp.execute(
            "UPDATE t_sm_salorder SET fbillstatus = 'D', fmodifytime = %s WHERE fid = ANY(%s)",
            (self._now(), chosen),
        )

    def _rename(self, erp: psycopg.Connection) -> None:
        """A customer gets another code: its orders follow in the group."""
        fid = self._random.choice(self._customers)
        erp.execute(
            "UPDATE t_bd_customer SET fnumber = %s WHERE fid = %s", (f"CN{self._id():07d}", fid)
        )

    def _delete_order(self, erp: psycopg.Connection) -> None:
        fid = self._orders.pop(self._random.randrange(len(self._orders)))
        erp.execute("DELETE FROM t_sm_salorderentry WHERE fid = %s", (fid,))
        erp.execute("DELETE FROM t_sm_salorder WHERE fid = %s", (fid,))

    def _change_supplier(self, erp: psycopg.Connection) -> None:
        """Approved, withdrawn, switched off: it enters and leaves the mapping's filter."""
        fid = self._random.choice(self._suppliers)
        erp.execute(
            "UPDATE t_bd_supplier SET fstatus = %s, fenable = %s WHERE fid = %s",
            (self._random.choice("AC"), self._random.choice("110"), fid),
        )

    def _large(self, erp: psycopg.Connection) -> None:
        """A migration: many materials in one transaction."""
        first = self._next + 1
        self._next += LARGE
        erp.execute(
            "INSERT INTO t_bd_material (fid, fnumber, fname, funit, fprice, fstatus)"
            " SELECT n, 'L' || lpad(n::text, 8, '0'), 'Migrated ' || n, 'PCS', n / 100.0, 'C'"
            " FROM generate_series(%s::bigint, %s::bigint) n",
            (first, self._next),
        )

    def _poison(self, erp: psycopg.Connection) -> None:
        """An order in a status that the mapping does not know, and a line of it."""
        fid = self._id()
        self._insert_order(erp, fid, "Z", " ")
        self._insert_line(erp, fid, 1)

    def _new_tree(self, hr: Hr) -> None:
        top = self._unit(hr, 0, "1")
        for _ in range(8):
            company = self._unit(hr, top, "1")
            for _ in range(5):
                self._unit(hr, company, "2")

    def _unit(self, hr: Hr, parent: int, kind: str) -> int:
        fid = self._id()
        _execute(
            hr,
            "INSERT INTO t_org_org (fid, fnumber, fname, fparentid, faccountingtype)"
            " VALUES (%s, %s, %s, %s, %s)",
            (fid, f"ORG{fid}", f"Unit {fid}", parent, kind),
        )
        self._units.append(fid)
        return fid

    def _new_person(self, hr: Hr) -> None:
        fid, pick = self._id(), self._random
        _execute(
            hr,
            "INSERT INTO t_sec_user (fid, fnumber, ftruename, forgid, fgender, femail, fidcard,"
            " fhiredate, fshiftstart, fphoto, fmodifytime)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            (
                fid, f"E{fid:06d}", pick.choice(SURNAMES) + pick.choice(GIVEN),
                pick.choice(self._units), pick.choice("12 "), pick.choice([" ", f"e{fid}@example"]),
                "110101199001010000", dt.date(2020, 1, 1), dt.time(8, 30), pick.randbytes(16),
                self._now(),
            ),
        )  # fmt: skip
        self._people.append(fid)

    def _person_leaves(self, hr: Hr) -> None:
        fid = self._people.pop(self._random.randrange(len(self._people)))
        _execute(hr, "DELETE FROM t_sec_user WHERE fid = %s", (fid,))


def _execute(hr: Hr, sql: str, params: tuple[object, ...] | None = None) -> None:
    """Run SQL, which may be several statements; both drivers take the same parameters."""
    cursor: Any = hr.cursor()
    with closing(cursor):
        cursor.execute(sql, params)
        while cursor.nextset():
            pass


def _script(name: str) -> str:
    return files("cdc_daemon.demo").joinpath(name).read_text("utf-8")


def _on_mariadb(address: Mapping[str, Any]) -> pymysql.Connection[Any]:
    """A session that writes moments as they are meant, in UTC."""
    return pymysql.connect(
        **address,
        database="hr",
        charset="utf8mb4",
        client_flag=CLIENT.MULTI_STATEMENTS,
        init_command="SET time_zone = '+00:00'",
    )
