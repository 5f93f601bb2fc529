"""References between entities that the steps of a unit leave broken, found as sets.

The server checks a foreign key row by row, at once and in no other way, and a rename under one goes
only as far as one level: so there are none, and this is the check. Written rows: the distinct
values they refer to, against the keys of the entity referred to. Hard deletes: the deleted keys,
against the rows that refer to them. What may be broken is kept as *suspects*, which are looked at
again before the checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from cdc_daemon.model.effects import Delete, Key, Layout, Patch, Rename, Step, Truncate, Upsert
from cdc_daemon.model.entities import Entity
from cdc_daemon.sinks.columns import DELETED_AT
from cdc_daemon.sinks.mysql.keysets import (
    asked,
    each,
    has_child,
    holding_any,
    key_value,
    keys_table,
    literal_of,
    no_parent,
    still_there,
)
from cdc_daemon.sinks.mysql.names import quote
from cdc_daemon.sinks.mysql.shape import Shape
from cdc_daemon.sinks.mysql.transaction import Transaction
from cdc_daemon.sinks.mysql.values import shown
from cdc_daemon.sinks.referrers import Referrer, referrers
from cdc_daemon.sinks.steps import keys_of, written_rows

Suspects = dict[tuple[str, str], set[bytes]]
"""By (entity, attribute) that refers: values, as the log has them, whose parent was not there."""


class References:
    """The checks over one set of entities."""

    def __init__(self, entities: Mapping[str, Entity]) -> None:
        self._entities = entities
        self._referrers = referrers(entities)

    @property
    def tables(self) -> list[str]:
        """The tables of all entities."""
        return list(self._entities)

    def of(self, entity: Entity) -> Sequence[Referrer]:
        """Who refers to an entity."""
        return self._referrers.get(entity.name, ())

    # --- tombstones let go ----------------------------------------------------------------------

    def loosen(self, transaction: Transaction, layout: Layout, keys: Sequence[Key]) -> None:
        """Free hard-deleted keys from the tombstones that refer to them.

        A tombstone loses the reference where it may be NULL, else the tombstone goes.
        """
        entity, values = layout.entity, [key[0] for key in keys]
        for referrer in self._burying(entity):
            sql = self._loosening(transaction, entity, referrer)
            each(transaction, entity, values, [sql])

    def loosen_all(self, transaction: Transaction, entity: Entity) -> None:
        """The same for whatever rows of an entity are gone."""
        for referrer in self._burying(entity):
            transaction.run(self._loosening(transaction, entity, referrer, keyed=False))

    def loosen_late(self, transaction: Transaction, steps: Sequence[Step]) -> None:
        """The same for what steps delete whose tombstones come only after them.

        Such a row held the key, or was written with it, and was itself deleted softly later.
        """
        touched: set[str] = set()
        for step in reversed(steps):
            entity = step.layout.entity
            if not isinstance(step, Delete | Truncate) or step.layout.soft:
                touched.add(entity.name)
            elif isinstance(step, Truncate):
                self.loosen_all(transaction, entity)
            elif any(referrer.entity.name in touched for referrer in self._burying(entity)):
                self.loosen(transaction, step.layout, step.keys)

    # --- children follow ------------------------------------------------------------------------

    def follow(self, entity: Entity, old: bytes, new: bytes) -> list[str]:
        """Statements that carry a renamed key to the rows that refer to it, and on from theirs."""
        statements: list[str] = []
        todo, done = [entity], {entity.name}
        while todo:
            for referrer in self.of(todo.pop()):
                attribute = referrer.entity.attribute(referrer.attribute)
                before, after = literal_of(attribute, old), literal_of(attribute, new)
                table, name = quote(referrer.entity.name), quote(referrer.attribute)
                statements.append(f"UPDATE {table} SET {name} = {after} WHERE {name} = {before}")
                if referrer.keyed and referrer.entity.name not in done:
                    done.add(referrer.entity.name)
                    todo.append(referrer.entity)
        return statements

    # --- what is broken -------------------------------------------------------------------------

    def dangling(self, transaction: Transaction, steps: Sequence[Step]) -> dict[str, set[Key]]:
        """Entity keys at fault, by mapping."""
        found: dict[str, set[Key]] = {}
        for step in steps:
            if isinstance(step, Delete | Truncate):
                keys = self._still_referred_to(transaction, step)
            else:
                keys = self._referring_to_nothing(transaction, step)
            if keys:
                found.setdefault(step.layout.mapping, set()).update(keys)
        return found

    def suspects(self, transaction: Transaction, steps: Sequence[Step]) -> Suspects:
        """References that these steps may have broken, as things stand now."""
        found: Suspects = {}
        for step in steps:
            if not isinstance(step, Delete | Truncate):
                for attribute, values in self._written(step):
                    self._suspect(transaction, found, step.layout.entity, attribute, values)
            if isinstance(step, Rename) or (
                isinstance(step, Delete | Truncate) and not step.layout.soft
            ):
                for referrer in self.of(step.layout.entity):
                    values = self._gone(transaction, step, referrer)
                    self._suspect(transaction, found, referrer.entity, referrer.attribute, values)
        return found

    def orphans(self, transaction: Transaction, entity: Entity) -> Suspects:
        """Every reference to an entity that is broken."""
        found: Suspects = {}
        for referrer in self.of(entity):
            values = self._orphans(transaction, entity, referrer, living=False)
            if values:
                found[referrer.entity.name, referrer.attribute] = values
        return found

    def settle(self, transaction: Transaction, suspects: Suspects) -> bool:
        """Look at suspects again; whether all references are whole, tombstones let go."""
        for (name, attribute), values in suspects.items():
            entity = self._entities[name]
            parent = self._entities[str(entity.attribute(attribute).references)]
            referrer = Referrer(entity, attribute)
            statements = [
                f"SELECT 1 FROM {keys_table(transaction, parent)}"
                f" WHERE {has_child(parent, referrer, living=False)} AND {no_parent(parent)}"
                " LIMIT 1"
            ]
            if entity.soft_delete:
                statements.insert(0, self._loosening(transaction, parent, referrer))
            if each(transaction, parent, list(values), statements):
                return False
        return True

    # --- parts ----------------------------------------------------------------------------------

    def _burying(self, entity: Entity) -> list[Referrer]:
        """Who refers to an entity and may be a tombstone."""
        return [referrer for referrer in self.of(entity) if referrer.entity.soft_delete]

    def _written(self, step: Upsert | Patch | Rename) -> Iterator[tuple[str, set[bytes]]]:
        """Attributes that refer, and the distinct values a step writes to them."""
        for place, attribute in enumerate(step.layout.attributes):
            if attribute.references in self._entities:
                texts = {row[place] for row in written_rows(step)}
                values = {text for text in texts if isinstance(text, bytes)}
                if values:
                    yield attribute.name, values

    def _suspect(
        self,
        transaction: Transaction,
        found: Suspects,
        entity: Entity,
        attribute: str,
        values: set[bytes],
    ) -> None:
        parent = self._entities[str(entity.attribute(attribute).references)]
        missing = asked(transaction, parent, values, no_parent(parent))
        if missing:
            found.setdefault((entity.name, attribute), set()).update(missing)

    def _gone(
        self, transaction: Transaction, step: Delete | Rename | Truncate, referrer: Referrer
    ) -> set[bytes]:
        """Values of a referring attribute that a hard delete may have left without a parent; a
        rename also deletes the tombstones whose keys it passes through."""
        entity = step.layout.entity
        if isinstance(step, Truncate):
            return self._orphans(transaction, entity, referrer, living=False)
        keys = keys_of(step) if isinstance(step, Rename) else step.keys
        values = {key[0] for key in keys}
        return asked(transaction, entity, values, has_child(entity, referrer, living=False))

    def _referring_to_nothing(
        self, transaction: Transaction, step: Upsert | Patch | Rename
    ) -> set[Key]:
        """Keys of written rows that hold a broken value, as the table has it now."""
        found: set[Key] = set()
        layout = step.layout
        for name, values in self._written(step):
            attribute = layout.entity.attribute(name)
            parent = self._entities[str(attribute.references)]
            broken = asked(transaction, parent, values, no_parent(parent))
            if not broken:
                continue
            shape = Shape(layout, transaction.session.collation)
            suspects = [layout.key_of(row) for row in written_rows(step)]
            literals = [literal_of(attribute, value) for value in broken]
            found |= holding_any(transaction, shape, name, literals, suspects)
        return found

    def _still_referred_to(self, transaction: Transaction, step: Delete | Truncate) -> set[Key]:
        entity = step.layout.entity
        found: set[Key] = set()
        if step.layout.soft:
            return found
        for referrer in self.of(entity):
            if isinstance(step, Truncate):
                values = self._orphans(transaction, entity, referrer, living=True)
            else:
                condition = f"{has_child(entity, referrer, living=True)} AND {no_parent(entity)}"
                values = asked(transaction, entity, {k[0] for k in step.keys}, condition)
            found |= {(value,) for value in values}
        return found

    def _orphans(
        self, transaction: Transaction, parent: Entity, referrer: Referrer, *, living: bool
    ) -> set[bytes]:
        attribute, key = quote(referrer.attribute), quote(parent.key[0])
        sql = (
            f"SELECT DISTINCT c.{attribute} FROM {quote(referrer.entity.name)} c"
            f" LEFT JOIN {quote(parent.name)} p ON p.{key} = c.{attribute}"
            f" WHERE c.{attribute} IS NOT NULL{still_there(referrer) if living else ''}"
            f" AND p.{key} IS NULL"
        )
        show = shown(parent.attribute(parent.key[0]).type)
        values = [row[0] or b"" for row in transaction.run(sql).rows]
        return set(values if show is None else map(show, values))

    def _loosening(
        self, transaction: Transaction, parent: Entity, referrer: Referrer, *, keyed: bool = True
    ) -> str:
        key, attribute = quote(parent.key[0]), quote(referrer.attribute)
        table = f"{quote(referrer.entity.name)} c"
        if keyed:
            table = (
                f"{keys_table(transaction, parent)} STRAIGHT_JOIN {table}"
                f" ON c.{attribute} = {key_value(parent)}"
            )
        joined = f"{table} LEFT JOIN {quote(parent.name)} p ON p.{key} = c.{attribute}"
        action = f"UPDATE {joined} SET c.{attribute} = NULL"
        if referrer.lasting:
            action = f"DELETE c FROM {joined}"
        return (
            f"{action} WHERE c.{attribute} IS NOT NULL AND c.{quote(DELETED_AT)} IS NOT NULL"
            f" AND p.{key} IS NULL"
        )
