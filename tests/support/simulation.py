"""A source and a control database made of dictionaries, with the real engine between them.

The source commits transactions of random row changes; its log says of each what PostgreSQL's would:
old keys only where they changed, and nothing of a long text that did not. The control database is
the model of the sink's contract (`tests/contract/model.py`), one for each mapping, joined by the
references that its entities declare. No server, no SQL: thousands of histories in seconds.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent
from typing import Final, Self

from cdc_daemon import build
from cdc_daemon.config.configuration import Configuration
from cdc_daemon.config.load import load
from cdc_daemon.engine.applying import Applier
from cdc_daemon.engine.awaiting import Awaited
from cdc_daemon.engine.blocked import Lanes
from cdc_daemon.engine.lanes import Held
from cdc_daemon.engine.resolve import Resolver
from cdc_daemon.mapping.mapper import Mapper
from cdc_daemon.model.cascades import Child
from cdc_daemon.model.changes import (
    UNCHANGED,
    Batch,
    Column,
    ColumnType,
    Operation,
    Relation,
    Row,
    Run,
)
from cdc_daemon.model.effects import (
    Delete,
    Key,
    Layout,
    Outcome,
    Patch,
    Rename,
    Step,
    Truncate,
    Upsert,
)
from cdc_daemon.model.errors import DataError, LateFailure
from tests.contract.model import Duplicate, Model

Texts = dict[str, str | None]
"""One source row by column name."""

CONFIGURATION: Final = """
    sources: {erp: {kind: postgres, dsn: "postgresql://cdc@127.0.0.1/erp"}}
    target: {url: "postgresql://cdc@127.0.0.1/control"}
    entities:
      customer:
        key: [code]
        attributes: {code: string(40), name: string(4), note: text}
      sales_order:
        key: [order_no]
        attributes:
          order_no: string(40)
          customer_code: {type: string(40), references: customer}
          note: text
      item:
        key: [id]
        attributes: {id: string(40), name: string(4), note: text}
    mappings:
      - {from: erp.public.customer, to: customer, key: {code: number}, on_delete: %(delete)s,
         fields: {name: name, note: note}}
      - {from: erp.public.orders, to: sales_order, key: {order_no: number}, on_delete: %(delete)s,
         fields: {customer_code: {ref: name, from: erp.public.customer}, note: note}}
      - {from: erp.public.item, to: item, key: {id: id}, where: "note <> 'hidden'",
         on_delete: %(delete)s, fields: {name: {expr: "name || '!'"}, note: note}}
"""
COLUMNS: Final = ("id", "number", "name", "note")
TABLES: Final = ("customer", "orders", "item")
LONG: Final = 8  # a text so long is left out of the log where it did not change


@dataclass(frozen=True, slots=True)
class Change:
    """One row change. ``old``/``new``: the row before and after; a truncate has neither."""

    table: str
    operation: Operation
    old: Texts | None = None
    new: Texts | None = None


Tables = dict[str, dict[str, Texts]]
"""Rows by table and id."""


def relations() -> dict[str, Relation]:
    """The three tables, all of text columns."""
    return {
        table: Relation(
            source="erp",
            schema="public",
            table=table,
            columns=tuple(Column(name=n, type=ColumnType("text")) for n in COLUMNS),
            identity=(0,),
        )
        for table in TABLES
    }


def logged(change: Change, relation: Relation) -> Run:
    """What the log says of one change."""
    run = Run(relation=relation, operation=change.operation)
    if change.new is not None:
        run.new_rows = [_new_row(change.old, change.new, relation)]
        run.partial = UNCHANGED in run.new_rows[0]
    if change.old is not None and (change.new is None or change.new["id"] != change.old["id"]):
        run.old_rows = [(encoded(change.old["id"]),)]
    return run


def _new_row(old: Texts | None, new: Texts, relation: Relation) -> Row:
    return tuple(
        UNCHANGED
        if old is not None and name == "note" and old[name] == new[name] and _is_long(new[name])
        else encoded(new[name])
        for name in (column.name for column in relation.columns)
    )


def _is_long(text: str | None) -> bool:
    return text is not None and len(text) >= LONG


def encoded(text: str | None) -> bytes | None:
    """A value as the log has it."""
    return None if text is None else text.encode()


def runs_of(changes: Sequence[Change], first: int, known: Mapping[str, Relation]) -> list[Run]:
    """Neighbouring changes of one kind as one run, as the decoder makes them."""
    runs: list[Run] = []
    for n, change in enumerate(changes):
        run = logged(change, known[change.table])
        run.sequence = first + n
        last = runs[-1] if runs else None
        if last is not None and _alike(last, run):
            last.new_rows += run.new_rows
            if last.old_rows is not None:
                last.old_rows += run.old_rows or ()
        else:
            runs.append(run)
    return runs


def _alike(one: Run, other: Run) -> bool:
    kinds = [(r.relation, r.operation, r.partial, r.old_rows is None) for r in (one, other)]
    return kinds[0] == kinds[1] and one.operation is not Operation.TRUNCATE


# --- the control database -------------------------------------------------------------------------


class Control:
    """``UnitOfWork`` over models, as far as the engine's applying asks; parks nothing itself.

    It refuses rows whose note is `poison`, as a CHECK would, unless ``cured``; ``tells``: it can
    say which.
    """

    def __init__(self, layouts: Sequence[Layout], *, tells: bool) -> None:
        self.cured = False
        self._models = {layout.mapping: Model(layout) for layout in layouts}
        self._tells = tells

    def living(self, mapping: str) -> dict[Key, Row]:
        return self._models[mapping].living

    def copy(self) -> dict[str, Model]:
        return copy.deepcopy(self._models, {id(UNCHANGED): UNCHANGED} | self._layouts())

    def restore(self, before: dict[str, Model]) -> None:
        self._models = before

    def _layouts(self) -> dict[int, object]:
        """Layouts are compared by identity: they are shared, not copied."""
        return {id(model.layout): model.layout for model in self._models.values()}

    def _refuses(self, row: Row) -> bool:
        return b"poison" in row and not self.cured

    # --- UnitOfWork ---------------------------------------------------------------------------

    def references(self, layout: Layout, source_keys: Sequence[Key]) -> dict[Key, Key]:
        known = self._models[layout.mapping].references
        return {key: known[key] for key in source_keys if key in known}

    def apply(self, steps: Sequence[Step]) -> Outcome:
        outcome = Outcome()
        before = self.copy()
        try:
            for step in steps:
                if any(map(self._refuses, _rows(step))):
                    raise poison()
                self._apply(step, outcome)
        except (Duplicate, DataError) as error:
            self.restore(before)
            if isinstance(error, DataError):
                raise
            raise DataError("somebody else's", code="duplicate_entity_key") from None
        return outcome

    def _apply(self, step: Step, outcome: Outcome) -> None:
        model = self._models[step.layout.mapping]
        model.layout = step.layout
        model.apply([step])
        for kind, number in model.counts.items():
            outcome.count(step.layout.mapping, kind, number)
        outcome.missing += [(step.layout, row) for row in model.missing]
        if isinstance(step, Rename):
            self._cascade(step, model.missing)

    def _cascade(self, step: Rename, missing: Sequence[Row]) -> None:
        """References follow the rows that were renamed, all at once."""
        ends: dict[Key, tuple[Key, Key | None]] = {}  # and which source row has it by then
        nobody: list[Key | None] = [None] * len(step.pairs)
        sources, before = step.source_keys or nobody, step.old_source_keys or nobody
        for (old, row), was, now in zip(step.pairs, before, sources, strict=True):
            if row in missing:
                continue
            start = next((k for k, end in ends.items() if end == (old, was) and k != old), old)
            ends[start] = step.layout.key_of(row), now
        for model, place in self._referring(step.layout.entity.name):
            for rows in (model.living,):
                for key, row in rows.items():
                    end = ends.get((row[place],))  # type: ignore[arg-type]
                    if end is not None:
                        rows[key] = (*row[:place], end[0][0], *row[place + 1 :])

    def _referring(self, entity: str) -> Iterator[tuple[Model, int]]:
        for model in self._models.values():
            for place, attribute in enumerate(model.layout.attributes):
                if attribute.references == entity:
                    yield model, place

    def faults(
        self, steps: Sequence[Step], like: DataError | None = None
    ) -> dict[str, dict[Key, DataError]]:
        found: dict[str, dict[Key, DataError]] = {}
        for step in steps if self._tells else ():
            for row in filter(self._refuses, _rows(step)):
                found.setdefault(step.layout.mapping, {})[step.layout.key_of(row)] = poison()
        return found

    def dangling(self, steps: Sequence[Step]) -> dict[str, set[Key]]:
        found: dict[str, set[Key]] = {}
        for step in steps:
            keys = set(self._broken(step))
            if keys:
                found.setdefault(step.layout.mapping, set()).update(keys)
        return found

    def _broken(self, step: Step) -> Iterator[Key]:
        layout = step.layout
        if isinstance(step, Delete | Truncate):
            if layout.soft:
                return
            here = self._models[layout.mapping].living
            for model, place in self._referring(layout.entity.name):
                meant = [row[place] for row in model.living.values()]
                gone = {(v,) for v in meant if isinstance(v, bytes) and (v,) not in here}
                yield from (gone if isinstance(step, Truncate) else gone & set(step.keys))
            return
        living = self._models[layout.mapping].living
        for key in (layout.key_of(row) for row in _rows(step)):
            row = living.get(key)
            for place, attribute in enumerate(layout.attributes):
                if attribute.references and row is not None and row[place] is not None:
                    parent = next(
                        m
                        for m in self._models.values()
                        if m.layout.entity.name == attribute.references
                    )
                    held = (row[place],)
                    if held not in parent.living and held not in parent.dead:
                        yield key

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        before = self.copy()
        try:
            yield
        except BaseException:
            self.restore(before)
            raise

    def children(self, parents: Sequence[bytes], most: int, after: bytes = b"") -> list[str]:
        raise NotImplementedError

    def note_children(
        self, table: str, gone: Sequence[tuple[bytes, bytes]], come: Sequence[Child]
    ) -> None:
        raise NotImplementedError

    def forget_children(self, table: str | None = None) -> None:
        raise NotImplementedError

    @property
    def queue(self) -> Self:
        """A failure queue that forgets nothing but what a truncate undoes."""
        return self

    def supersede(self, mapping: str) -> int:
        del mapping
        return 0

    def arrived(self, digests: Sequence[bytes]) -> None:
        del digests


def _rows(step: Step) -> list[Row]:
    match step:
        case Upsert() | Patch():
            return step.rows
        case Rename():
            return [row for _, row in step.pairs]
        case _:
            return []


def poison() -> DataError:
    """The error of a row that the control database refuses."""
    return DataError("no", code="sqlstate_23514")


# --- the whole ------------------------------------------------------------------------------------


@dataclass
class Simulation:
    """A pipeline over dictionaries. ``tables``: the source as it is when it is read again."""

    folder: Path
    delete: str = "hard"
    tells: bool = True
    tables: Tables = field(default_factory=lambda: {table: {} for table in TABLES})
    parked: list[Held] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.configuration = self._configuration()
        self.relations = relations()
        compile_relation = build.compiler(self.configuration, "erp")
        self.compiled = [one for r in self.relations.values() for one in compile_relation(r)]
        by_relation = {one.relation: [one] for one in self.compiled}
        layouts = [one.layout for one in self.compiled]
        self.control = Control(layouts, tells=self.tells)
        self.lanes = Lanes()
        self.applier = Applier(
            mapper=Mapper(lambda relation: by_relation[relation]),
            resolver=Resolver({layout.mapping: layout for layout in layouts}),
            awaited=Awaited(),
            lanes=self.lanes,
            reread=self._reread,
            rank=build.entity_rank(self.configuration),
            linked=build.linked_entities(self.configuration),
        )
        self._sequence = 0

    def _configuration(self) -> Configuration:
        path = self.folder / f"{self.delete}.yaml"
        path.write_text(dedent(CONFIGURATION) % {"delete": self.delete}, "utf-8")
        return load([path], environ={})

    def commit(self, pieces: Sequence[Sequence[Change]]) -> None:
        """One transaction, seen in these pieces; tried again as the worker would."""
        before = self.control.copy()
        for _ in range(20):
            try:
                held = self._unit(pieces)
            except LateFailure as failure:
                self.control.restore(before)
                before = self.control.copy()
                self.applier.forget()
                self.applier.condemn(failure)
                continue
            self.applier.settle()
            self.parked += held
            self._sequence += sum(map(len, pieces))
            return
        raise AssertionError("the transaction never settles")

    def _unit(self, pieces: Sequence[Sequence[Change]]) -> list[Held]:
        held: list[Held] = []
        first = self._sequence
        for n, piece in enumerate(pieces):
            final = n == len(pieces) - 1
            batch = Batch(
                runs=runs_of(piece, first, self.relations), begins=[(self._sequence, 1, 1)]
            )
            first += len(piece)
            division = self.applier.apply(batch, self.control, final=final).division  # type: ignore[arg-type]
            held = [one for one in held if one.layout.mapping not in division.superseded]
            held += division.held
        return held

    def _reread(self, relation: Relation, keys: Sequence[Key]) -> dict[Key, Row]:
        rows = self.tables[relation.table]
        found = {key: rows.get(key[0].decode()) for key in keys}
        return {
            key: tuple(encoded(row[name]) for name in COLUMNS)
            for key, row in found.items()
            if row is not None
        }

    def mapping(self, table: str) -> str:
        return next(one.layout.mapping for one in self.compiled if one.relation.table == table)

    def wanted(self, tables: Tables, table: str) -> dict[Key, tuple[bytes | None, ...]]:
        """The entity rows of that source state, said in a few lines of their own."""
        numbers = {row["id"]: row["number"] for row in tables["customer"].values()}
        find: dict[str, Callable[[Texts], tuple[str | None, ...] | None]] = {
            "customer": lambda row: (row["number"], row["name"], row["note"]),
            "orders": lambda row: (row["number"], numbers.get(row["name"]), row["note"]),
            "item": lambda row: (
                None
                if row["note"] in (None, "hidden")
                else (row["id"], None if row["name"] is None else row["name"] + "!", row["note"])
            ),
        }
        rows = [find[table](row) for row in tables[table].values()]
        texts = [tuple(map(encoded, row)) for row in rows if row is not None]
        return {(row[0] or b"",): row for row in texts}

    def found(self, table: str) -> dict[Key, tuple[bytes | None, ...]]:
        """The living entity rows, in the order of the entity's attributes."""
        layout = next(one.layout for one in self.compiled if one.relation.table == table)
        order = [layout.columns.index(name) for name in layout.entity.names]
        living = self.control.living(layout.mapping)
        return {key: tuple(row[i] for i in order) for key, row in living.items()}  # type: ignore[misc]
