"""Other values for parked changes, as an administrator gives them; the old ones are kept.

What is edited are values of the new image. The columns that name the source row stay: they say
which row it is, and which lane. A column must be one that the mapping reads, its type must take the
value, and the mapping must take the row; whether the control database takes it, a retry shows. One
command is done wholly, or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cdc_daemon.engine.faults import missing_value
from cdc_daemon.engine.lanes import entity_lane
from cdc_daemon.engine.payload import batch_of, fingerprint
from cdc_daemon.engine.privacy import NOTHING, Privacy
from cdc_daemon.mapping.compile import CompiledMapping, columns_of
from cdc_daemon.mapping.mapper import Mapper
from cdc_daemon.mapping.source_text import source_text
from cdc_daemon.model.changes import Relation
from cdc_daemon.model.effects import EntityRun
from cdc_daemon.model.errors import CdcError, DataError
from cdc_daemon.model.ports import Command, Sink
from cdc_daemon.model.queue import Failure
from cdc_daemon.model.selection import Selection

Values = dict[str, str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is to become of one change: some values of its new image, or its whole payload.

    ``was``: the fingerprint of the payload that the sender had before him; None: any.
    """

    id: int
    values: Values | None
    payload: dict[str, Any] | None
    was: str | None


class Refused(Exception):
    """A change that stays as it is, and why: never with a value."""


class Editing:
    """Edits parked changes of one pipeline."""

    def __init__(
        self,
        *,
        sink: Sink,
        compile_relation: Callable[[Relation], Sequence[CompiledMapping]],
        relations: Callable[[], list[Relation]],
        privacy: Privacy = NOTHING,
    ) -> None:
        self._privacy = privacy
        self._sink = sink
        self._compile = compile_relation
        self._relations = relations

    def carry_out(self, command: Command, reason: str) -> dict[str, object]:
        """Edit what the command says, unless some of it is refused, or it only asks.

        The result: ``edited``, ids; ``same``, ids whose payload is that already; ``refused``, pairs
        of id and words. Raises CdcError for arguments of no shape.
        """
        wishes = _wishes(command.arguments.get("edits"))
        relations = {relation.name: relation for relation in self._relations()}
        ids = tuple(one.id for one in wishes)
        known = {one.id: one for one in self._sink.failures(Selection(ids=ids))}
        made: list[tuple[Failure, dict[str, object]]] = []
        refused: list[tuple[int, str]] = []
        for wish in wishes:
            try:
                failure = self._meant(wish, known)
                made.append((failure, self._edited(failure, wish, relations.get(failure.table))))
            except Refused as error:
                refused.append((wish.id, str(error)))
        edits = [(failure, payload) for failure, payload in made if payload != failure.payload]
        if not refused and not command.arguments.get("check"):
            self._write(edits, relations, command.actor, reason)
        return {
            "edited": [failure.id for failure, _ in edits],
            "same": [failure.id for failure, payload in made if payload == failure.payload],
            "refused": refused,
        }

    def _write(
        self,
        edits: Sequence[tuple[Failure, dict[str, object]]],
        relations: Mapping[str, Relation],
        actor: str,
        reason: str,
    ) -> None:
        with self._sink.begin() as unit:
            for failure, payload in edits:
                compiled = self._compiled(failure, relations.get(failure.table))
                runs = _mapped(failure, payload, compiled)
                lanes = tuple(dict.fromkeys([*failure.lanes, *_key_lanes(runs)]))
                kept = self._privacy.sealed(failure.table, payload)
                unit.queue.edited(failure.id, kept, lanes, actor=actor, reason=reason)

    def _edited(self, failure: Failure, wish: Wish, relation: Relation | None) -> dict[str, object]:
        """The new payload. Raises Refused."""
        compiled = self._compiled(failure, relation)
        values = self._values(failure, wish)
        new = failure.payload.get("new")
        if not isinstance(new, dict):
            raise Refused(f"a {failure.operation} has no values to edit: retry, resync or skip it")
        taken = {name: _taken(compiled, name, value) for name, value in values.items()}
        payload = {**failure.payload, "new": {**new, **taken}}
        _mapped(failure, payload, compiled)
        return payload

    def _meant(self, wish: Wish, known: Mapping[int, Failure]) -> Failure:
        """The change that is meant, its values in clear. Raises Refused."""
        failure = known.get(wish.id)
        if failure is None:
            raise Refused("it is not parked (any longer)")
        try:
            payload = self._privacy.opened(failure.table, failure.payload)
        except DataError as error:
            raise Refused(error.message) from None
        seen = (payload, self._privacy.masked(failure.table, failure.payload))
        if wish.was is not None and wish.was not in map(fingerprint, seen):
            raise Refused("it was edited since: export it again")
        return replace(failure, payload=payload)

    def _values(self, failure: Failure, wish: Wish) -> Values:
        """The values that are to be others, in clear. Raises Refused."""
        table, kept = failure.table, failure.payload
        try:
            if wish.values is None:
                return _changed(failure, self._privacy.returned(table, wish.payload or {}, kept))
            given = {"new": wish.values}
            clear = self._privacy.returned(table, given, kept)["new"]
        except DataError as error:
            raise Refused(error.message) from None
        assert isinstance(clear, dict)
        return clear

    def _compiled(self, failure: Failure, relation: Relation | None) -> CompiledMapping:
        found = [] if relation is None else self._compile(relation)
        for compiled in found:
            if compiled.layout.mapping == failure.mapping:
                return compiled
        raise Refused(f"mapping {failure.mapping} is configured no longer")


def _changed(failure: Failure, payload: Mapping[str, Any] | None) -> Values:
    """The values of a whole payload that are others than those parked. Raises Refused."""
    old_new, given = failure.payload.get("new"), (payload or {}).get("new")
    rest = {name: value for name, value in (payload or {}).items() if name != "new"}
    if rest != {name: value for name, value in failure.payload.items() if name != "new"}:
        raise Refused("only values under payload.new may be edited")
    if given == old_new:
        return {}
    if not isinstance(given, dict) or not isinstance(old_new, dict):
        raise Refused("payload.new must hold columns and values")
    if missing := sorted(set(old_new) - set(given)):
        raise Refused(f"column {missing[0]!r} is missing from payload.new: write null for NULL")
    return {
        name: value
        for name, value in given.items()
        if name not in old_new or value != old_new[name]
    }


def _taken(compiled: CompiledMapping, name: str, value: object) -> str | None:
    """The value as the log would say it. Raises Refused."""
    relation = compiled.relation
    read = columns_of(compiled.config)
    if name not in read:
        known = ", ".join(sorted(read))
        raise Refused(f"column {name!r} is not one that the mapping reads: {known}")
    position = relation.position_of(name)
    if position in relation.identity:
        raise Refused(f"column {name!r} names the source row and cannot be edited")
    if value is None:
        return None
    if not isinstance(value, str):
        raise Refused(f"column {name!r}: write its value as a text, or null for NULL")
    try:
        text = value.encode()
        return source_text(relation.columns[position].type, text).decode()
    except UnicodeEncodeError:
        raise Refused(f"column {name!r}: the text is not valid Unicode") from None
    except DataError as error:
        type_ = relation.columns[position].type
        raise Refused(f"column {name!r} is {type_}: {error.message}") from None


def _mapped(
    failure: Failure, payload: dict[str, object], compiled: CompiledMapping
) -> list[EntityRun]:
    """What the mapping makes of the change with that payload. Raises Refused where it does not
    take it."""
    try:
        batch = batch_of([(failure, payload)], compiled.relation)
        mapped = Mapper(lambda _: [compiled]).map(batch)
        for one in mapped.rejected:
            raise one.error
        for run in mapped.runs:
            for row in run.rows:
                if (error := missing_value(run.layout, row)) is not None:
                    raise error
    except DataError as error:
        raise Refused(f"{error.message} ({error.code})") from None
    return mapped.runs


def _key_lanes(runs: Sequence[EntityRun]) -> Sequence[bytes]:
    """The lanes of the entity keys that rows have, as far as their own values say them."""
    found = []
    for run in runs:
        layout = run.layout
        if {position for position, _ in layout.refs} & set(layout.key):
            continue  # it is resolved when it is applied
        keys = [layout.key_of(row) for row in run.rows]
        whole = [key for key in keys if all(isinstance(value, bytes) for value in key)]
        found += [entity_lane(layout.entity.name, key) for key in whole]
    return found


def _wishes(edits: object) -> list[Wish]:
    """What a command asks for. Raises CdcError for anything else."""
    try:
        found = [_wish(one) for one in edits]  # type: ignore[attr-defined]
    except (TypeError, KeyError, AttributeError) as error:
        raise CdcError("edits must be a list of id, and values or payload") from error
    if len({one.id for one in found}) < len(found):
        raise CdcError("a change is edited twice in one command")
    return found


def _wish(one: Mapping[str, Any]) -> Wish:
    values, payload = one.get("values"), one.get("payload")
    if type(one["id"]) is not int or (values is None) == (payload is None):
        raise TypeError
    return Wish(
        id=one["id"],
        values=None if values is None else dict(values.items()),
        payload=None if payload is None else dict(payload.items()),
        was=one.get("was"),
    )
