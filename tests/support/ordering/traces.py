"""What really took effect, in what order, as the control database itself tells it: by triggers.

Each row that is written, moved or deleted is noted in the same transaction, with its version. The
triggers also refuse rows that are to live, as long as a word of theirs stands in ``refused``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeVar

K = TypeVar("K")
KEYS: Final = {"customer": "code", "sales_order": "order_no", "item": "id"}
"""The entities and their keys."""

_TABLES_POSTGRES: Final = """
    CREATE TABLE refused (word text PRIMARY KEY);
    CREATE TABLE trace (n bigserial PRIMARY KEY, unit text, entity text, operation text,
        key text, origin bigint, version bigint);
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF EXISTS (SELECT FROM public.refused WHERE word = NEW.note)
                AND to_jsonb(NEW) ->> 'deleted_at' IS NULL THEN
            RAISE EXCEPTION 'refused' USING ERRCODE = 'check_violation';
        END IF;
        RETURN NEW;
    END $$;
    CREATE FUNCTION trace() RETURNS trigger LANGUAGE plpgsql AS $$ DECLARE
        r jsonb := to_jsonb(CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END);
    BEGIN
        INSERT INTO public.trace (unit, entity, operation, key, origin, version)
        VALUES (txid_current()::text, TG_TABLE_NAME, lower(TG_OP), r ->> TG_ARGV[0],
                (r ->> 'origin')::bigint, (r ->> 'version')::bigint);
        RETURN NULL;
    END $$;
"""
_TRIGGERS_POSTGRES: Final = """
    CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON {entity} FOR EACH ROW EXECUTE FUNCTION
        refuse();
    CREATE TRIGGER trace AFTER INSERT OR UPDATE OR DELETE ON {entity} FOR EACH ROW EXECUTE FUNCTION
        trace('{key}');
"""
_TABLES_SQLITE: Final = """
    CREATE TABLE refused (word TEXT PRIMARY KEY);
    CREATE TABLE trace (n INTEGER PRIMARY KEY AUTOINCREMENT, unit TEXT, entity TEXT, operation TEXT,
        key TEXT, origin INTEGER, version INTEGER);
"""
_REFUSE_SQLITE: Final = """
    CREATE TRIGGER refuse_{operation}_{entity} BEFORE {operation} ON {entity}
    WHEN EXISTS (SELECT 1 FROM refused WHERE word = NEW.note) {living}
    BEGIN SELECT RAISE(ABORT, 'refused'); END;
"""
_TRACE_SQLITE: Final = """
    CREATE TRIGGER trace_{operation}_{entity} AFTER {operation} ON {entity} BEGIN
        INSERT INTO trace (unit, entity, operation, key, origin, version) VALUES (
            (SELECT updated_at FROM cdc_checkpoint), '{entity}', '{operation}',
            {row}.{key}, {row}.origin, {row}.version);
    END;
"""


def postgres_triggers(keys: Mapping[str, str]) -> str:
    """Tables and triggers on PostgreSQL. ``keys``: the entities, and the key of each."""
    each = [_TRIGGERS_POSTGRES.format(entity=name, key=key) for name, key in keys.items()]
    return _TABLES_POSTGRES + "".join(each)


def sqlite_triggers(keys: Mapping[str, str], *, soft: bool) -> str:
    """The same on SQLite."""
    found = [_TABLES_SQLITE]
    living = "AND NEW.deleted_at IS NULL" if soft else ""
    for entity, key in keys.items():
        for operation, row in (("insert", "NEW"), ("update", "NEW"), ("delete", "OLD")):
            names = {"entity": entity, "key": key, "operation": operation, "row": row}
            found.append(_TRACE_SQLITE.format(**names))
            if row == "NEW":
                found.append(_REFUSE_SQLITE.format(**names, living=living))
    return "".join(found)


class Trace(NamedTuple):
    """One row that was written, moved (``update``) or deleted, as it was after that."""

    unit: str
    entity: str
    operation: str
    key: str
    origin: int
    version: int


READ: Final = (
    "SELECT n, unit, entity, operation, key, origin, version FROM trace WHERE n > %s ORDER BY n"
)


@dataclass(slots=True)
class Order:
    """The highest version that each source row, and each entity key, has been written in.

    A row's own is looked at with every write; a key's as each unit of work leaves it, for inside
    one rows may change places. ``taken``: keys that somebody has given a row by an edit.
    """

    rows: dict[tuple[str, int], int] = field(default_factory=dict)
    keys: dict[tuple[str, str], int] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    seen: int = 0

    def follow(self, traces: Sequence[Trace], ahead: Collection[int]) -> None:
        """Take these in; AssertionError for one that goes back.

        ``ahead``: versions that were read at the source and not in its log: what comes of the log
        behind them may be older.
        """
        left: dict[tuple[str, str], Trace] = {}
        unit = ""
        for one in traces:
            if one.unit != unit:
                self._leave(left, ahead)
                left, unit = {}, one.unit
            left[one.entity, one.key] = one
            _rise(self.rows, (one.entity, one.origin), one, ahead)
            self.seen += 1
        self._leave(left, ahead)

    def _leave(self, left: dict[tuple[str, str], Trace], ahead: Collection[int]) -> None:
        for key, one in left.items():
            if one.operation != "delete" and one.key not in self.taken:
                _rise(self.keys, key, one, ahead)


def _rise(highest: dict[K, int], key: K, one: Trace, ahead: Collection[int]) -> None:
    before = highest.get(key, 0)
    assert one.version >= before, f"{key} was written in version {before}, and then {one}"
    if one.version not in ahead:
        highest[key] = one.version
