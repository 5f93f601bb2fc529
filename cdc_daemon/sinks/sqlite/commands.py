"""``cdc_command``: the only way from a command line, a page or an API to a worker."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from cdc_daemon.model.ports import Command
from cdc_daemon.sinks.sqlite.database import Connection

_COLUMNS = "id, pipeline, verb, arguments, actor, state, result"
_FINISH = """
    UPDATE cdc_command SET state = ?, result = ?, finished_at = ?,
           arguments = CASE WHEN verb = 'edit' THEN '{}' ELSE arguments END
     WHERE id = ? AND state = 'pending'"""
"""What an edit wrote is in the failure it wrote to: no values stay here."""


def submit(
    connection: Connection,
    pipeline: str,
    verb: str,
    arguments: Mapping[str, object],
    actor: str,
    moment: str,
) -> int:
    """Queue a command; its id."""
    done = connection.execute(
        "INSERT INTO cdc_command (pipeline, verb, arguments, actor, created_at)"
        " VALUES (?, ?, ?, ?, ?)",
        (pipeline, verb, json.dumps(arguments), actor, moment),
    )
    return done.lastrowid or 0


def pending(connection: Connection, pipeline: str) -> list[Command]:
    """Commands that wait for the pipeline's worker, oldest first."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM cdc_command WHERE pipeline = ? AND state = 'pending' ORDER BY id",
        (pipeline,),
    )
    return [_command(row) for row in rows.fetchall()]


def get(connection: Connection, number: int) -> Command | None:
    """A command with its state and result."""
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM cdc_command WHERE id = ?", (number,)
    ).fetchone()
    return _command(row) if row else None


def finish(
    connection: Connection, number: int, *, ok: bool, result: Mapping[str, object], moment: str
) -> None:
    """Note a command's result, unless it has one: then its sender was told so."""
    state = "done" if ok else "failed"
    connection.execute(_FINISH, (state, json.dumps(result), moment, number))


def withdraw(connection: Connection, number: int, reason: str, moment: str) -> bool:
    """Let a command that still waits fail; whether it still waited."""
    done = connection.execute(_FINISH, ("failed", json.dumps({"error": reason}), moment, number))
    return done.rowcount > 0


def _command(row: Sequence[object]) -> Command:
    number, pipeline, verb, arguments, actor, state, result = row
    return Command(
        id=int(str(number)),
        pipeline=str(pipeline),
        verb=str(verb),
        arguments=json.loads(str(arguments)),
        actor=str(actor),
        state=str(state),
        result=None if result is None else json.loads(str(result)),
    )
