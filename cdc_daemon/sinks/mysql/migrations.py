"""The way of the ledger from each version to the next; the versions are those of every sink.

A new ledger goes the same way from the oldest version. A step that was released is never edited.
The server commits each statement by itself, so a step can be repeated, or names the column that
says that it was taken; the note of the new version comes last.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cdc_daemon.sinks.mysql.names import ledger
from cdc_daemon.sinks.mysql.session import Session
from cdc_daemon.sinks.versions import LEDGER_VERSION

OLDEST_HERE = 3
"""The oldest version that a ledger on MySQL ever had."""

_COLUMN = """
    SELECT 1 FROM information_schema.COLUMNS
     WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = %s AND COLUMN_NAME = %s"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What it does, in words and in SQL; ``proof``: a table's column that is there afterwards."""

    words: str
    sql: str
    proof: tuple[str, str] | None = None


_VERSION_4 = {
    "failure_edit": """
        id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
        failure bigint NOT NULL,
        edited_at datetime(6) NOT NULL,
        actor varchar(255) NOT NULL,
        reason longtext NOT NULL,
        payload longtext NOT NULL,
        KEY cdc_failure_edit_failure (failure)""",
    "breaker": """
        pipeline varchar(255) NOT NULL PRIMARY KEY,
        tripped_at datetime(6) NOT NULL,
        reason longtext NOT NULL,
        resumed_until datetime(6)""",
    "failure_await": """
        pipeline varchar(255) NOT NULL,
        digest binary(16) NOT NULL,
        failure bigint NOT NULL,
        PRIMARY KEY (pipeline, digest, failure),
        KEY cdc_failure_await_failure (failure)""",
}

ADDED_TABLES = tuple(_VERSION_4)
"""The tables that the oldest version had not."""


def migrations(collation: str) -> dict[int, tuple[Step, ...]]:
    """The steps from each version to the next."""
    return {
        3: (
            Step(
                words="add what a parked change waits for, and when it is tried again",
                sql=(
                    "ALTER TABLE cdc_failure ADD COLUMN awaits longtext NOT NULL DEFAULT ('[]'),"
                    " ADD COLUMN retry_at datetime(6),"
                    " ADD KEY cdc_failure_settled (pipeline, state, resolved_at),"
                    " ADD KEY cdc_failure_due (pipeline, retry_at)"
                ),
                proof=("cdc_failure", "retry_at"),
            ),
            *(
                Step(
                    words=f"create the ledger's table cdc_{name}",
                    sql=f"CREATE TABLE IF NOT EXISTS {ledger(name)} ({columns})"
                    f" {options(collation)}",
                )
                for name, columns in _VERSION_4.items()
            ),
        ),
    }


def forward(session: Session, version: int) -> Iterator[Step]:
    """The steps from that version to the present one that were not taken yet, without its note."""
    steps = migrations(session.collation)
    for number in range(version, LEDGER_VERSION):
        for step in steps[number]:
            if step.proof is None or not session.run(_COLUMN, *step.proof).rows:
                yield step


def note() -> Step:
    """Note the present version in a ledger that had another one.

    In the same statement, so that nobody begins in between: whoever still works by the old version
    finds its epoch gone at its next commit.
    """
    return Step(
        words=f"note the ledger's version {LEDGER_VERSION}, fence off workers of the old version",
        sql="UPDATE cdc_meta m LEFT JOIN cdc_checkpoint c ON TRUE"
        f" SET m.version = {LEDGER_VERSION}, m.migrated_at = UTC_TIMESTAMP(6),"
        " c.epoch = c.epoch + 1",
    )


def options(collation: str) -> str:
    """What every table ends with: transactions, and texts that are equal by their bytes only."""
    return f"ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE={collation}"
