"""The end of a repeated first copy: what this generation did not write is gone from the source."""

from __future__ import annotations

import datetime as dt

from cdc_daemon.model.effects import Outcome
from cdc_daemon.sinks.postgres.names import DELETED_AT, LAST_SYNC, quote
from cdc_daemon.sinks.postgres.shape import Shape
from cdc_daemon.sinks.postgres.transaction import Transaction
from cdc_daemon.sinks.postgres.wire import Call, Statement, affected


def sweep(transaction: Transaction, shape: Shape, started: dt.datetime, outcome: Outcome) -> None:
    """Delete rows older than the generation, hard or softly, and references to what is gone."""
    layout = shape.layout
    older = f"{quote(LAST_SYNC)} < $1::timestamptz"
    if layout.soft:
        sql = (
            f"UPDATE {shape.table} SET {quote(DELETED_AT)} = now()"
            f" WHERE {quote(DELETED_AT)} IS NULL AND {older}"
        )
    else:
        sql = f"DELETE FROM {shape.table} WHERE {older}"
    calls: list[Call] = [(shape.statement("sweep", sql), [started.isoformat().encode()])]
    if shape.reference:
        calls.append((_forget_gone(shape), []))
    outcome.count(layout.mapping, "delete", affected(transaction.calls(calls)[0]))


def _forget_gone(shape: Shape) -> Statement:
    named = " AND ".join(
        f"t.{quote(key)} = r.{quote(target)}"
        for key, target in zip(shape.keys, shape.targets, strict=True)
    )
    living = f" AND t.{quote(DELETED_AT)} IS NULL" if shape.soft_table else ""
    sql = (
        f"DELETE FROM {shape.reference} r WHERE NOT EXISTS"
        f" (SELECT FROM {shape.table} t WHERE {named}{living})"
    )
    return shape.statement("forget_gone", sql)
