"""References between entities that the steps of a unit leave broken, found as sets.

Written rows: the distinct values they refer to, against the keys of the entity referred to. Hard
deletes: the deleted keys, against the living rows that refer to them. Only when something is broken
are the rows at fault looked up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from cdc_daemon.model.effects import Delete, Key, Layout, Patch, Rename, Step, Truncate, Upsert
from cdc_daemon.model.entities import Entity
from cdc_daemon.sinks.postgres.arrays import array, arrays
from cdc_daemon.sinks.postgres.names import DELETED_AT, element_type, qualified, quote
from cdc_daemon.sinks.postgres.transaction import Transaction
from cdc_daemon.sinks.postgres.wire import Call, Statement
from cdc_daemon.sinks.referrers import Referrer, referrers
from cdc_daemon.sinks.steps import written_rows


class References:
    """The checks over one set of entities."""

    def __init__(self, entities: Mapping[str, Entity], schema: str) -> None:
        self._entities = entities
        self._schema = schema
        self._referrers = referrers(entities)
        self._statements: dict[tuple[str, str, str], Statement] = {}

    def concern(self, step: Step) -> bool:
        """Whether a step can break a reference."""
        entity = step.layout.entity
        refers = any(name in self._entities for name in entity.references)
        match step:
            case Delete():
                return not step.layout.soft and entity.name in self._referrers
            case Truncate() | Rename():
                return refers or entity.name in self._referrers
            case Upsert() | Patch():
                return refers

    def table(self, entity: Entity) -> str:
        """The table of an entity."""
        return qualified(self._schema, entity.name)

    @property
    def tables(self) -> list[str]:
        """The tables of all entities."""
        return list(map(self.table, self._entities.values()))

    def of(self, entity: Entity) -> Sequence[Referrer]:
        """Who refers to an entity."""
        return self._referrers.get(entity.name, ())

    def loosen(self, layout: Layout, keys: Sequence[Key]) -> list[Call]:
        """Statements that free hard-deleted keys from the tombstones that refer to them.

        A tombstone loses the reference where it may be NULL, else the tombstone goes.
        """
        named = [array([key[0] for key in keys])]
        return [
            (self._loosening(layout.entity, referrer), named)
            for referrer in self._burying(layout.entity)
        ]

    def loosen_all(self, entity: Entity) -> list[Call]:
        """The same for whatever rows of an entity are gone."""
        return [
            (self._loosening(entity, referrer, keyed=False), [])
            for referrer in self._burying(entity)
        ]

    def loosen_everywhere(self) -> list[Call]:
        """The same for every entity."""
        return [call for entity in self._entities.values() for call in self.loosen_all(entity)]

    def loosen_late(self, steps: Sequence[Step]) -> list[Call]:
        """The same for what steps delete whose tombstones come only after them.

        Such a row held the key, or was written with it, and was itself deleted softly later.
        """
        calls: list[Call] = []
        touched: set[str] = set()
        for step in reversed(steps):
            entity = step.layout.entity
            if not isinstance(step, Delete | Truncate) or step.layout.soft:
                touched.add(entity.name)
            elif isinstance(step, Truncate):
                calls += self.loosen_all(entity)
            elif any(referrer.entity.name in touched for referrer in self._burying(entity)):
                calls += self.loosen(step.layout, step.keys)
        return calls

    def _burying(self, entity: Entity) -> list[Referrer]:
        """Who refers to an entity and may be a tombstone."""
        return [referrer for referrer in self.of(entity) if referrer.entity.soft_delete]

    def dangling(self, transaction: Transaction, steps: Sequence[Step]) -> dict[str, set[Key]]:
        """Entity keys at fault, by mapping."""
        found: dict[str, set[Key]] = {}
        asked = list(self._questions(steps))
        if not asked:
            return found
        results = transaction.calls([call for call, _, _ in asked])
        for (_, step, attribute), result in zip(asked, results, strict=True):
            broken = {result.get_value(i, 0) or b"" for i in range(result.ntuples)}
            if not broken:
                continue
            if attribute is None:
                keys: set[Key] = {(value,) for value in broken}
            else:
                keys = self._at_fault(transaction, step, attribute, list(broken))
            if keys:
                found.setdefault(step.layout.mapping, set()).update(keys)
        return found

    def _questions(self, steps: Sequence[Step]) -> Iterator[tuple[Call, Step, str | None]]:
        """(call, step, attribute asked about; None for what was deleted)."""
        for step in steps:
            if isinstance(step, Delete | Truncate):
                yield from self._of_deletes(step)
            else:
                yield from self._of_writes(step)

    def _of_writes(self, step: Upsert | Patch | Rename) -> Iterator[tuple[Call, Step, str]]:
        for place, attribute in enumerate(step.layout.attributes):
            if attribute.references not in self._entities:
                continue
            values = {row[place] for row in written_rows(step)}
            texts = [value for value in values if isinstance(value, bytes)]
            if texts:
                parent = self._entities[str(attribute.references)]
                yield (self._missing_parents(parent), [array(texts)]), step, attribute.name

    def _of_deletes(self, step: Delete | Truncate) -> Iterator[tuple[Call, Step, None]]:
        entity = step.layout.entity
        if step.layout.soft:
            return
        for referrer in self.of(entity):
            if isinstance(step, Truncate):
                yield (self._orphans(entity, referrer), []), step, None
            elif step.keys:
                keys = array([key[0] for key in step.keys])
                yield (self._still_referring(entity, referrer), [keys]), step, None

    def _at_fault(
        self, transaction: Transaction, step: Step, attribute: str, broken: list[bytes]
    ) -> set[Key]:
        """Keys of written rows that hold a broken value, as the table has it now."""
        assert isinstance(step, Upsert | Patch | Rename)
        layout = step.layout
        suspects = [layout.key_of(row) for row in written_rows(step)]
        columns = [f"k{i}" for i in range(len(layout.entity.key))]
        kinds = [element_type(layout.entity.attribute(name).type) for name in layout.entity.key]
        unnested = ", ".join(f"${i}::{kind}[]" for i, kind in enumerate(kinds, 1))
        on = " AND ".join(
            f"t.{quote(key)} = k.{column}"
            for key, column in zip(layout.entity.key, columns, strict=True)
        )
        kind = element_type(layout.entity.attribute(attribute).type)
        sql = (
            f"SELECT k.n FROM unnest({unnested}) WITH ORDINALITY AS k({', '.join(columns)}, n)"
            f" JOIN {self.table(layout.entity)} t ON {on}"
            f" WHERE t.{quote(attribute)} = ANY(${len(kinds) + 1}::{kind}[])"
        )
        params = arrays(suspects)
        statement = Statement(b"", sql.encode())
        result = transaction.calls([(statement, [*params, array(broken)])])[0]
        return {suspects[int(result.get_value(i, 0) or 0) - 1] for i in range(result.ntuples)}

    def _missing_parents(self, parent: Entity) -> Statement:
        key = parent.key[0]
        kind = element_type(parent.attribute(key).type)
        sql = (
            f"SELECT v FROM unnest($1::{kind}[]) AS k(v) WHERE NOT EXISTS"
            f" (SELECT FROM {self.table(parent)} p WHERE p.{quote(key)} = k.v)"
        )
        return self._statement("parent", parent.name, key, sql)

    def _still_referring(self, parent: Entity, referrer: Referrer) -> Statement:
        key = parent.key[0]
        kind = element_type(parent.attribute(key).type)
        attribute = quote(referrer.attribute)
        table = self.table(referrer.entity)
        home = self.table(parent)
        sql = (
            f"SELECT v FROM unnest($1::{kind}[]) AS k(v)"
            f" WHERE (SELECT true FROM {table} c"
            f" WHERE c.{attribute} = k.v{_living(referrer)} LIMIT 1)"
            f" AND NOT EXISTS (SELECT FROM {home} p WHERE p.{quote(key)} = k.v)"
        )
        return self._statement("child", referrer.entity.name, referrer.attribute, sql)

    def _orphans(self, parent: Entity, referrer: Referrer) -> Statement:
        attribute = quote(referrer.attribute)
        table = self.table(referrer.entity)
        home = self.table(parent)
        sql = (
            f"SELECT DISTINCT c.{attribute} FROM {table} c WHERE c.{attribute} IS NOT NULL"
            f"{_living(referrer)} AND NOT EXISTS"
            f" (SELECT FROM {home} p WHERE p.{quote(parent.key[0])} = c.{attribute})"
        )
        return Statement(b"", sql.encode())

    def _loosening(self, parent: Entity, referrer: Referrer, *, keyed: bool = True) -> Statement:
        key, home = quote(parent.key[0]), self.table(parent)
        found = referrer.entity.attribute(referrer.attribute)
        attribute = quote(referrer.attribute)
        table = self.table(referrer.entity)
        action = f"UPDATE {table} c SET {attribute} = NULL"
        if found.required or referrer.attribute in referrer.entity.key:
            action = f"DELETE FROM {table} c"
        meant = f"= ANY($1::{element_type(found.type)}[])" if keyed else "IS NOT NULL"
        sql = (
            f"{action} WHERE c.{attribute} {meant} AND c.{quote(DELETED_AT)} IS NOT NULL"
            f" AND NOT EXISTS (SELECT FROM {home} p WHERE p.{key} = c.{attribute})"
        )
        if not keyed:
            return Statement(b"", sql.encode())
        return self._statement("loosen", referrer.entity.name, referrer.attribute, sql)

    def _statement(self, purpose: str, entity: str, attribute: str, sql: str) -> Statement:
        known = self._statements.get((purpose, entity, attribute))
        if known is None:
            name = f"cdc_{purpose}_{len(self._statements)}".encode()
            known = self._statements[purpose, entity, attribute] = Statement(name, sql.encode())
        return known


def _living(referrer: Referrer) -> str:
    return f" AND c.{quote(DELETED_AT)} IS NULL" if referrer.entity.soft_delete else ""
