"""Which tables and columns are read so that foreign keys can be followed. Pure.

Every table at either end of a key that acts is decoded: mapped ones with the columns of their keys
besides those that are mapped, the others with nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from cdc_daemon.model.cascades import Action, Cascade
from cdc_daemon.model.ports import Table
from cdc_daemon.sources.mysql.catalog import ColumnFacts, Name, TableFacts
from cdc_daemon.sources.mysql.foreign_keys import ForeignKey

_ACTIONS: Final = {"": Action.NONE, "CASCADE": Action.CASCADE, "SET NULL": Action.SET_NULL}
_LIKE: Final = {"varchar": "char", "varbinary": "binary"}
_BY_STORAGE: Final = frozenset({"enum", "set", "decimal", "bit", "time", "datetime", "timestamp"})
"""Compared as they are stored, which is another value in a type that is declared otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """The keys that are followed, and what is read for it.

    ``columns``: by table, those that take part in a key.
    """

    keys: tuple[Cascade, ...] = ()
    columns: Mapping[Name, frozenset[str]] = field(default_factory=dict)

    @property
    def children(self) -> frozenset[Name]:
        """The tables whose rows refer."""
        return frozenset(key.child for key in self.keys)

    def tables(
        self, mapped: Sequence[Table], facts: Mapping[Name, TableFacts]
    ) -> tuple[Table, ...]:
        """What is read: the mapped tables, wider where keys need that, then the others."""
        names = {(table.schema, table.name) for table in mapped}
        found = [
            replace(
                table,
                columns=table.columns | self.columns.get((table.schema, table.name), frozenset()),
            )
            for table in mapped
        ]
        others = sorted(self.columns.keys() - names)
        return (*found, *(self._beside(name, facts.get(name)) for name in others))

    def _beside(self, name: Name, facts: TableFacts | None) -> Table:
        columns = self.columns[name]
        identity = (facts.primary_key if facts else ()) or tuple(sorted(columns))
        return Table(
            schema=name[0],
            name=name[1],
            columns=columns | set(identity),
            identity=identity,
            mapped=False,
        )


def followed(
    keys: Iterable[ForeignKey], facts: Mapping[Name, TableFacts], *, fold: bool
) -> Followed:
    """The keys in the catalogue's spelling of tables and columns.

    ``fold``: whether the server compares names of tables regardless of case.
    """
    known = {_folded(name, fold=fold): name for name in facts}

    def table(name: Name) -> Name:
        return known.get(_folded(name, fold=fold), name)

    found, columns = [], dict[Name, set[str]]()
    for key in keys:
        child, parent = table(key.child), table(key.parent)
        one = Cascade(
            child=child,
            columns=_columns(facts.get(child), key.columns),
            parent=parent,
            parent_columns=_columns(facts.get(parent), key.parent_columns),
            on_delete=_ACTIONS[key.on_delete],
            on_update=_ACTIONS[key.on_update],
            padded=_padded(facts.get(child), key.columns),
        )
        found.append(one)
        columns.setdefault(child, set()).update(one.columns)
        columns.setdefault(parent, set()).update(one.parent_columns)
    return Followed(
        keys=tuple(found), columns={name: frozenset(some) for name, some in columns.items()}
    )


def unlike(keys: Iterable[ForeignKey], facts: Mapping[Name, TableFacts]) -> list[ForeignKey]:
    """Keys that join columns in which one stored value is two texts: labels in another order, a
    point elsewhere. By the text nobody can tell which rows refer to a parent."""
    found = []
    for key in keys:
        ends = zip(
            _facts_of(facts, key.child, key.columns),
            _facts_of(facts, key.parent, key.parent_columns),
            strict=False,
        )
        if not all(_alike(child, parent) for child, parent in ends):
            found.append(key)
    return found


def _facts_of(
    facts: Mapping[Name, TableFacts], table: Name, names: Sequence[str]
) -> list[ColumnFacts]:
    """The columns of a key at one end; none where the table is not seen."""
    known = facts.get(table)
    if known is None:
        return []
    columns = {column.name.lower(): column for column in known.columns}
    return [columns[name.lower()] for name in names if name.lower() in columns]


def _alike(child: ColumnFacts, parent: ColumnFacts) -> bool:
    kinds = [_LIKE.get(one.data_type, one.data_type) for one in (child, parent)]
    if kinds[0] in _BY_STORAGE:
        return child.native == parent.native
    return kinds[0] == kinds[1]


def _folded(name: Name, *, fold: bool) -> Name:
    return (name[0].lower(), name[1].lower()) if fold else name


def _padded(facts: TableFacts | None, names: Sequence[str]) -> frozenset[str]:
    wanted = {name.lower() for name in names}
    columns = facts.columns if facts else ()
    return frozenset(one.name for one in columns if one.name.lower() in wanted and one.padded)


def _columns(facts: TableFacts | None, names: Sequence[str]) -> tuple[str, ...]:
    """Columns as their table spells them: the server compares them regardless of case."""
    known = {column.name.lower(): column.name for column in facts.columns} if facts else {}
    return tuple([known.get(name.lower(), name) for name in names])
