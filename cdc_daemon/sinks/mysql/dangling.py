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
from cdc_daemon.model.entities import Attribute, Entity
from cdc_daemon.sinks.columns import DELETED_AT
from cdc_daemon.sinks.mysql.names import quote
from cdc_daemon.sinks.mysql.shape import Shape, filled, key_declaration, unfolding, unpacked
from cdc_daemon.sinks.mysql.transaction import Transaction
from cdc_daemon.sinks.mysql.values import literal_column, shown, stored_column, unfolded
from cdc_daemon.sinks.referrers import Referrer, referrers
from cdc_daemon.sinks.steps import keys_of, written_rows

Suspects = dict[tuple[str, str], set[bytes]]
"""By (entity, attribute) that refers: values, as the log has them, whose parent was not there."""

_AT_ONCE = 10_000  # values in one statement


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
        for referrer in self._burying(layout.entity):
            for text in self._texts(layout.entity, [key[0] for key in keys]):
                transaction.run(filled(self._loosening(transaction, layout.entity, referrer), text))

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
                name = quote(referrer.attribute)
                statements.append(
                    f"UPDATE {quote(referrer.entity.name)} SET {name} = {_one(attribute, new)}"
                    f" WHERE {name} = {_one(attribute, old)}"
                )
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
            for text in self._texts(parent, list(values)):
                if entity.soft_delete:
                    transaction.run(filled(self._loosening(transaction, parent, referrer), text))
                broken = (
                    f"SELECT 1 FROM {_keys(transaction, parent)}"
                    f" WHERE {_has_child(parent, referrer, living=False)} AND {_no_parent(parent)}"
                    " LIMIT 1"
                )
                if transaction.run(filled(broken, text)).rows:
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
        missing = self._asked(transaction, parent, values, _no_parent(parent))
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
        return self._asked(transaction, entity, values, _has_child(entity, referrer, living=False))

    def _referring_to_nothing(
        self, transaction: Transaction, step: Upsert | Patch | Rename
    ) -> set[Key]:
        """Keys of written rows that hold a broken value, as the table has it now."""
        found: set[Key] = set()
        layout = step.layout
        for name, values in self._written(step):
            attribute = layout.entity.attribute(name)
            parent = self._entities[str(attribute.references)]
            broken = self._asked(transaction, parent, values, _no_parent(parent))
            if not broken:
                continue
            shape = Shape(layout, transaction.session.collation)
            suspects = [layout.key_of(row) for row in written_rows(step)]
            listing = ", ".join(_one(attribute, value) for value in broken)
            sql = filled(shape.holding(name, listing), shape.key_json(suspects))
            found |= {suspects[int(row[0] or b"0") - 1] for row in transaction.run(sql).rows}
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
                condition = f"{_has_child(entity, referrer, living=True)} AND {_no_parent(entity)}"
                values = self._asked(transaction, entity, {k[0] for k in step.keys}, condition)
            found |= {(value,) for value in values}
        return found

    def _orphans(
        self, transaction: Transaction, parent: Entity, referrer: Referrer, *, living: bool
    ) -> set[bytes]:
        attribute, key = quote(referrer.attribute), quote(parent.key[0])
        sql = (
            f"SELECT DISTINCT c.{attribute} FROM {quote(referrer.entity.name)} c"
            f" LEFT JOIN {quote(parent.name)} p ON p.{key} = c.{attribute}"
            f" WHERE c.{attribute} IS NOT NULL{_living(referrer) if living else ''}"
            f" AND p.{key} IS NULL"
        )
        show = shown(parent.attribute(parent.key[0]).type)
        values = [row[0] or b"" for row in transaction.run(sql).rows]
        return set(values if show is None else map(show, values))

    def _asked(
        self, transaction: Transaction, parent: Entity, values: set[bytes], condition: str
    ) -> set[bytes]:
        """Those of these keys of an entity for which a condition on ``s.k`` holds."""
        found: set[bytes] = set()
        given = list(values)
        sql = f"SELECT s.n FROM {_keys(transaction, parent, ordinal=True)} WHERE {condition}"
        for start, text in zip(
            range(0, len(given), _AT_ONCE), self._texts(parent, given), strict=True
        ):
            rows = transaction.run(filled(sql, text)).rows
            found |= {given[start + int(row[0] or b"0") - 1] for row in rows}
        return found

    def _texts(self, entity: Entity, values: Sequence[bytes]) -> Iterator[str]:
        """Keys of an entity as the literals of JSON texts."""
        attribute = entity.attribute(entity.key[0])
        for start in range(0, len(values), _AT_ONCE):
            yield unfolded([stored_column(values[start : start + _AT_ONCE], attribute)])

    def _loosening(
        self, transaction: Transaction, parent: Entity, referrer: Referrer, *, keyed: bool = True
    ) -> str:
        key, attribute = quote(parent.key[0]), quote(referrer.attribute)
        table = f"{quote(referrer.entity.name)} c"
        if keyed:
            table = (
                f"{_keys(transaction, parent)} STRAIGHT_JOIN {table}"
                f" ON c.{attribute} = {_key(parent)}"
            )
        joined = f"{table} LEFT JOIN {quote(parent.name)} p ON p.{key} = c.{attribute}"
        action = f"UPDATE {joined} SET c.{attribute} = NULL"
        if referrer.lasting:
            action = f"DELETE c FROM {joined}"
        return (
            f"{action} WHERE c.{attribute} IS NOT NULL AND c.{quote(DELETED_AT)} IS NOT NULL"
            f" AND p.{key} IS NULL"
        )


def _keys(transaction: Transaction, entity: Entity, *, ordinal: bool = False) -> str:
    """Keys of an entity as a table: ``s.k``."""
    kind = entity.attribute(entity.key[0]).type
    return unfolding([("k", key_declaration(kind, transaction.session.collation))], ordinal=ordinal)


def _key(entity: Entity) -> str:
    return unpacked(entity.attribute(entity.key[0]).type, "s.k")


def _has_child(parent: Entity, referrer: Referrer, *, living: bool) -> str:
    return (
        f"EXISTS (SELECT 1 FROM {quote(referrer.entity.name)} c"
        f" WHERE c.{quote(referrer.attribute)} = {_key(parent)}"
        f"{_living(referrer) if living else ''})"
    )


def _no_parent(parent: Entity) -> str:
    return (
        f"NOT EXISTS (SELECT 1 FROM {quote(parent.name)} p"
        f" WHERE p.{quote(parent.key[0])} = {_key(parent)})"
    )


def _living(referrer: Referrer) -> str:
    return f" AND c.{quote(DELETED_AT)} IS NULL" if referrer.entity.soft_delete else ""


def _one(attribute: Attribute, value: bytes) -> str:
    """One value as a literal."""
    return literal_column(stored_column([value], attribute), attribute)[0]
