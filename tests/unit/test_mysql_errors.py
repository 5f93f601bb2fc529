"""Errors of MySQL and MariaDB in our words: what is tried again, what parks, never a value."""

from __future__ import annotations

import pymysql
import pytest

from cdc_daemon.model.errors import (
    CdcError,
    DataError,
    Disposition,
    NotAdmitted,
    Retryable,
    Stop,
    Unreachable,
)
from cdc_daemon.sinks.mysql.errors import refused, translate, unsettled
from cdc_daemon.sources.mysql.connection import Server

KNOWN = ("name", "note", "weird`col")


def translated(number: int, text: str = "") -> CdcError:
    return translate(pymysql.OperationalError(number, text), known=KNOWN)


def at_fault(number: int, text: str) -> tuple[str, str | None]:
    error = translated(number, text)
    assert isinstance(error, DataError)
    assert "SECRET" not in str(error)
    return error.code.removeprefix("sqlstate_"), error.attribute


@pytest.mark.parametrize(
    "number, text, told",
    [
        (1406, "Data too long for column 'name' at row 3", ("22001", "name")),
        (1264, "Out of range value for column 'note' at row 1", ("22003", "note")),
        (1048, "Column 'name' cannot be null", ("23502", "name")),
        (1364, "Field 'name' doesn't have a default value", ("23502", "name")),
        (1062, "Duplicate entry 'SECRET' for key 'material.PRIMARY'", ("23505", None)),
        (1452, "Cannot add or update a child row: a foreign key `x` (`SECRET`)", ("23503", None)),
        (1366, "Incorrect integer value: 'SECRET' for column 'note' at row 1", ("22P02", "note")),
        (
            1366,
            "Incorrect integer value: 'SECRET' for column `db`.`t`.`note` at row 1",
            ("22P02", "note"),
        ),
        (
            1292,
            "Incorrect datetime value: 'SECRET for column 'name' at row 1'"
            " for column 'note' at row 1",
            ("22007", "note"),
        ),
        (
            1366,
            "Incorrect integer value: 'for column `a`.`b`.`name` at row 1\n'"
            " for column `db`.`t`.`other` at row 1",
            ("22P02", None),
        ),
        (1265, "Data truncated for column 'SECRET' at row 1", ("22P02", None)),
    ],
)
def test_a_rows_error_names_its_column_and_never_its_value(
    number: int, text: str, told: tuple[str, str | None]
) -> None:
    """Whatever a value looks like: the column stands at the message's end."""
    assert at_fault(number, text) == told


def test_a_check_is_named() -> None:
    """As both engines word it."""
    for text in (
        "Check constraint 'a b' is violated.",
        "CONSTRAINT `a b` failed for `db`.`material`",
        "CONSTRAINT `material`.`a b` failed for `db`.`material`",
    ):
        number = 3819 if text.startswith("Check") else 4025
        error = translated(number, text)
        assert str(error) == "A check constraint rejects the row, constraint a b"


@pytest.mark.parametrize("number", [1205, 1213, 1020, 1290, 1792, 1836, 1114, 1021, 1040, 3024])
def test_what_may_pass_is_tried_again_and_is_no_rows_fault(number: int) -> None:
    """Locks, deadlocks, space, switched-over servers."""
    assert translated(number, "SECRET").disposition is Disposition.RETRY
    assert "SECRET" not in str(translated(number, "SECRET"))


@pytest.mark.parametrize("number", [0, 2006, 2013, 1053, 1927, 4031])
def test_a_lost_connection_is_unreachable(number: int) -> None:
    """Nobody knows then whether a COMMIT took effect."""
    assert isinstance(translated(number), Unreachable)


def test_what_is_unknown_stops_without_its_words() -> None:
    """So does a table that is not as configured, which is named."""
    unknown = translated(1815, "Internal error: SECRET")
    assert isinstance(unknown, Stop)
    assert "SECRET" not in str(unknown)
    altered = translated(1146, "Table 'db.material' doesn't exist")
    assert isinstance(altered, Stop)
    assert "db.material" in str(altered)
    assert isinstance(translate(pymysql.Error()), Stop)


def test_who_is_not_let_in_is_told_what_to_change() -> None:
    """And a server that does not answer is waited for."""
    for number, cure in ((1045, "target.password"), (1049, "create it"), (1130, "account")):
        error = refused(pymysql.OperationalError(number, "SECRET"), {"host": "db", "dbname": "c"})
        assert isinstance(error, NotAdmitted)
        assert cure in str(error)
        assert "db:3306/c" in str(error)
        assert "SECRET" not in str(error)
    tls = pymysql.OperationalError(2003, "… CERTIFICATE_VERIFY_FAILED: certificate has expired")
    assert "expired" in str(refused(tls, {}))
    away = refused(pymysql.OperationalError(2003, "connection refused"), {})
    assert isinstance(away, Unreachable)


@pytest.mark.parametrize(
    "number, kind, words",
    [
        (1193, NotAdmitted, "session setting max_x (error 1193)"),
        (1227, NotAdmitted, "session setting max_x (error 1227)"),
        (1820, NotAdmitted, "password must be changed"),
        (1053, Unreachable, "does not answer"),
        (1317, Retryable, "interrupted"),
    ],
)
def test_a_setting_that_is_refused_is_not_a_server_that_is_away(
    number: int, kind: type[CdcError], words: str
) -> None:
    """What cannot pass by itself is told as such; a lost connection is waited for as before."""
    error = unsettled(pymysql.OperationalError(number, "SECRET"), {"host": "db"}, "max_x")
    assert type(error) is kind
    assert words in str(error)
    assert "SECRET" not in str(error)


def test_a_password_that_expired_is_told_as_such_whatever_statement_meets_it() -> None:
    """MariaDB refuses the first statement after the login (1820), MySQL the login (1862)."""
    server = Server("erp", {"host": "db", "user": "cdc"})
    for number in (1820, 1862):
        error = pymysql.OperationalError(number, "You must SET PASSWORD before this statement")
        found = server.translate(error, "setting the session up")
        assert isinstance(found, NotAdmitted)
        assert "set the account's password anew" in str(found)
