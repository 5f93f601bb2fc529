"""References between entities that the steps of a unit leave broken, found as sets.

Written rows: the distinct values they refer to, against the keys of the entity referred to. Hard
deletes: the deleted keys, against the rows that refer to them. SQLite itself says that some
deferred reference is broken only at COMMIT, and not which; so what might be is also kept as
*suspects*, which are looked at again before the checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from cdc_daemon.model.effects import Delete, Key, Layout, Patch, Rename, Step, Truncate, Upsert
from cdc_daemon.model.entities import Entity
from cdc_daemon.sinks.columns import DELETED_AT
from cdc_daemon.sinks.forms import Stored, as_json, key_texts, stored
from cdc_daemon.sinks.referrers import Referrer, referrers
from cdc_daemon.sinks.sqlite.database import Connection
from cdc_daemon.sinks.sqlite.names import printed, quote
from cdc_daemon.sinks.sqlite.shape import Shape
from cdc_daemon.sinks.steps import keys_of, written_rows

Suspects = dict[tuple[str, str], set[Stored]]
"""By (entity, attribute) that refers: values whose parent was not there."""


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

    def loosen(self, connection: Connection, layout: Layout, keys: Sequence[Key]) -> None:
        """Free hard-deleted keys from the tombstones that refer to them.

        A tombstone loses the reference where it may be NULL, else the tombstone goes.
        """
        if not keys:
            return
        burying = self._burying(layout.entity)
        if burying:
            named = self._first_parts(layout.entity, keys)
            for referrer in burying:
                connection.execute(self._loosening(layout.entity, referrer), (named,))

    def loosen_all(self, connection: Connection, entity: Entity) -> None:
        """The same for whatever rows of an entity are gone."""
        for referrer in self._burying(entity):
            connection.execute(self._loosening(entity, referrer, keyed=False))

    def loosen_late(self, connection: Connection, steps: Sequence[Step]) -> None:
        """The same for what steps delete whose tombstones come only after them.

        Such a row held the key, or was written with it, and was itself deleted softly later.
        """
        touched: set[str] = set()
        for step in reversed(steps):
            entity = step.layout.entity
            if not isinstance(step, Delete | Truncate) or step.layout.soft:
                touched.add(entity.name)
            elif isinstance(step, Truncate):
                self.loosen_all(connection, entity)
            elif any(referrer.entity.name in touched for referrer in self._burying(entity)):
                self.loosen(connection, step.layout, step.keys)

    # --- what is broken -------------------------------------------------------------------------

    def dangling(self, connection: Connection, steps: Sequence[Step]) -> dict[str, set[Key]]:
        """Entity keys at fault, by mapping."""
        found: dict[str, set[Key]] = {}
        for step in steps:
            if isinstance(step, Delete | Truncate):
                keys = self._still_referred_to(connection, step)
            else:
                keys = self._referring_to_nothing(connection, step)
            if keys:
                found.setdefault(step.layout.mapping, set()).update(keys)
        return found

    def suspects(self, connection: Connection, steps: Sequence[Step]) -> Suspects:
        """References that these steps may have broken, as things stand now."""
        found: Suspects = {}
        for step in steps:
            if not isinstance(step, Delete | Truncate):
                for attribute, values in self._written(step):
                    self._suspect(connection, found, step.layout.entity, attribute, values)
            if isinstance(step, Rename) or (
                isinstance(step, Delete | Truncate) and not step.layout.soft
            ):
                for referrer in self.of(step.layout.entity):
                    values = self._gone(connection, step, referrer)
                    self._suspect(connection, found, referrer.entity, referrer.attribute, values)
        return found

    def orphans(self, connection: Connection, entity: Entity) -> Suspects:
        """Every reference to an entity that is broken."""
        found: Suspects = {}
        for referrer in self.of(entity):
            values = self._orphans(connection, entity, referrer, living=False)
            self._suspect(connection, found, referrer.entity, referrer.attribute, values)
        return found

    def settle(self, connection: Connection, suspects: Suspects) -> bool:
        """Look at suspects again; whether all references are whole, tombstones let go."""
        for (name, attribute), values in suspects.items():
            entity = self._entities[name]
            parent = self._entities[str(entity.attribute(attribute).references)]
            referrer = Referrer(entity, attribute)
            named = as_json(list(values))
            if entity.soft_delete:
                connection.execute(self._loosening(parent, referrer), (named,))
            asked = (
                f"SELECT 1 FROM json_each(?1) k WHERE {self._has_child(referrer, living=False)}"
                f" AND {_no_parent(parent)} LIMIT 1"
            )
            if connection.execute(asked, (named,)).fetchone() is not None:
                return False
        return True

    # --- parts ----------------------------------------------------------------------------------

    def _burying(self, entity: Entity) -> list[Referrer]:
        """Who refers to an entity and may be a tombstone."""
        return [referrer for referrer in self.of(entity) if referrer.entity.soft_delete]

    def _written(self, step: Upsert | Patch | Rename) -> Iterator[tuple[str, set[Stored]]]:
        """Attributes that refer, and the distinct values a step writes to them."""
        for place, attribute in enumerate(step.layout.attributes):
            if attribute.references in self._entities:
                texts = {row[place] for row in written_rows(step)}
                values = [text for text in texts if isinstance(text, bytes)]
                if values:
                    yield attribute.name, set(stored(values, attribute))

    def _missing(
        self, connection: Connection, entity: Entity, attribute: str, values: set[Stored]
    ) -> set[Stored]:
        """Those of these values that no parent has."""
        parent = self._entities[str(entity.attribute(attribute).references)]
        sql = f"SELECT k.value FROM json_each(?1) k WHERE {_no_parent(parent)}"
        return {row[0] for row in connection.execute(sql, (as_json(list(values)),))}

    def _suspect(
        self,
        connection: Connection,
        found: Suspects,
        entity: Entity,
        attribute: str,
        values: set[Stored],
    ) -> None:
        missing = self._missing(connection, entity, attribute, values) if values else None
        if missing:
            found.setdefault((entity.name, attribute), set()).update(missing)

    def _gone(
        self, connection: Connection, step: Delete | Rename | Truncate, referrer: Referrer
    ) -> set[Stored]:
        """Values of a referring attribute that a hard delete may have left without a parent; a
        rename also deletes the tombstones whose keys it passes through."""
        entity = step.layout.entity
        if isinstance(step, Truncate):
            return self._orphans(connection, entity, referrer, living=False)
        sql = f"SELECT k.value FROM json_each(?1) k WHERE {self._has_child(referrer, living=False)}"
        keys = keys_of(step) if isinstance(step, Rename) else step.keys
        named = self._first_parts(entity, keys)
        return {row[0] for row in connection.execute(sql, (named,))} if keys else set()

    def _referring_to_nothing(
        self, connection: Connection, step: Upsert | Patch | Rename
    ) -> set[Key]:
        """Keys of written rows that hold a broken value, as the table has it now."""
        found: set[Key] = set()
        layout = step.layout
        for attribute, values in self._written(step):
            broken = self._missing(connection, layout.entity, attribute, values)
            if not broken:
                continue
            shape = Shape(layout)
            suspects = [layout.key_of(row) for row in written_rows(step)]
            sql = (
                f"SELECT k.key FROM json_each(?1) k CROSS JOIN {shape.table} t"
                f" WHERE {shape.on_json()}"
                f" AND t.{quote(attribute)} IN (SELECT b.value FROM json_each(?2) b)"
            )
            params = (shape.key_json(suspects), as_json(list(broken)))
            found |= {suspects[row[0]] for row in connection.execute(sql, params)}
        return found

    def _still_referred_to(self, connection: Connection, step: Delete | Truncate) -> set[Key]:
        entity = step.layout.entity
        found: set[Key] = set()
        if step.layout.soft:
            return found
        for referrer in self.of(entity):
            if isinstance(step, Truncate):
                orphans = self._orphans(connection, entity, referrer, living=True)
                found |= {(str(value).encode(),) for value in orphans}
            elif step.keys:
                sql = (
                    f"SELECT k.key FROM json_each(?1) k"
                    f" WHERE {self._has_child(referrer, living=True)} AND {_no_parent(entity)}"
                )
                named = (self._first_parts(entity, step.keys),)
                found |= {step.keys[row[0]][:1] for row in connection.execute(sql, named)}
        return found

    def _orphans(
        self, connection: Connection, parent: Entity, referrer: Referrer, *, living: bool
    ) -> set[Stored]:
        attribute, home = quote(referrer.attribute), quote(parent.name)
        value = printed(parent.attribute(parent.key[0]).type, f"c.{attribute}")
        sql = (
            f"SELECT DISTINCT {value} FROM {quote(referrer.entity.name)} c"
            f" WHERE c.{attribute} IS NOT NULL{_living(referrer) if living else ''} AND NOT EXISTS"
            f" (SELECT 1 FROM {home} p WHERE p.{quote(parent.key[0])} = c.{attribute})"
        )
        return {row[0] for row in connection.execute(sql)}

    def _has_child(self, referrer: Referrer, *, living: bool) -> str:
        return (
            f"EXISTS (SELECT 1 FROM {quote(referrer.entity.name)} c"
            f" WHERE c.{quote(referrer.attribute)} = k.value{_living(referrer) if living else ''})"
        )

    def _loosening(self, parent: Entity, referrer: Referrer, *, keyed: bool = True) -> str:
        key, home = quote(parent.key[0]), quote(parent.name)
        attribute = quote(referrer.attribute)
        table = quote(referrer.entity.name)
        action = f"UPDATE {table} AS c SET {attribute} = NULL"
        if referrer.lasting:
            action = f"DELETE FROM {table} AS c"
        meant = "IN (SELECT k.value FROM json_each(?1) k)" if keyed else "IS NOT NULL"
        return (
            f"{action} WHERE c.{attribute} {meant} AND c.{quote(DELETED_AT)} IS NOT NULL"
            f" AND NOT EXISTS (SELECT 1 FROM {home} p WHERE p.{key} = c.{attribute})"
        )

    def _first_parts(self, entity: Entity, keys: Sequence[Key]) -> str:
        type_ = entity.attribute(entity.key[0]).type
        return key_texts([key[:1] for key in keys], [type_])


def _no_parent(parent: Entity) -> str:
    return (
        f"NOT EXISTS (SELECT 1 FROM {quote(parent.name)} p"
        f" WHERE p.{quote(parent.key[0])} = k.value)"
    )


def _living(referrer: Referrer) -> str:
    return f" AND c.{quote(DELETED_AT)} IS NULL" if referrer.entity.soft_delete else ""
