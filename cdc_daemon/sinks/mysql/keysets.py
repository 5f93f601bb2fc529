"""Keys of an entity as a table ``s`` in a statement, and what is asked of them, in slices."""

from __future__ import annotations

from collections.abc import Sequence

from cdc_daemon.model.effects import Key
from cdc_daemon.model.entities import Attribute, Entity
from cdc_daemon.sinks.columns import DELETED_AT
from cdc_daemon.sinks.mysql.names import quote
from cdc_daemon.sinks.mysql.shape import Shape, filled, key_declaration, unfolding, unpacked
from cdc_daemon.sinks.mysql.slices import sliced
from cdc_daemon.sinks.mysql.transaction import Transaction
from cdc_daemon.sinks.mysql.values import literal_column, stored_column, unfolded
from cdc_daemon.sinks.referrers import Referrer

_AT_ONCE = 10_000  # values in one statement


def asked(
    transaction: Transaction, entity: Entity, values: set[bytes], condition: str
) -> set[bytes]:
    """Those of these keys of an entity for which a condition on ``s.k`` holds."""
    found: set[bytes] = set()
    sql = f"SELECT s.n FROM {keys_table(transaction, entity, ordinal=True)} WHERE {condition}"

    def ask(some: Sequence[bytes]) -> None:
        rows = transaction.run(filled(sql, _text(entity, some))).rows
        found.update(some[int(row[0] or b"0") - 1] for row in rows)

    sliced(list(values), ask, most=_AT_ONCE)
    return found


def each(
    transaction: Transaction, entity: Entity, values: Sequence[bytes], statements: Sequence[str]
) -> bool:
    """Run statements over keys of an entity; whether any of them answered a row."""
    answers: list[object] = []

    def run(some: Sequence[bytes]) -> None:
        text = _text(entity, some)
        for sql in statements:
            answers.extend(transaction.run(filled(sql, text)).rows)

    sliced(values, run, most=_AT_ONCE)
    return bool(answers)


def holding_any(
    transaction: Transaction,
    shape: Shape,
    attribute: str,
    literals: Sequence[str],
    suspects: Sequence[Key],
) -> set[Key]:
    """Those of these keys whose rows hold one of these values."""
    found: set[Key] = set()

    def ask(values: Sequence[str], keys: Sequence[Key]) -> None:
        sql = filled(shape.holding(attribute, ", ".join(values)), shape.key_json(keys))
        found.update(keys[int(row[0] or b"0") - 1] for row in transaction.run(sql).rows)

    def ask_for(values: Sequence[str]) -> None:
        sliced(suspects, lambda keys: ask(values, keys), most=_AT_ONCE)

    sliced(literals, ask_for)
    return found


def _text(entity: Entity, values: Sequence[bytes]) -> str:
    """Keys of an entity as the literal of a JSON text."""
    return unfolded([stored_column(values, entity.attribute(entity.key[0]))])


def keys_table(transaction: Transaction, entity: Entity, *, ordinal: bool = False) -> str:
    """Keys of an entity as a table: ``s.k``."""
    kind = entity.attribute(entity.key[0]).type
    return unfolding([("k", key_declaration(kind, transaction.session.collation))], ordinal=ordinal)


def key_value(entity: Entity) -> str:
    """Such a key as its column's value."""
    return unpacked(entity.attribute(entity.key[0]).type, "s.k")


def has_child(parent: Entity, referrer: Referrer, *, living: bool) -> str:
    """Whether a row, a living one or any, refers to the key."""
    return (
        f"EXISTS (SELECT 1 FROM {quote(referrer.entity.name)} c"
        f" WHERE c.{quote(referrer.attribute)} = {key_value(parent)}"
        f"{still_there(referrer) if living else ''})"
    )


def no_parent(parent: Entity) -> str:
    """Whether no row has the key."""
    return (
        f"NOT EXISTS (SELECT 1 FROM {quote(parent.name)} p"
        f" WHERE p.{quote(parent.key[0])} = {key_value(parent)})"
    )


def still_there(referrer: Referrer) -> str:
    """Whether a row ``c`` that refers is no tombstone."""
    return f" AND c.{quote(DELETED_AT)} IS NULL" if referrer.entity.soft_delete else ""


def literal_of(attribute: Attribute, value: bytes) -> str:
    """One value as a literal."""
    return literal_column(stored_column([value], attribute), attribute)[0]
