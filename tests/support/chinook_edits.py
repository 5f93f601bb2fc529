"""Seeded edits of the Chinook shop, and the count of what they committed.

A :class:`Clerk` picks every row and value from its seed, so that the same seed on the same data
makes the same edits. It counts what the checkpoint must show: committed transactions that changed a
mapped table, and row changes in them, as the server reported them for each statement.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Any, ClassVar

MAPPED = frozenset({"employee", "customer", "track", "invoice", "invoice_line"})
KEYS = {"track": "track_id", "invoice": "invoice_id", "invoice_line": "invoice_line_id"} | {
    "employee": "employee_id",
    "customer": "customer_id",
    "playlist_track": "track_id",
    "album": "album_id",
}
COLUMNS = {
    "employee": {"title": 30, "city": 40, "phone": 24},
    "customer": {"company": 80, "address": 70, "city": 40, "state": 40, "postal_code": 10},
    "track": {"composer": 220},
    "invoice": {"billing_address": 70, "billing_city": 40, "billing_country": 40},
}
WORDS = (
    "Ærøskøbing", "東京都", "Straße", "Łódź", "São Paulo", "Ελλάδα", "Москва", "🎵🎸",
    "e\u0301tude", "שלום", "O'Brien", 'say "hi"', "back\\slash", "\\N", "\\.", "tab\there",
    "two\nlines", "cr\r\n", "{a,b}", "NULL", "100%", "a,b;c", "\u200bzero width", "İstanbul",
    "plain", "x" * 70,
)  # fmt: skip
NAMES = (
    "Ångström", "Møller", "Straßer", "Ünal", "Чехов", "山田", "O'Neil", "van der Berg", "İnan",
    "Smith", "d'Arc", "Ñandú",
)  # fmt: skip

_WRITES = re.compile(r"\s*(?:INSERT INTO|UPDATE|DELETE FROM) (\w+)")

TRANSACTIONS_ALONE = 0.7
ROLLED_BACK = 0.03


class Clerk:
    """Edits the shop over a connection in which each transaction is to be committed.

    ``transactions`` and ``changes``: what the source committed of mapped tables;
    ``edits``: what the clerk set out to do; ``tombstones``: e-mail addresses of customers that were
    deleted, and not used again since."""

    births: ClassVar = ("1969-07-20 20:17:40.123456", "0044-03-15 12:00:00 BC")
    issues: ClassVar = ("2024-02-29 23:59:59.999999", "2021-01-01", "infinity")

    def __init__(self, connection: Any, seed: int) -> None:
        self.random = random.Random(seed)
        self.transactions = self.changes = self.edits = 0
        self.tombstones: set[str] = set()
        self._connection = connection
        self._pending = 0
        self._next = 5000  # ids and addresses nobody has used

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def work(self, edits: int) -> None:
        """Edit until this many more edits are committed."""
        end = self.edits + edits
        while self.edits < end:
            self.transaction()

    def transaction(self) -> None:
        """One transaction of one or several edits; now and then it is rolled back."""
        number = 1 if self.random.random() < TRANSACTIONS_ALONE else self.random.randint(2, 6)
        before, self._pending = set(self.tombstones), 0
        for _ in range(number):
            (action,) = self.random.choices(ACTIONS, WEIGHTS)
            action(self)
        if self.random.random() < ROLLED_BACK:
            self._connection.rollback()
            self.tombstones = before
            return
        self._connection.commit()
        self.edits += number
        self.transactions += self._pending > 0
        self.changes += self._pending

    # --- the connection -----------------------------------------------------------------------

    def _do(self, sql: str, *params: object) -> int:
        """Change rows and count them; how many."""
        found = _WRITES.match(sql)
        assert found is not None, sql
        number: int = self._connection.execute(sql.encode(), params).rowcount
        if found[1] in MAPPED:
            self._pending += number
        return number

    def _one(self, sql: str, *params: object) -> Any:
        row = self._connection.execute(sql.encode(), params).fetchone()
        return None if row is None else row[0]

    def _some(self, sql: str, *params: object) -> list[Any]:
        return [row[0] for row in self._connection.execute(sql.encode(), params)]

    def _pick(self, table: str, condition: str = "TRUE") -> Any:
        """The key of some row that meets the condition; None if there is none."""
        key = KEYS[table]
        most = self._one(f"SELECT coalesce(max({key}), 0) FROM {table}")
        start = self.random.randint(0, most)
        if self._chance(0.5):
            start = int(start * self.random.random())  # new rows have ids far above the old ones
        sql = f"SELECT {key} FROM {table} WHERE {key} >= %s AND {condition} ORDER BY {key} LIMIT 1"
        found = self._one(sql, start)
        return self._one(sql, 0) if found is None else found

    # --- values -------------------------------------------------------------------------------

    def _chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def _new(self) -> int:
        self._next += 1
        return self._next

    def _text(self, length: int) -> str | None:
        """Some text, blank or NULL; at most that long."""
        if self._chance(0.2):
            return None
        if self._chance(0.1):
            return self.random.choice(["", " "])
        words = self.random.choices(WORDS, k=self.random.randint(1, 4))
        return " ".join(words)[:length]

    def _name(self, length: int) -> str:
        return f"{self.random.choice(NAMES)} {self.random.randint(0, 99)}"[:length]

    def _long(self) -> str | None:
        """A text that is stored out of line; NULL or short now and then."""
        if self._chance(0.25):
            return self._text(200)
        digits = self.random.randbytes(self.random.randint(1500, 12_000)).hex()
        return digits + self.random.choice(WORDS)

    def _money(self) -> str:
        return f"{self.random.randint(-99, 999_999)}.{self.random.randint(0, 99):02}"

    def _email(self) -> str:
        return f"{self.random.choice(['luís', 'anna', 'x+y', 'Ö'])}.{self._new()}@example.org"

    # --- customers ----------------------------------------------------------------------------

    def add_customer(self, email: str | None = None) -> int:
        number, email = self._new(), email or self._email()
        self._do(
            "INSERT INTO customer VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            number, self._name(40), self._name(20), self._text(80), self._text(70), self._text(40),
            self._text(40), self.random.choice(["USA", "Canada", "Brazil", "Norge", " ", None]),
            self._text(10), self._text(24), None, email, self._pick("employee"), self._long(),
        )  # fmt: skip
        self.tombstones.discard(email)
        return number

    def change_customer(self) -> None:
        self._change("customer")

    def change_notes(self) -> None:
        self._do(
            "UPDATE customer SET notes = %s WHERE customer_id = %s",
            self._long(), self._pick("customer"),
        )  # fmt: skip

    def change_support(self) -> None:
        rep = self._pick("employee") if self._chance(0.8) else None
        self._do(
            "UPDATE customer SET support_rep_id = %s WHERE customer_id = %s",
            rep, self._pick("customer"),
        )  # fmt: skip

    def change_address_of_customer(self) -> None:
        """Another entity key, sometimes that of a customer who is gone."""
        email = self._email()
        if self.tombstones and self._chance(0.5):
            email = self.random.choice(sorted(self.tombstones))
        self._set_email("customer", self._pick("customer"), email)

    def swap_addresses(self) -> None:
        """Two customers exchange their entity keys by way of a third."""
        self._hand_over("customer", self._email(), back=True)

    def _hand_over(self, table: str, free: str, *, back: bool) -> None:
        """One row takes a free address, another row the one that it had; and perhaps back."""
        one, other = self._pick(table), self._pick(table)
        if one == other:
            return
        sql = f"SELECT email FROM {table} WHERE {KEYS[table]} = %s"
        first, second = self._one(sql, one), self._one(sql, other)
        self._set_email(table, one, free)
        self._set_email(table, other, first)
        if back:
            self._set_email(table, one, second)

    def _set_email(self, table: str, number: int, email: str) -> None:
        self._do(f"UPDATE {table} SET email = %s WHERE {KEYS[table]} = %s", email, number)
        self.tombstones.discard(email)

    def replace_customer(self) -> None:
        """A new row with the address of one that is deleted in the same transaction."""
        number = self._pick("customer")
        email = self._drop_customer(number)
        self.add_customer(email)

    def renumber_customer(self) -> None:
        """The source's key changes, the entity's does not."""
        number = self._pick(
            "customer",
            "NOT EXISTS (SELECT FROM invoice i WHERE i.customer_id = customer.customer_id)",
        )
        if number is not None:
            self._do(
                "UPDATE customer SET customer_id = %s WHERE customer_id = %s", self._new(), number
            )

    def drop_customer(self) -> None:
        self._drop_customer(self._pick("customer"))
        self.add_customer()

    def come_and_go(self) -> None:
        """Inserted, changed and deleted in one transaction."""
        number = self.add_customer()
        self._do("UPDATE customer SET company = 'short' WHERE customer_id = %s", number)
        self._drop_customer(number)

    def _drop_customer(self, number: int) -> str:
        email = str(self._one("SELECT email FROM customer WHERE customer_id = %s", number))
        self._do(
            "DELETE FROM invoice_line WHERE invoice_id IN"
            " (SELECT invoice_id FROM invoice WHERE customer_id = %s)",
            number,
        )
        self._do("DELETE FROM invoice WHERE customer_id = %s", number)
        self._do("DELETE FROM customer WHERE customer_id = %s", number)
        self.tombstones.add(email)
        return email

    # --- employees ----------------------------------------------------------------------------

    def add_employee(self) -> None:
        self._do(
            "INSERT INTO employee (employee_id, last_name, first_name, title, reports_to,"
            " birth_date, hire_date, city, email) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
            self._new(), self._name(20), self._name(20), self._text(30), self._pick("employee"),
            self.random.choice([*self.births, None]),
            self.random.choice(["2004-02-29 23:59:59", None]), self._text(40),
            self._email(),
        )  # fmt: skip

    def change_employee(self) -> None:
        self._change("employee")

    def rename_employee(self) -> None:
        """Another name; mostly another entity key."""
        self._do(
            "UPDATE employee SET last_name = %s, email = %s WHERE employee_id = %s",
            self._name(20), self._email(), self._pick("employee"),
        )  # fmt: skip

    def pass_code_on(self) -> None:
        """One gets another's entity key, the other a new one."""
        self._hand_over("employee", self._email(), back=False)

    def swap_codes(self) -> None:
        """Two employees exchange their entity keys by way of a third."""
        self._hand_over("employee", self._email(), back=True)

    def change_boss(self) -> None:
        boss = self._pick("employee") if self._chance(0.9) else None
        self._do(
            "UPDATE employee SET reports_to = %s WHERE employee_id = %s",
            boss, self._pick("employee"),
        )  # fmt: skip

    def drop_employee(self) -> None:
        """Customers and subordinates go to another one, or to nobody."""
        number = self._pick("employee")
        heir = self._pick("employee")
        heir = None if heir == number else heir
        self.add_employee()
        self._do("UPDATE customer SET support_rep_id = %s WHERE support_rep_id = %s", heir, number)
        self._do("UPDATE employee SET reports_to = %s WHERE reports_to = %s", heir, number)
        self._do("DELETE FROM employee WHERE employee_id = %s", number)

    # --- tracks -------------------------------------------------------------------------------

    def add_track(self) -> int:
        number = self._new()
        self._do(
            "INSERT INTO track VALUES (%s, %s, %s, 1, %s, %s, %s, %s, %s, %s)",
            number, self._name(200), self._pick("album"), self.random.randint(1, 25),
            self._text(220), self.random.randint(1, 9_999_999),
            self.random.choice([None, 0, 2_147_483_647]), self._money(), self._long(),
        )  # fmt: skip
        return number

    def change_track(self) -> None:
        self._change("track")

    def change_lyrics(self) -> None:
        self._do(
            "UPDATE track SET lyrics = %s WHERE track_id = %s", self._long(), self._pick("track")
        )

    def change_prices(self) -> None:
        """Many rows at once; their long texts are not in the log."""
        start = self._pick("track")
        self._do(
            "UPDATE track SET unit_price = unit_price + 0.01 WHERE track_id BETWEEN %s AND %s",
            start, start + self.random.randint(5, 200),
        )  # fmt: skip

    def change_nothing(self) -> None:
        self._do("UPDATE track SET name = name WHERE track_id = %s", self._pick("track"))

    def renumber_track(self) -> None:
        """Another key, of table and entity, of a row whose long text is not in the log."""
        number = self._pick(
            "track",
            "NOT EXISTS (SELECT FROM invoice_line l WHERE l.track_id = track.track_id)"
            " AND NOT EXISTS (SELECT FROM playlist_track p WHERE p.track_id = track.track_id)",
        )
        if number is not None:
            self._do("UPDATE track SET track_id = %s WHERE track_id = %s", self._new(), number)

    def drop_track(self) -> None:
        number = self._pick("track")
        self._do("DELETE FROM playlist_track WHERE track_id = %s", number)
        self._do("DELETE FROM invoice_line WHERE track_id = %s", number)
        self._do("DELETE FROM track WHERE track_id = %s", number)

    def put_track_back(self) -> None:
        """Deleted and inserted again under its number, in one transaction."""
        number = self.add_track()
        self._do("DELETE FROM track WHERE track_id = %s", number)
        self._do(
            "INSERT INTO track VALUES (%s, 'again', NULL, 2, NULL, NULL, 1, NULL, 0.99, %s)",
            number, self._long(),
        )  # fmt: skip

    # --- invoices -----------------------------------------------------------------------------

    def add_invoice(self) -> None:
        number = self._new()
        self._do(
            "INSERT INTO invoice VALUES (%s, %s, %s, %s, %s, NULL, %s, NULL, %s)",
            number, self._pick("customer"),
            self.random.choice(self.issues),
            self._text(70), self._text(40), self._text(40), self._money(),
        )  # fmt: skip
        for _ in range(self.random.randint(0, 6)):
            self._do(
                "INSERT INTO invoice_line VALUES (%s, %s, %s, %s, %s, %s)",
                self._new(), number, self._pick("track"), self._money(),
                self.random.randint(0, 3), self._long(),
            )  # fmt: skip

    def change_invoice(self) -> None:
        self._change("invoice")

    def change_total(self) -> None:
        self._do(
            "UPDATE invoice SET total = %s WHERE invoice_id = %s",
            self._money(), self._pick("invoice"),
        )  # fmt: skip

    def change_owner(self) -> None:
        self._do(
            "UPDATE invoice SET customer_id = %s WHERE invoice_id = %s",
            self._pick("customer"), self._pick("invoice"),
        )  # fmt: skip

    def renumber_invoice(self) -> None:
        """Its lines move along: another entity key for each of them."""
        old, new = self._pick("invoice"), self._new()
        self._do(
            "INSERT INTO invoice SELECT %s, customer_id, invoice_date, billing_address,"
            " billing_city, billing_state, billing_country, billing_postal_code, total"
            " FROM invoice WHERE invoice_id = %s",
            new, old,
        )  # fmt: skip
        self._do("UPDATE invoice_line SET invoice_id = %s WHERE invoice_id = %s", new, old)
        self._do("DELETE FROM invoice WHERE invoice_id = %s", old)

    def drop_invoice(self) -> None:
        number = self._pick("invoice")
        self._do("DELETE FROM invoice_line WHERE invoice_id = %s", number)
        self._do("DELETE FROM invoice WHERE invoice_id = %s", number)

    def change_quantity(self) -> None:
        """With 0 the row leaves the mapping's filter, else it may come back without its remark."""
        self._do(
            "UPDATE invoice_line SET quantity = %s WHERE invoice_line_id = %s",
            self.random.choice([0, 0, 1, 2, 999]), self._pick("invoice_line"),
        )  # fmt: skip

    def change_remark(self) -> None:
        self._do(
            "UPDATE invoice_line SET remark = %s, track_id = %s WHERE invoice_line_id = %s",
            self._long(), self._pick("track"), self._pick("invoice_line"),
        )  # fmt: skip

    def move_line(self) -> None:
        """To another invoice: another entity key, the same key of the table."""
        self._do(
            "UPDATE invoice_line SET invoice_id = %s WHERE invoice_line_id = %s",
            self._pick("invoice"), self._pick("invoice_line"),
        )  # fmt: skip

    def renumber_line(self) -> None:
        self._do(
            "UPDATE invoice_line SET invoice_line_id = %s WHERE invoice_line_id = %s",
            self._new(), self._pick("invoice_line"),
        )  # fmt: skip

    def drop_line(self) -> None:
        self._do("DELETE FROM invoice_line WHERE invoice_line_id = %s", self._pick("invoice_line"))

    # --- what must not count ------------------------------------------------------------------

    def change_album(self) -> None:
        """A table that nobody maps."""
        self._do(
            "UPDATE album SET title = %s WHERE album_id = %s", self._name(160), self._pick("album")
        )

    def change_mind(self) -> None:
        """Changes taken back inside a transaction that goes on."""
        pending, tombstones = self._pending, set(self.tombstones)
        self._connection.execute("SAVEPOINT mind")
        self.drop_customer()
        self.change_prices()
        self._connection.execute("ROLLBACK TO SAVEPOINT mind")
        self._pending, self.tombstones = pending, tombstones

    def _change(self, table: str) -> None:
        """Some of a table's texts."""
        columns = COLUMNS[table]
        chosen = self.random.sample(sorted(columns), self.random.randint(1, len(columns)))
        values = ", ".join(f"{column} = %s" for column in chosen)
        texts = [self._text(columns[column]) for column in chosen]
        key = self._pick(table)
        self._do(f"UPDATE {table} SET {values} WHERE {KEYS[table]} = %s", *texts, key)


_WEIGHTED: dict[Callable[[Clerk], object], int] = {
    Clerk.add_customer: 4,
    Clerk.change_customer: 8,
    Clerk.change_notes: 4,
    Clerk.change_support: 4,
    Clerk.change_address_of_customer: 5,
    Clerk.swap_addresses: 2,
    Clerk.replace_customer: 2,
    Clerk.renumber_customer: 2,
    Clerk.drop_customer: 2,
    Clerk.come_and_go: 1,
    Clerk.add_employee: 3,
    Clerk.change_employee: 3,
    Clerk.rename_employee: 3,
    Clerk.change_boss: 5,
    Clerk.pass_code_on: 2,
    Clerk.swap_codes: 2,
    Clerk.drop_employee: 2,
    Clerk.add_track: 4,
    Clerk.change_track: 6,
    Clerk.change_lyrics: 4,
    Clerk.change_prices: 2,
    Clerk.change_nothing: 1,
    Clerk.renumber_track: 3,
    Clerk.drop_track: 3,
    Clerk.put_track_back: 2,
    Clerk.add_invoice: 10,
    Clerk.change_invoice: 5,
    Clerk.change_total: 3,
    Clerk.change_owner: 3,
    Clerk.renumber_invoice: 3,
    Clerk.drop_invoice: 3,
    Clerk.change_quantity: 8,
    Clerk.change_remark: 4,
    Clerk.move_line: 4,
    Clerk.renumber_line: 3,
    Clerk.drop_line: 3,
    Clerk.change_album: 3,
    Clerk.change_mind: 2,
}
ACTIONS = list(_WEIGHTED)
WEIGHTS = list(_WEIGHTED.values())
