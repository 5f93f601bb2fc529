"""Checks of what the server writes into its binary log."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from cdc_daemon.model.errors import RESNAPSHOT
from cdc_daemon.model.findings import Check, Note, ok, problem, warning
from cdc_daemon.sources.mysql.checks.examined import Examined

_WANTED: Final = {
    "binlog_format": ("ROW", "statements and not rows"),
    "binlog_row_image": ("FULL", "rows without some of their columns"),
    "binlog_row_metadata": ("FULL", "rows without the names of their columns"),
}
_DECODED: Final = (
    ("binlog_transaction_compression", "compressed transactions"),
    ("log_bin_compress", "compressed events"),
    ("binlog_row_value_options", "differences of JSON documents"),
    ("binlog_alter_two_phase", "ALTER TABLE in two phases"),
)


def _binlog(at: Examined) -> Iterator[Note]:
    system = at.system
    if not system.on("log_bin"):
        cure = "set log_bin in the server's option file (MySQL: remove skip-log-bin), restart it"
        yield problem("the server writes no binary log (log_bin is OFF)", cure)
        return
    wrong = {name: system.value(name) for name in _WANTED if not _as_wanted(at, name)}
    for name, value in wrong.items():
        wanted, written = _WANTED[name]
        what = f"{name} is {value or 'not known to this server'}: the log holds {written}"
        cure = f"SET GLOBAL {name} = '{wanted}', and in the server's option file"
        after = "; sessions that are open go on as before until they end"
        cure += after if name != "binlog_row_metadata" else ""
        if at.streaming:
            cure += f"; what was written until then cannot be read: {RESNAPSHOT}"
        yield problem(what, cure)
    if not wrong:
        yield ok("whole rows, with the names of their columns")


def _as_wanted(at: Examined, name: str) -> bool:
    return at.system.value(name).upper() == _WANTED[name][0]


def _filters(at: Examined) -> Iterator[Note]:
    hidden = sorted(schema for schema in at.schemas if not at.end.holds(schema))
    for schema in hidden:
        setting = "binlog_do_db" if at.end.only else "binlog_ignore_db"
        yield problem(
            f"{setting} leaves changes of schema {schema} out of the log",
            f"take {setting} out of the server's option file, restart it, and {RESNAPSHOT}",
        )
    if not hidden:
        yield ok("no filter hides a schema that is read")


def _contents(at: Examined) -> Iterator[Note]:
    system = at.system
    with_what = [
        said for name, said in _DECODED if system.value(name).upper() not in ("", "OFF", "0")
    ]
    checksum = system.value("binlog_checksum").upper()
    if checksum == "NONE":
        with_what.append("no checksums: bytes that change on disk or on the way may go unnoticed")
    else:
        with_what.append(f"checksums ({checksum})")
    yield ok("; ".join(with_what))


def _gtid(at: Examined) -> Iterator[Note]:
    system = at.system
    if system.mariadb:
        yield _strict(strict=system.on("gtid_strict_mode"))
    elif not system.gtids:
        yield warning(
            f"gtid_mode is {system.value('gtid_mode')}: the daemon goes by file and position, and"
            " cannot follow a fail-over to another server",
            "SET GLOBAL enforce_gtid_consistency = ON, then gtid_mode step by step to ON, as"
            f" MySQL's manual describes; then {RESNAPSHOT}",
        )
    else:
        yield ok("gtid_mode is ON")


def _strict(*, strict: bool) -> Note:
    if strict:
        return ok("gtid_strict_mode is ON")
    return warning(
        "gtid_strict_mode is OFF: a domain's numbers may come out of order, and after a reconnect"
        " a number below the last is taken for read",
        "SET GLOBAL gtid_strict_mode = 1, and in the server's option file",
    )


CHECKS = (
    Check(
        name="source.binlog",
        title="The server logs whole rows, with the names of their columns",
        why="what the log does not say would have to be guessed",
        look=_binlog,
        watched=True,
    ),
    Check(
        name="source.binlog_filters",
        title="The log leaves out no mapped schema",
        why="what is not logged never arrives",
        look=_filters,
    ),
    Check(
        name="source.binlog_contents",
        title="What the log is written with",
        why="all of it is read",
        look=_contents,
        refuses=False,
    ),
    Check(
        name="source.gtid",
        title="Every transaction has a number that other servers keep",
        why="a file and a position mean nothing on another server",
        look=_gtid,
        refuses=False,
    ),
)
