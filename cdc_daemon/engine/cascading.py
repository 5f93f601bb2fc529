"""Changes that a source's server made by foreign keys, and that its log lacks, put where they were.

What the server did follows from the parent's change, the key's rule and which rows referred to the
parent at that place of the log. Which ones did is noted in the ledger, in the unit of work that
applies the changes which made it so: a row that is read in the source would be that of now, when
the parent may be back and others refer to it. Deletes of children go before that of their parent,
updates behind it, as part of its transaction; from there on they are changes like others.

Not in here: what is kept of a row (followed), which events did not act (the source says so).
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from operator import itemgetter

from cdc_daemon.engine.applying import LONG_STEP
from cdc_daemon.engine.followed import (
    Followed,
    ParentDigests,
    Tracked,
    mark,
    not_whole,
    referred,
    tracked_of,
)
from cdc_daemon.model.cascades import Action, Cascade, Cascades, Child
from cdc_daemon.model.changes import Batch, Operation, Relation, Run
from cdc_daemon.model.errors import PreflightRefusal, Problem
from cdc_daemon.model.ports import UnitOfWork

Name = tuple[str, str]
Patience = Callable[[float], AbstractContextManager[None]]
Deliver = Callable[[Batch, bool], None]
"""Applies a piece of a batch; whether it is the last."""

PIECE = 2000
"""Rows that are followed at a time, and changes after which a piece is applied."""

_MOST_KEYS = 100_000
_FIRST = itemgetter(0)


class Cascading:
    """The foreign keys of one source.

    ``relations``: its tables as they are now. ``progressed`` is called for each page of rows that
    is followed, for one change may have any number of them; ``patience`` is held while one step may
    take so many seconds.
    """

    def __init__(
        self,
        pipeline: str,
        found: Cascades,
        relations: Iterable[Relation],
        progressed: Callable[[], None] = lambda: None,
        patience: Patience = lambda _: nullcontext(),
    ) -> None:
        self._pipeline = pipeline
        self.progressed = progressed
        self.patience = patience
        self._found = found
        self.keys = found.keys
        self.digests = {key: ParentDigests(key, pipeline) for key in found.keys}
        self._by_child: dict[Name, list[Cascade]] = {}
        self._by_parent: dict[Name, list[Cascade]] = {}
        for key in found.keys:
            self._by_child.setdefault(key.child, []).append(key)
            self._by_parent.setdefault(key.parent, []).append(key)
        self._known: dict[Relation, Followed | None] = {}
        self._newest: dict[Name, Followed] = {}
        self._shift = 0  # by how much ordinals are more than the source gave
        self.added = 0  # changes that the log lacked
        for relation in (*relations, *found.beside):
            self.followed(relation)

    @property
    def needed(self) -> bool:
        """Whether the source's log may lack what keys do."""
        return self._found.silent

    def carry_out(self, batch: Batch, unit: UnitOfWork, deliver: Deliver) -> None:
        """Deliver the batch in pieces, with what its changes did to other rows."""
        if not self.keys:
            deliver(batch, True)
            return
        walk = _Walk(self, batch, unit, deliver, self._shift)
        walk.run()
        self._shift = walk.shift
        self.added += walk.added

    def copied(self, batch: Batch, unit: UnitOfWork) -> Batch:
        """A batch of a copy, once its rows are noted, without those of tables that nobody maps."""
        found: list[Batch] = []
        self.carry_out(batch, unit, lambda piece, _: found.append(piece))
        return found[0]

    def followed(self, relation: Relation) -> Followed | None:
        """What is tracked of a table's rows; None: no key is concerned."""
        if relation in self._known:
            return self._known[relation]
        name = (relation.schema, relation.table)
        as_child, as_parent = self._by_child.get(name, ()), self._by_parent.get(name, ())
        found = Followed(relation, as_child, as_parent) if as_child or as_parent else None
        self._known[relation] = found
        if found is not None:
            self._newest[name] = found
        return found

    def child_of(self, key: Cascade) -> Followed:
        """The table that refers."""
        return self._newest[key.child]

    # --- what was copied ------------------------------------------------------------------------

    def end_copy(self, unit: UnitOfWork) -> None:
        """Note for which keys the copied rows were."""
        if self.keys:
            unit.note_children(self._pipeline, [], list(self._marks().values()))

    def require(self, unit: UnitOfWork) -> None:
        """Raise PreflightRefusal where rows were noted for other keys than those of now.

        Where keys are ignored, nothing is noted any longer, and the ledger says so.
        """
        marks = self._marks()
        noted = set(unit.children([self._place()], _MOST_KEYS))
        if self._found.ignored:
            if noted:
                unit.forget_children()
        elif noted != marks.keys():
            what = "its foreign keys that change rows are not those of when its tables were copied"
            cure = f"copy everything anew: cdc-daemon snapshot start {self._pipeline}"
            where = f"source {self._pipeline}"
            raise PreflightRefusal([Problem(what=what, where=where, cure=cure)])

    def _place(self) -> bytes:
        """Where the ledger says for which keys rows are noted."""
        return mark(f"keys of {self._pipeline}")

    def _marks(self) -> dict[str, Child]:
        """By its text, what the ledger says for each key."""
        texts = [_told(key, self.child_of(key).names) for key in self.keys]
        return {text: Child(self._place(), mark(text), text) for text in texts}


class _Walk:
    """One batch on its way."""

    def __init__(
        self, keys: Cascading, batch: Batch, unit: UnitOfWork, deliver: Deliver, shift: int
    ) -> None:
        self._keys = keys
        self._batch = batch
        self._unit = unit
        self._deliver = deliver
        self.shift = shift
        self.added = 0
        self._at = 0  # the source's ordinal of the change at hand
        self._runs: list[Run] = []
        self._size = 0
        self._begins = list(batch.begins)
        self._passed = 0  # transactions whose ordinals are final
        self._gone: dict[str, dict[tuple[bytes, bytes], None]] = {}
        self._come: dict[str, dict[tuple[bytes, bytes], Child]] = {}

    def run(self) -> None:
        """Every run, then what is left."""
        for run in self._batch.runs:
            self._take(run)
        self._shift_begins(None)
        self._flush()
        self._deliver(replace(self._batch, runs=self._runs, begins=self._begins), True)

    def _take(self, run: Run) -> None:
        followed = self._keys.followed(run.relation)
        self._at = run.sequence
        if followed is None or not _acts(run):
            self._shift_begins(run.sequence + len(run) - 1)
            self._note(followed, run)
            self._pass_on(run)
            return
        for part in self._by_transaction(run):
            self._at = part.sequence
            self._shift_begins(part.sequence)
            self._act(followed, part)

    def _act(self, followed: Followed, run: Run) -> None:
        """A change by which the server made others."""
        if not run.old_full or run.old_rows is None:
            raise not_whole(run.relation)
        olds = followed.tracked(run.old_rows)
        if run.operation is Operation.DELETE:
            self._forget(followed, olds)
            self._follow_deletes(followed, olds)
            self._forget(followed, olds)  # again: a row of them may have referred to another one
            self._pass_on(run)
            return
        self._note(followed, run)
        self._pass_on(run)
        self._at = run.sequence + len(run)
        self._follow_updates(followed, olds, followed.tracked(run.new_rows))

    # --- what follows ---------------------------------------------------------------------------

    def _follow_deletes(self, followed: Followed, rows: Sequence[Tracked]) -> None:
        for key in followed.as_parent:
            places = followed.places(key.parent_columns)
            digests = self._digests(key, [referred(row, places) for row in rows])
            child = self._keys.child_of(key)
            match key.on_delete:
                case Action.CASCADE:
                    for found in self._children(digests):
                        self._forget(child, found)
                        self._follow_deletes(child, found)
                        self._add(child.deleted(found))
                case Action.SET_NULL:
                    for found in self._children(digests):
                        nulls = dict.fromkeys(child.places(key.columns))
                        self._change(child, found, [_with(row, nulls) for row in found])
                case Action.NONE:
                    pass

    def _follow_updates(
        self, followed: Followed, olds: Sequence[Tracked], news: Sequence[Tracked]
    ) -> None:
        for key in followed.as_parent:
            if key.on_update is Action.NONE:
                continue
            places = followed.places(key.parent_columns)
            for old, new in zip(olds, news, strict=True):
                before, after = referred(old, places), referred(new, places)
                if before != after:
                    self._follow_update(key, before, after)

    def _follow_update(
        self, key: Cascade, before: tuple[bytes | None, ...], after: tuple[bytes | None, ...]
    ) -> None:
        child = self._keys.child_of(key)
        values = after if key.on_update is Action.CASCADE else (None,) * len(after)
        assigned = dict(zip(child.places(key.columns), values, strict=True))
        for found in self._children(self._digests(key, [before])):
            self._change(child, found, [_with(row, assigned) for row in found])

    def _change(self, child: Followed, olds: Sequence[Tracked], news: Sequence[Tracked]) -> None:
        self._forget(child, olds)
        self._remember(child, news)
        for run in child.updated(olds, news):
            self._add(run)
        self._follow_updates(child, olds, news)

    def _digests(self, key: Cascade, parents: Iterable[tuple[bytes | None, ...]]) -> list[bytes]:
        digests = self._keys.digests[key]
        return [
            digests.of(values)  # type: ignore[arg-type]
            for values in dict.fromkeys(parents)
            if None not in values
        ]

    def _children(self, parents: Sequence[bytes]) -> Iterator[list[Tracked]]:
        """Rows that refer to any of these, so many at a time that they fit into a piece."""
        if not parents:
            return
        self._flush()
        texts = self._unit.children(parents, PIECE)
        if len(texts) < PIECE:
            if texts:
                yield list(map(tracked_of, texts))
            return
        for parent in parents:
            after = b""
            while texts := self._unit.children([parent], PIECE, after):
                self._keys.progressed()
                after = mark(texts[-1])
                yield list(map(tracked_of, texts))
                self._flush()

    # --- what is noted --------------------------------------------------------------------------

    def _note(self, followed: Followed | None, run: Run) -> None:
        """What a change of the log makes of the notes."""
        if followed is None or not followed.as_child:
            return
        if run.operation is Operation.TRUNCATE:
            self._flush()
            with self._keys.patience(LONG_STEP):
                self._unit.forget_children(run.relation.name)
            return
        if run.old_rows is not None and not run.old_full:
            raise not_whole(run.relation)
        if run.operation is Operation.UPDATE and run.old_rows is None:
            return
        olds, news = followed.tracked(run.old_rows or ()), followed.tracked(run.new_rows)
        if not olds or not news:
            self._forget(followed, olds)
            self._remember(followed, news)
            return
        for old, new in zip(olds, news, strict=True):  # a row may be in a run more than once
            self._forget(followed, [old])
            self._remember(followed, [new])

    def _forget(self, followed: Followed, rows: Sequence[Tracked]) -> None:
        gone = self._gone.setdefault(followed.relation.name, {})
        come = self._come.setdefault(followed.relation.name, {})
        for parent, digest, _ in followed.notes(rows):
            come.pop((parent, digest), None)
            gone[parent, digest] = None

    def _remember(self, followed: Followed, rows: Sequence[Tracked]) -> None:
        come = self._come.setdefault(followed.relation.name, {})
        for note in followed.notes(rows):
            come[note.parent, note.digest] = note

    def _flush(self) -> None:
        """Let the ledger know."""
        for table in self._gone.keys() | self._come.keys():
            gone, come = self._gone.get(table, {}), self._come.get(table, {})
            if gone or come:
                self._unit.note_children(table, list(gone), list(come.values()))
        self._gone, self._come = {}, {}

    # --- what goes on ---------------------------------------------------------------------------

    def _pass_on(self, run: Run) -> None:
        """A change of the log, with its place among those that were added."""
        self._put(replace(run, sequence=run.sequence + self.shift) if self.shift else run)

    def _add(self, run: Run) -> None:
        """A change that the log lacks."""
        run.sequence = self._at + self.shift
        self.shift += len(run)
        self._put(run)
        if run.relation.mapped:
            self.added += len(run)
            self._size += len(run)
        if self._size >= PIECE:
            runs, self._runs, self._size = self._runs, [], 0
            self._deliver(Batch(runs=runs, begins=self._begins[: self._passed]), False)

    def _put(self, run: Run) -> None:
        if run.relation.mapped:
            self._runs.append(run)

    def _shift_begins(self, ordinal: int | None) -> None:
        """Transactions that begin up to that change have their place; None: all."""
        begins = self._begins
        while self._passed < len(begins):
            first, mark, time = begins[self._passed]
            if ordinal is not None and first > ordinal:
                return
            begins[self._passed] = (first + self.shift, mark, time)
            self._passed += 1

    def _by_transaction(self, run: Run) -> Iterator[Run]:
        """The run's changes of one transaction at a time."""
        end = run.sequence + len(run)
        begins = self._batch.begins
        low = bisect_right(begins, run.sequence, key=_FIRST)
        starts = [first for first, _, _ in begins[low : bisect_left(begins, end, key=_FIRST)]]
        for start, stop in zip([run.sequence, *starts], [*starts, end], strict=True):
            a, b = start - run.sequence, stop - run.sequence
            yield replace(
                run,
                new_rows=run.new_rows[a:b],
                old_rows=run.old_rows and run.old_rows[a:b],
                sequence=start,
            )


def _told(key: Cascade, tracked: Sequence[str]) -> str:
    """A key and what is tracked for it; other words make every ledger one of other keys."""
    ends = [[*key.child, *key.columns], [*key.parent, *key.parent_columns]]
    rules = [key.on_delete.value, key.on_update.value]
    return json.dumps([1, *ends, *rules, sorted(key.padded), tracked], ensure_ascii=False)


def _acts(run: Run) -> bool:
    """Whether other rows may have followed these."""
    changes = run.operation is Operation.DELETE or run.operation is Operation.UPDATE
    return run.acts and changes and run.old_rows is not None


def _with(row: Tracked, values: Mapping[int, bytes | None]) -> Tracked:
    return tuple([values.get(i, value) for i, value in enumerate(row)])
