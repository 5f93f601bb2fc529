"""``cdc.command``: the only way from a command line, a page or an API to a worker."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from psycopg.rows import dict_row

from cdc_daemon.model.ports import Command, Repaired
from cdc_daemon.sinks.postgres.failures import restored, stored
from cdc_daemon.sinks.postgres.session import Connection

_FINISH = """
    UPDATE cdc.command SET state = %s, result = %s::jsonb, finished_at = clock_timestamp(),
           arguments = CASE WHEN verb = 'edit' THEN '{}' ELSE arguments END
     WHERE id = %s AND state = 'pending'"""
"""What an edit wrote is in the failure it wrote to: no values stay here."""

_COLUMNS = "id, pipeline, verb, arguments, actor, state, result"


def submit(
    connection: Connection, pipeline: str, verb: str, arguments: Mapping[str, object], actor: str
) -> int:
    """Queue a command; its id."""
    row = connection.execute(
        "INSERT INTO cdc.command (pipeline, verb, arguments, actor)"
        " VALUES (%s, %s, %s::jsonb, %s) RETURNING id",
        (pipeline, verb, stored(arguments), actor),
    ).fetchone()
    return int(row[0]) if row else 0


def pending(connection: Connection, pipeline: str) -> list[Command]:
    """Commands that wait for the pipeline's worker, oldest first."""
    sql = (
        f"SELECT {_COLUMNS} FROM cdc.command WHERE pipeline = %s AND state = 'pending' ORDER BY id"
    )
    with connection.cursor(row_factory=dict_row) as cursor:
        return [_command(row) for row in cursor.execute(sql.encode(), (pipeline,))]


def get(connection: Connection, number: int) -> Command | None:
    """A command with its state and result."""
    sql = f"SELECT {_COLUMNS} FROM cdc.command WHERE id = %s"
    with connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(sql.encode(), (number,)).fetchone()
    return _command(row) if row else None


def finish(connection: Connection, number: int, *, ok: bool, result: Mapping[str, object]) -> None:
    """Note a command's result, unless it has one: then its sender was told so."""
    connection.execute(_FINISH, ("done" if ok else "failed", json.dumps(result), number))


def withdraw(connection: Connection, number: int, reason: str) -> bool:
    """Let a command that still waits fail; whether it still waited."""
    done = connection.execute(_FINISH, ("failed", json.dumps({"error": reason}), number))
    return done.rowcount > 0


def audit(connection: Connection, pipeline: str, repaired: Sequence[Repaired]) -> None:
    """Lines for the audit of repairs."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO cdc.repair (pipeline, mapping, command, actor, reason, kind, key,"
            " source_row, outcome, detail)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s::jsonb, %s::jsonb, %s, %s)",
            [
                (
                    pipeline,
                    one.mapping,
                    one.command,
                    one.actor,
                    one.reason,
                    one.kind,
                    json.dumps(one.key),
                    json.dumps(one.source_row),
                    one.outcome,
                    one.detail,
                )
                for one in repaired
            ],
        )


def _command(row: Mapping[str, Any]) -> Command:
    return Command(**{**row, "arguments": restored(row["arguments"])})
