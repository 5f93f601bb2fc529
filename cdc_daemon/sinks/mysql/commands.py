"""``cdc_command``: the only way from a command line, a page or an API to a worker."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from cdc_daemon.model.ports import Command
from cdc_daemon.sinks.mysql.session import Session

_COLUMNS = "id, pipeline, verb, arguments, actor, state, result"
_SUBMIT = """
    INSERT INTO cdc_command (pipeline, verb, arguments, actor, created_at)
    VALUES (%s, %s, %s, %s, UTC_TIMESTAMP(6))"""
_PENDING = f"""
    SELECT {_COLUMNS} FROM cdc_command WHERE pipeline = %s AND state = 'pending' ORDER BY id"""
_GET = f"SELECT {_COLUMNS} FROM cdc_command WHERE id = %s"
_FINISH = """
    UPDATE cdc_command SET state = %s, result = %s, finished_at = UTC_TIMESTAMP(6),
           arguments = CASE WHEN verb = 'edit' THEN '{}' ELSE arguments END
     WHERE id = %s AND state = 'pending'"""
"""What an edit wrote is in the failure it wrote to: no values stay here."""


def submit(
    session: Session, pipeline: str, verb: str, arguments: Mapping[str, object], actor: str
) -> int:
    """Queue a command; its id."""
    return session.run(_SUBMIT, pipeline, verb, json.dumps(arguments), actor).inserted


def pending(session: Session, pipeline: str) -> list[Command]:
    """Commands that wait for the pipeline's worker, oldest first."""
    return [_command(row) for row in session.run(_PENDING, pipeline).rows]


def get(session: Session, number: int) -> Command | None:
    """A command with its state and result."""
    rows = session.run(_GET, number).rows
    return _command(rows[0]) if rows else None


def finish(session: Session, number: int, *, ok: bool, result: Mapping[str, object]) -> None:
    """Note a command's result, unless it has one: then its sender was told so."""
    session.run(_FINISH, "done" if ok else "failed", json.dumps(result), number)


def withdraw(session: Session, number: int, reason: str) -> bool:
    """Let a command that still waits fail; whether it still waited."""
    return session.run(_FINISH, "failed", json.dumps({"error": reason}), number).affected > 0


def _command(row: Sequence[bytes | None]) -> Command:
    number, pipeline, verb, arguments, actor, state = [(one or b"").decode() for one in row[:6]]
    result = row[6]
    return Command(
        id=int(number),
        pipeline=pipeline,
        verb=verb,
        arguments=json.loads(arguments),
        actor=actor,
        state=state,
        result=None if result is None else json.loads(result),
    )
